"""What the store asks of a place to keep a run: whole files that appear at once, and one that only one writer makes.

Owns the seam, not how a place keeps what it promises: `local` does for file systems, `objects` for object stores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from modelops_ray.errors import StorageError

MAX_BYTES = 2**30
"""More than the commits or the study of any run take; a document that is larger is another file."""

_PIECE_BYTES = 2**20


class UncertainError(StorageError):
    """Creating a file failed in a way that leaves open whether it will be there; nothing that it names may go."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a finished file holds."""

    size_bytes: int
    sha256: str


class Sink:
    """A file being written: what pyarrow asks of a sink, with the digest of what went through."""

    def __init__(self, drain: Callable[[bytearray], object]) -> None:
        """Hand what is written to `drain`, in order and in large pieces."""
        self.closed = False
        self._drain = drain
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._held = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        """Take all of `data`; pieces are held until they are 1 MiB together."""
        self._held += data
        if len(self._held) >= _PIECE_BYTES:
            self.flush()
        return len(data)

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size_bytes + len(self._held)

    def flush(self) -> None:
        """Hand over what is held."""
        held, self._held = self._held, bytearray()
        self._digest.update(held)
        self._size_bytes += len(held)
        self._drain(held)

    def close(self) -> None:
        """Do nothing: the folder finishes what it writes to."""

    def written(self) -> Written:
        """Say what the file holds."""
        return Written(self._size_bytes, self._digest.hexdigest())


class Folder(Protocol):
    """A folder of whole files; every name is relative to it, `/` between its parts.

    Every method raises StorageError for all that the storage refuses. Only "there is no such file" is an answer.
    """

    def where(self, name: str = "") -> str:
        """How a user would write the folder, or something in it."""

    def inside(self, name: str) -> Folder:
        """Open a folder in this one."""

    def hold(self, *, make: bool = False) -> Folder:
        """Return the same folder bound to the directory that its name leads to now, where a storage can do that.

        Every call goes to that directory, or fails, also after it was moved, removed or made anew. One that is not
        there is made with `make`, and stays unbound without.
        """

    def is_in_place(self) -> bool:
        """Whether the name of a folder that is held still leads to it."""

    @property
    def renames(self) -> bool:
        """Whether a folder can be given another name in one step."""

    def move_aside(self, ending: str, heads: Mapping[str, Hashable], stub: Callable[[], bytes]) -> Folder:
        """Give the whole folder another name: its own with an ending, and a number where that is taken.

        The files `heads`, given with their marks, make it what it is. Where nothing can be renamed it is copied, and
        each of them is exchanged for a `stub`; what else stays means nothing without them. Returns where it is now;
        StorageError if what is there now is not what this folder holds, or a head has not its mark.
        """

    def mark(self, name: str) -> Hashable | None:
        """Tell a file from any other that later has its name; None if there is no such file."""

    def read_marked(self, name: str) -> tuple[bytes, Hashable] | None:
        """Return the content of a file and its mark, None if there is no such file."""

    def exchange(self, name: str, mark: Hashable, data: bytes) -> bool:
        """Write a whole file in place of the one that has this mark; False, and nothing is changed, if it has gone.

        UncertainError if it failed, and may be there all the same, or come to be.
        """

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is no such file."""
        found = self.read_marked(name)
        return None if found is None else found[0]

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Read many files, in order."""
        return map(self.read, names)

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, None if there is no such file."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes in bytes of all files in a folder, by name."""

    def names(self, folder: str = "") -> list[str]:
        """List a folder in order, leftovers of crashed writes excluded; [] if there is none."""

    def leftovers(self, folder: str = "") -> list[str]:
        """List what crashed writes left in a folder."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a whole file so that a reader, or a crash, sees the old content or the new."""

    def write(self, name: str, fill: Callable[[Sink], object]) -> Written:
        """Let `fill` write a whole file, then put it in place durably, over what was there."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a whole file unless its name is taken; of several whose data differ, exactly one is told True.

        UncertainError if it failed, and may be there all the same, or come to be.
        """

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
