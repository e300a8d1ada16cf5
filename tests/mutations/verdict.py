"""What one input led to, and whether that is what the program promises: a right run, or one line and nothing changed.

Owns every rule. Does not draw inputs, and does not know in which process it is.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from modelops_ray.cli import main
from modelops_ray.study.document import MAX_SIMULATIONS
from tests.mutations.inputs import Input, snapshot
from tests.mutations.valid import Valid
from tests.support.commands import invoke

MOST_SECONDS = 1.0
MOST_BYTES = 300 * 10**6
SETTLED_BYTES = 265 * 10**6
"""What the process has once everything is imported, and a little: what is beyond is given back before an input."""
SECONDS_EACH, BYTES_EACH = 2e-6, 120
"""A study may list ten million simulations, of which each takes that much on top."""
MOST_CHARS = 2100
HANGING_S = 60
Snapshot = Mapping[str, bytes | str]
_DRAFT = re.compile(r"(^|/)\.[^/]*\.(tmp|draft)[^/]*$")


@dataclass(frozen=True, slots=True)
class Seen:
    """How a command ended. `seconds` are those of a CPU, `peak_bytes` the largest memory of the process."""

    exit_code: int
    stdout: str
    stderr: str
    raised: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an outcome, each in a few words; nothing where it is as promised."""

    seen: Seen
    wrong: tuple[str, ...]


def judge(asked: Input, valid: Valid, *, really: bool = False) -> Verdict:
    """Give an input to the program, in this process or `really` by its command line, and look at what it does.

    Leaves the working folder valid.
    """
    for path, change in asked.changes.items():
        change.make(valid.work / path)
    before = snapshot(valid.work)
    try:
        seen = _by_command_line(asked, valid) if really else _in_process(asked)
        after = snapshot(valid.work)
        wrong = wrong_in(asked, seen, before, after, asked_for(valid.work / "study.json"))
    finally:
        valid.restore()
    return Verdict(seen, tuple(wrong))


def wrong_in(asked: Input, seen: Seen, before: Snapshot, after: Snapshot, n_simulations: int) -> list[str]:
    """What is wrong with an outcome, and with what is on disk after it; time and memory only where nothing else is."""
    wrong = [*_of_the_end(asked, seen), *_of_the_folder(asked, seen, before, after)]
    return wrong or _too_much(seen, n_simulations)


def _in_process(asked: Input) -> Seen:
    _give_stdin(asked.stdin)
    _settle()
    start_s = time.process_time()
    result = CliRunner().invoke(main, list(asked.arguments), input=asked.stdin, prog_name="modelops-ray")
    seconds = time.process_time() - start_s
    raised = ""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        frames = traceback.extract_tb(result.exception.__traceback__)
        ours = [frame for frame in frames if "modelops_ray/" in frame.filename] or frames
        raised = f"{type(result.exception).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return Seen(result.exit_code, result.stdout, result.stderr, raised, seconds, peak_bytes())


def _give_stdin(content: bytes) -> None:
    """Have this process read it; click's runner gives it only to who asks `sys.stdin`."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        os.dup2(file.fileno(), 0)


def _settle() -> None:
    """Forget the largest memory so far, and give back what earlier inputs have freed: it is not this one's."""
    if _memory_bytes("VmRSS") > SETTLED_BYTES:
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The largest memory that this process had since that was last asked to be forgotten."""
    return _memory_bytes("VmHWM")


def _memory_bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def _by_command_line(asked: Input, valid: Valid) -> Seen:
    """The time and memory of a process of its own are those of what it imports, and are not counted."""
    command = [sys.executable, "-m", "modelops_ray", *asked.arguments]
    folder = Path(__file__).parents[2]
    environ = os.environ | valid.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=valid.work, env=environ
    )
    try:
        stdout, stderr = process.communicate(asked.stdin, timeout=HANGING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Seen(-9, "", "", f"it did not end within {HANGING_S} s", HANGING_S, 0)
    said = stderr.decode(errors="surrogateescape")
    raised = "a traceback" if "Traceback" in said or "unexpected " in said else ""
    return Seen(process.returncode, stdout.decode(errors="surrogateescape"), said, raised, 0.0, 0)


def _of_the_end(asked: Input, seen: Seen) -> list[str]:
    """What is wrong with the exit code and with what is said."""
    if seen.raised:
        return [f"raised {seen.raised}"]
    if seen.exit_code not in {0, 1, 2, 3}:
        return [f"exit code {seen.exit_code}"]
    if seen.exit_code in {0, 3} or _is_help(asked, seen):
        return []
    lines = seen.stderr.split("\n")
    if len(lines) != 2 or lines[1]:
        return [f"{len(lines) - 1} lines on stderr"]
    wrong = []
    if not lines[0].startswith("modelops-ray: "):
        wrong.append("the line does not begin with modelops-ray")
    if not lines[0].isprintable():
        wrong.append("what is said has control characters")
    if len(lines[0]) > MOST_CHARS:
        wrong.append("the line is too long")
    if not names_the_place(asked, seen):
        wrong.append("the line names no place")
    return wrong


def _is_help(asked: Input, seen: Seen) -> bool:
    """Whether click showed the help of a group, where nothing was given to it."""
    return seen.stderr.startswith("Usage: ") and len(asked.arguments) <= 4


def names_the_place(asked: Input, seen: Seen) -> bool:
    """Whether what is said has a file that was changed, an option or value that was given, or a model."""
    said = seen.stderr.removeprefix("modelops-ray: ") + (seen.stdout if "problem" in seen.stderr else "")
    paths = [part for path in asked.changes for part in (path, path.rpartition("/")[2])]
    words = [word for text in asked.arguments for word in (text, text.partition("=")[0], str(Path(text)))]
    places = [each[:40] for each in [*paths, *words] if len(each) > 1]
    return any(each in said or ascii(each)[1:-1] in said for each in places) or _has_common_place(said)


def _has_common_place(said: str) -> bool:
    return (
        re.search(
            r"/dev/stdin|model|argument|option|command|-: |no --[a-z]|run directory|output|127\.0\.0\.1|Kubernetes",
            said,
        )
        is not None
    )


def _of_the_folder(asked: Input, seen: Seen, before: Snapshot, after: Snapshot) -> Sequence[str]:
    """What is wrong with what is on disk."""
    differing = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    drafts = [path for path in differing if _DRAFT.search(path) and path in after]
    if drafts:
        return [f"left {drafts[0]}"]
    if not differing or seen.raised:
        return []
    if seen.exit_code == 2 or (seen.exit_code == 1 and not _has_begun(differing, after)):
        return [f"refused, and changed {differing[0]}"]
    if seen.exit_code == 1 and (refused := _refused_in(asked, seen)):
        return [f"began, and only then refused {refused}"]
    # A run that was moved aside is as it was, however that is.
    made = [path for path in differing if path.endswith("run.json") and path not in before and ".old-" not in path]
    return [what for path in made for what in _of_the_run(path.rpartition("/")[0])]


def _has_begun(differing: Sequence[str], after: Snapshot) -> bool:
    """Whether a run committed: it may end with an error later, and what is there is kept."""
    return any("/_commits/" in path and path in after for path in differing)


def _refused_in(asked: Input, seen: Seen) -> str:
    """The changed file of a run that an error names: what a session cannot read, it has to find before it begins."""
    return next((path for path in asked.changes if path.startswith(("run/", "split/")) and path in seen.stderr), "")


def _of_the_run(run_dir: str) -> list[str]:
    """Whether what a run left can be read by who comes next."""
    status = invoke("status", run_dir, "--json")
    return [] if status.exit_code == 0 else [f"left a run that cannot be read: {status.stderr}"]


def asked_for(study: Path) -> int:
    """How many simulations a study lists, where it is one: these are what it takes time and memory for."""
    try:
        document = json.loads(study.read_bytes()) if study.is_file() else {}
        n = len(document["parameter_sets"]) * int(document.get("n_replicates", 1))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        return 0
    return n if 0 < n <= MAX_SIMULATIONS else 0


def _too_much(seen: Seen, n_simulations: int) -> list[str]:
    wrong = []
    if seen.seconds > MOST_SECONDS + SECONDS_EACH * n_simulations:
        wrong.append(f"took {seen.seconds:.1f} s")
    if seen.peak_bytes > MOST_BYTES + BYTES_EACH * n_simulations:
        wrong.append(f"took {seen.peak_bytes / 1e6:.0f} MB")
    return wrong
