"""Printing decides nothing: a study ends as it ended, also where what is said about it cannot be printed."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from support.commands import invoke, write_model, write_study

HOSTILE = '''\
"""A model whose names and messages are not those of a friend."""


def simulate(params, seed):
    if params["β"] > 1:
        raise ValueError("no\\x1b[2J\\x1b]0;owned\\x07 [/red]\\nway \\u202e")
    return {"a.b": {"x[/y]": 1.0, "z[red]": 2.0}}
'''
# As many again, by other ways.
LONG = pytest.mark.long
COMMAND = f"{shlex.quote(sys.executable)} -m modelops_ray"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run of such a model in it, complete, with one failure."""
    folder = tmp_path_factory.mktemp("work")
    write_model(folder, HOSTILE)
    write_study(folder, [{"β": beta, "b[young]": beta} for beta in (0.5, 0.7, 1.5)])
    write_study(folder, [{"β": 0.5}], name="good.json")
    (folder / "none.yaml").write_text("apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {name: Wrong}\nspec: {}\n")
    assert 3 == shell(folder, "run study.json --backend local --out run").returncode
    return folder


def shell(folder, arguments, **environ):
    """Call the program in a shell, with redirections."""
    return subprocess.run(
        ["bash", "-c", f"{COMMAND} {arguments}"],
        capture_output=True, cwd=folder, check=False,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")} | environ,
    )  # fmt: skip


def assert_plain(printed):
    """What was printed holds nothing that a terminal obeys."""
    assert all(byte >= 32 or byte == 10 for byte in printed), printed
    assert b"\xe2\x80\xae" not in printed
    assert b"Traceback" not in printed


@pytest.mark.parametrize(
    ("redirected", "code"),
    [
        pytest.param("run study.json --backend local --out run", 3, marks=LONG),
        ("run study.json --backend local --out run > /dev/full", 3),
        pytest.param("run study.json --backend local --out run > /dev/full 2>&1", 3, marks=LONG),
        pytest.param("run study.json --backend local --out run --json > /dev/full", 3, marks=LONG),
        ("run study.json --backend local --out run >&- 2>&-", 3),
        pytest.param("run study.json --backend local --out run <&- >&-", 3, marks=LONG),
        ("run study.json --backend local --out run 2>&1 | true; exit ${PIPESTATUS[0]}", 3),
        pytest.param("run good.json --backend local --fresh --out new > /dev/full 2>&1", 0, marks=LONG),
        pytest.param("run good.json --backend local --fresh --out new >&- 2>&-", 0, marks=LONG),
        ("status run > /dev/full", 1),
        pytest.param("status run --json >&-", 1, marks=LONG),
        pytest.param("results run > /dev/full", 1, marks=LONG),
        pytest.param("results run --json > /dev/full", 1, marks=LONG),
        ("results run --output 'a.b' | true; exit ${PIPESTATUS[0]}", 0),
        pytest.param("results run --output nothing 2> /dev/full", 2, marks=LONG),
        pytest.param("plan study.json > /dev/full", 1, marks=LONG),
        ("kuberay check none.yaml | true; exit ${PIPESTATUS[0]}", 1),
        ("--version > /dev/full", 0),
        pytest.param("run --help > /dev/full", 0, marks=LONG),
    ],
)
def test_the_exit_code_is_that_of_the_study(home, redirected, code):
    """Of a full disk, a closed stream or a reader that has gone one line tells at most; only who was to print fails."""
    ended = shell(home, redirected)

    assert code == ended.returncode, ended.stderr
    assert_plain(ended.stdout + ended.stderr)
    told = [line for line in ended.stderr.splitlines() if line.startswith(b"modelops-ray: ")]
    assert len(told) == (("/dev/full" in redirected and "2>" not in redirected) or code == 1)


@pytest.mark.parametrize(
    "environ",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"COLUMNS": "1"}],
)
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("run study.json --backend local --out run", 3),
        pytest.param("results run", 0, marks=LONG),
        pytest.param("status run", 0, marks=LONG),
    ],
)
def test_a_terminal_that_knows_few_letters_shows_the_rest_as_escapes(home, environ, command, code):
    """A parameter may be called β."""
    ended = shell(home, command, **environ)

    assert code == ended.returncode, ended.stderr
    assert_plain(ended.stdout + ended.stderr)
    if "COLUMNS" not in environ:
        assert ended.stdout.isascii()
        assert (rb"\u03b2" in ended.stdout) == (command != "status run")


def test_a_progress_file_of_others_is_shown_and_not_obeyed(home):
    """It may say anything, in any type."""
    path = home / "run" / "progress.json"
    before = path.read_text()
    counters = {"completed": 1e308, "failed": -1, "elapsed_seconds": 5e-324, "spilled_bytes": [1], "\x1b": "\x1b"}
    hostile = {"ending": "\x1b[2J\u202e[/red]\nx", "host": "\x07", "counters": counters}
    try:
        for changes in (
            hostile,
            {"ending": None, **hostile},
            {"counters": {"completed": 10**400, "elapsed_seconds": 1}},
        ):
            path.write_text(json.dumps(json.loads(before) | changes))
            for command in (["status"], ["status", "--json"], ["results"]):
                ended = invoke(*command, home / "run")
                assert 0 == ended.exit_code, ended.stderr
                assert_plain((ended.stdout + ended.stderr).encode())
    finally:
        path.write_text(before)
