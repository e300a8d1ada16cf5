"""A process that is ended as it stands says one line; one that ends in order says nothing of its end."""

import subprocess
import sys

import pytest

from modelops_ray.cli.last_words import LINE


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("os._exit(1)", 1, [LINE]),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, [LINE]),
        ("pass", 0, []),
        ("sys.exit(3)", 3, []),
        ("os.killpg(0, signal.SIGINT)", -2, []),
    ],
)
def test_only_who_cannot_speak_is_spoken_for(ending, code, said):
    """Ctrl-C goes to the whole group of processes, and is an orderly end."""
    script = (
        f"import os, signal, sys\nfrom modelops_ray.cli.last_words import last_words\nwith last_words():\n    {ending}"
    )
    # What it says is read to its end, and so until the shell has spoken as well.
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, start_new_session=True, check=False)

    told = [line for line in ended.stderr.splitlines() if line.startswith("modelops-ray: ")]
    assert (code, said) == (ended.returncode, told)
