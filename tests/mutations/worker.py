"""The process that inputs are given to: `python -m tests.mutations.worker` reads one a line, and answers each.

Owns what is imported before the first is counted, and the limit of its memory.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.mutations.drawing import ON_A_RUN, ON_A_STUDY, RUNNING, draw
from tests.mutations.inputs import Input
from tests.mutations.keeping import kept
from tests.mutations.valid import Valid
from tests.mutations.verdict import judge

ROOM_BYTES = 2 * 2**30


def main() -> None:
    """Answer every line until there are no more."""
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with _folder() as valid:
        for arguments in [*ON_A_STUDY, *RUNNING, *ON_A_RUN, ("kuberay", "watch", "x"), ("kuberay", "check", "overlay")]:
            judge(Input(0, "", arguments), valid)
        _limit_memory()
        print(json.dumps("ready"), file=answers, flush=True)
        for line in orders:
            print(json.dumps(_answer(json.loads(line), valid)), file=answers, flush=True)


@contextmanager
def _folder() -> Iterator[Valid]:
    with tempfile.TemporaryDirectory(prefix="mutations-", ignore_cleanup_errors=True) as folder:
        try:
            yield Valid(Path(folder))
        finally:
            os.chdir("/")


def _limit_memory() -> None:
    """Have a hostile file end in an error of this process, and not of the machine."""
    mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes + ROOM_BYTES, hard))


def _answer(order: dict[str, Any], valid: Valid) -> dict[str, Any]:
    """Judge the input of a seed, or one that is given whole; where anything is wrong, the input goes back whole."""
    asked = draw(order["seed"], valid.files) if "seed" in order else Input.from_json(order["input"])
    if order.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if order.get("only_draw"):
        return {"input": asked.to_json()}
    if "keep" in order:
        return {"script": kept(asked, valid, Path(order["keep"]))}
    found = judge(asked, valid, really=order.get("really", False))
    return {
        "kind": asked.kind,
        "exit_code": found.seen.exit_code,
        "seconds": found.seen.seconds,
        "peak_bytes": found.seen.peak_bytes,
        "wrong": found.wrong,
        "stderr": found.seen.stderr[:1000],
        "input": asked.to_json() if found.wrong else None,
    }


if __name__ == "__main__":
    main()
