"""What a simulation adds to the memory of its process at its peak.

Owns reading the kernel's counters of this process and sampling where they cannot be reset.
Does not enforce anything.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .descriptors import high

if TYPE_CHECKING:
    from typing import Self

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc/self")
_RETAINED_BYTES = 8 * 2**20
_ROUNDING_BYTES = 2**20
_SAMPLE_S = 0.005
_STATUS = re.compile(rb"^(VmHWM|RssAnon|RssFile|RssShmem):\s+(\d+) kB", re.MULTILINE)
_ROLLUP = re.compile(rb"^(Pss_Anon|Pss_Shmem|Private_Dirty|Shared_Dirty):\s+(\d+) kB", re.MULTILINE)


class Resident(NamedTuple):
    """Resident memory by kind: what a process made itself, what is of files, and the most of both there ever was.

    Pages of files are the page cache's, which takes them back; most of them are shared by all processes of a model.
    """

    made_bytes: int
    file_bytes: int
    high_bytes: int
    shmem_bytes: int = 0


def resident_parts(pid: int | str = "self") -> Resident:
    """Read the resident memory of a process; nothing once it has ended, and where it is hidden."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123 (of every child, often)
            return _parts(file.read(PAGE_BYTES))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return Resident(0, 0, 0)


def _parts(status: bytes) -> Resident:
    found = {name: int(kib) * 1024 for name, kib in _STATUS.findall(status)}
    made = found.get(b"RssAnon", 0) + found.get(b"RssShmem", 0)
    return Resident(made, found.get(b"RssFile", 0), found.get(b"VmHWM", 0), found.get(b"RssShmem", 0))


class Pages:
    """Follows what one process has made, for a quarter of what reading it in full costs each time.

    `shmem_bytes` is how much of it is shared memory, to a MiB.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.shmem_bytes = self._shared_bytes = self._file_bytes = 0

    def made_bytes(self) -> int:
        """Return its anonymous and shared memory, but not the pages of files; 0 once it has ended, or hidden."""
        try:
            fd = os.open(f"/proc/{self._pid}/statm", os.O_RDONLY)
            try:
                _, resident, shared, *_ = os.read(fd, 256).split()
            finally:
                os.close(fd)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return 0
        resident_bytes, shared_bytes = int(resident) * PAGE_BYTES, int(shared) * PAGE_BYTES
        if abs(shared_bytes - self._shared_bytes) > _ROUNDING_BYTES:
            # Pages of files and shared memory are one number there.
            parts = resident_parts(self._pid)
            self._shared_bytes, self._file_bytes, self.shmem_bytes = shared_bytes, parts.file_bytes, parts.shmem_bytes
        return max(0, resident_bytes - min(self._file_bytes, shared_bytes))


class Rollup(NamedTuple):
    """Dirty memory of a process: what it alone has mapped, and what others have too, with its part of that."""

    private_bytes: int
    shared_bytes: int
    part_bytes: int


def rollup(pid: int | str = "self", proc: Path = Path("/proc")) -> Rollup | None:
    """Read it, for some milliseconds; None where the kernel does not tell, or the process has ended."""
    try:
        text = (proc / str(pid) / "smaps_rollup").read_bytes()
    except OSError:
        return None
    found = {name: int(kib) * 1024 for name, kib in _ROLLUP.findall(text)}
    private_bytes, shared_bytes = found.get(b"Private_Dirty", 0), found.get(b"Shared_Dirty", 0)
    proportional_bytes = found.get(b"Pss_Anon", 0) + found.get(b"Pss_Shmem", 0)
    return Rollup(private_bytes, shared_bytes, min(shared_bytes, max(0, proportional_bytes - private_bytes)))


class Meter(Protocol):
    """Measures one simulation at a time, in the process and thread that made it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self) -> None:
        """Take the baseline of the next simulation."""

    @property
    def before_bytes(self) -> int:
        """What the process had made at the baseline."""

    def peak_bytes(self) -> int:
        """Return how far the process grew above the baseline since `begin`, the most of all readings since then.

        Read it also when the model is done: what is read of files after the peak would be taken from it.
        """

    def grown_bytes(self) -> int:
        """Return how much more of its own the process has now than when the meter was opened."""

    def faulted_bytes(self) -> int:
        """Return at least the size of the pages that were made or copied since `begin`; 0 where that is not known."""


def peak_meter(proc: Path = _PROC) -> Meter:
    """Open a meter: exact where the kernel lets the high-water mark be reset, sampled elsewhere."""
    try:
        return ExactMeter(proc)
    except OSError:
        # clear_refs is missing or refused in some containers; what follows needs nothing but statm.
        return SampledMeter()


class ExactMeter:
    """Resets the high-water mark of resident memory before a simulation and reads it afterwards."""

    def __init__(self, proc: Path = _PROC) -> None:
        """Open the files of this process and reset the mark once.

        Raises:
            OSError: The mark cannot be reset here.
        """
        self._reset = high(os.open(f"{proc}/clear_refs", os.O_WRONLY))
        try:
            os.write(self._reset, b"5")
            self._status = high(os.open(f"{_PROC}/status", os.O_RDONLY))
        except OSError:
            os.close(self._reset)
            raise
        self._resident = _Resident()
        self._opened = self._parts()
        self._shmem_bytes, self._shared_bytes = self._opened.shmem_bytes, self._resident.shared_bytes
        self._is_usage_reset = self._resets_usage()
        self._faults = self._faults_before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        self._before_bytes = self._file_before_bytes = self._peak_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._reset, self._status):
            os.close(fd)
        self._resident.close()

    def begin(self) -> None:
        """Give back what was freed before, take the baseline, and reset the mark."""
        self._before_bytes = self._resident.settled_bytes()
        self._file_before_bytes = self._file_bytes()
        self._peak_bytes = 0
        self._faults_before = self._faults
        os.write(self._reset, b"5")

    @property
    def before_bytes(self) -> int:
        """Anonymous and shared memory at the baseline."""
        return self._before_bytes - self._file_before_bytes

    def peak_bytes(self) -> int:
        """Return the high-water mark less the baseline and what was mapped of files meanwhile."""
        self._resident.bytes()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._faults = usage.ru_minflt
        high_bytes = usage.ru_maxrss * 1024 if self._is_usage_reset else self._parts().high_bytes
        file_bytes = self._file_bytes()
        made_bytes = high_bytes - self._before_bytes - max(0, file_bytes - self._file_before_bytes)
        self._peak_bytes = max(self._peak_bytes, made_bytes)
        return self._peak_bytes

    def faulted_bytes(self) -> int:
        """Return at least the size of the pages that were made or copied from `begin` to the last peak."""
        return (self._faults - self._faults_before) * PAGE_BYTES

    def grown_bytes(self) -> int:
        """Return what was made since the meter was opened and is still there."""
        return self._parts().made_bytes - self._opened.made_bytes

    def _file_bytes(self) -> int:
        """Resident pages of files as of the last look; the number that is cheap has shared memory in it."""
        shared_bytes = self._resident.shared_bytes
        if abs(shared_bytes - self._shared_bytes) > _ROUNDING_BYTES:
            self._shmem_bytes, self._shared_bytes = self._parts().shmem_bytes, shared_bytes
        return shared_bytes - self._shmem_bytes

    def _resets_usage(self) -> bool:
        """Whether getrusage, which takes 1 µs and not 30, follows the mark: in a process that was forked it does.

        After an exec it also remembers the program before: then it says more now than is resident.
        """
        usage_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return usage_bytes <= self._resident.bytes() + _ROUNDING_BYTES

    def _parts(self) -> Resident:
        return _parts(os.pread(self._status, 4096, 0))


class SampledMeter:
    """Looks at resident memory every 5 ms from a thread: a lower bound of the peak."""

    def __init__(self) -> None:
        self._resident = _Resident()
        self._before_bytes = self._peak_bytes = 0
        self._opened_bytes = self._resident.bytes()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._resident.close()

    def begin(self) -> None:
        """Give back what was freed before, and take the baseline."""
        with self._lock:
            self._before_bytes = self._peak_bytes = self._resident.settled_bytes()

    @property
    def before_bytes(self) -> int:
        """Resident memory at the baseline, less what is shared with others or of files."""
        return self._before_bytes - self._resident.shared_bytes

    def peak_bytes(self) -> int:
        """Return the largest sample less the baseline."""
        return max(0, self._peak_bytes - self._before_bytes, self._resident.bytes() - self._before_bytes)

    def grown_bytes(self) -> int:
        """Return what was made since the meter was opened and is still there."""
        return self._resident.bytes() - self._opened_bytes

    def faulted_bytes(self) -> int:
        """Nothing is known of it."""
        return 0

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            with self._lock:
                self._peak_bytes = max(self._peak_bytes, self._resident.bytes())


class _Resident:
    """Resident memory of this process now, from a file kept open: 1 µs."""

    def __init__(self) -> None:
        self._fd = high(os.open(f"{_PROC}/statm", os.O_RDONLY))
        self.shared_bytes = 0
        self._floor_bytes = self.bytes()

    def bytes(self) -> int:
        _, resident, shared, *_ = os.pread(self._fd, 256, 0).split()
        self.shared_bytes = int(shared) * PAGE_BYTES
        return int(resident) * PAGE_BYTES

    def settled_bytes(self) -> int:
        """Give back what was freed, and read the resident bytes; a few MiB are not worth the milliseconds it takes."""
        now_bytes = self.bytes()
        if now_bytes > self._floor_bytes + _RETAINED_BYTES:
            release_memory()
            self._floor_bytes = now_bytes = self.bytes()
        self._floor_bytes = min(self._floor_bytes, now_bytes)
        return now_bytes

    def close(self) -> None:
        os.close(self._fd)


def release_memory() -> None:
    """Collect garbage and hand free heap back to the system, so that it does not hide what comes next."""
    gc.collect()
    if _malloc_trim is not None:
        _malloc_trim(0)


def private_bytes(pid: int | str = "self", proc: Path = Path("/proc")) -> int:
    """Return the memory that only one process has and has written; all resident memory where the kernel does not tell.

    Clean pages are files', which the kernel takes back when memory is short: whose they seem to be changes with that.
    """
    if (found := rollup(pid, proc)) is not None:
        return found.private_bytes
    parts = resident_parts(pid)
    return parts.made_bytes + parts.file_bytes


# Musl has none, and gives memory back by itself.
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
