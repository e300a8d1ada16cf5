"""Files in shared memory: which there are, and which of them no process holds any more."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/dev/shm")


def shared_files() -> set[Path]:
    """All of them; folders there are made by no part of this program, and not by Ray."""
    return {path for path in FOLDER.iterdir() if path.is_file()}


def left_behind(before: AbstractSet[Path]) -> set[Path]:
    """Those that were not there before and that no process has open or mapped: other tests hold what is theirs."""
    new = shared_files() - before
    return new - set(_held()) if new else new


def _held() -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        # It may end meanwhile.
        with suppress(OSError):
            for line in (process / "maps").read_text(errors="replace").splitlines():
                if str(FOLDER) in line:
                    yield Path(line[line.index(str(FOLDER)) :])
            for link in (process / "fd").iterdir():
                with suppress(OSError):
                    yield link.readlink()
