"""What a simulation uses with all that it starts: counted as the kernel does, held to its limit, ended with it."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from pathlib import Path

import pytest
from support.models import context_of_file, write
from support.short_folder import short_folder

from modelops_ray.core.report import Cause
from modelops_ray.runner.chunk import run_chunk
from modelops_ray.sandbox.family import Family, ServerMemory
from modelops_ray.sandbox.processes import process
from modelops_ray.study.chunk import Chunk, Simulation

MIB = 2**20
SHM, SYSTEM_V = Path("/dev/shm"), Path("/proc/sysvipc/shm")
HEAD = """
import mmap, multiprocessing, os, subprocess, sys, time
import numpy as np
MIB = 2**20
FORK = multiprocessing.get_context("fork")
def result(seed, **more): return {"r": {"seed": seed, **more}}
def hold(mib, seconds=0.8):
    held = np.ones(mib * MIB // 8)
    time.sleep(seconds)
def all_of(*processes):
    for one in processes: one.start()
    for one in processes: one.join()
"""


@pytest.fixture(scope="module", autouse=True)
def short_temporary_folder(tmp_path_factory):
    """Servers have one for all tests, and end soon; nothing of theirs stays in shared memory."""
    tmp_path_factory.getbasetemp()
    with short_folder(idle_s=0.5):
        yield


@pytest.fixture
def run(tmp_path):
    """Run simulations of a model given as source, each in a child of its own, under a hard limit.

    Where there are several bodies, each simulation has another one.
    """

    def run(*bodies, before="", n=1, limit=400, isolation="fork", width=2):
        source = "".join(
            f"def do_{i}(params, seed):\n{textwrap.indent(body, '    ')}\n    return result(seed)\n"
            for i, body in enumerate(bodies)
        )
        source += "def simulate(params, seed): return globals()[f\"do_{int(params['n'])}\"](params, seed)\n"
        simulations = tuple(
            Simulation(i, i, {"beta": 0.5, "n": i % len(bodies)}, f"{i:064x}", 0, 1000 + i)
            for i in range(n * len(bodies))
        )
        chunk = Chunk(1, simulations, (1,) * len(simulations), 500 * MIB, limit * MIB, width=width)
        model = write(tmp_path / f"model_{time.monotonic_ns()}.py", HEAD + before + source)
        report, payload = run_chunk(
            context_of_file(model, isolation=isolation, is_hard=True, per_child=1, target_s=600.0), chunk
        )
        return report, [row for output in payload.outputs.get("r", ()) for row in output.table.to_pylist()]

    return run


def until(is_so, patience_s=20.0):
    """Wait until something is so."""
    deadline_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def peaks_mib(report):
    """The peaks of simulations which all completed, in order."""
    assert () == report.failures
    return [done.peak_bytes / MIB for done in sorted(report.completed)]


EATING = 'subprocess.run([sys.executable, "-c", "import time; held = b\'x\' * (80 * 2**20); time.sleep(0.3)"])'
STARTING = {
    "a program": EATING,
    "a program of a program": EATING.replace("([", "(['sh', '-c', '\"$@\"; true', 'sh', "),
    "a program in a session of its own": EATING.replace("])", "], start_new_session=True)"),
    "a forked worker": "all_of(FORK.Process(target=hold, args=(80,)))",
    "two forked workers": "all_of(*[FORK.Process(target=hold, args=(40,)) for _ in range(2)])",
    "itself and a worker": "held = np.ones(40 * MIB // 8); all_of(FORK.Process(target=hold, args=(40,)))",
}


@pytest.mark.alone
@pytest.mark.parametrize("isolation", ["fork", "reuse", "none"])
def test_the_peak_of_what_a_simulation_starts_is_the_simulations(run, isolation):
    """Or every later study would start as wrong as the first: 80 MiB, in whichever process."""
    report, _ = run(*STARTING.values(), isolation=isolation)
    odd = {form: peak for form, peak in zip(STARTING, peaks_mib(report), strict=True) if not 75 <= peak <= 125}
    assert {} == odd


@pytest.mark.alone
def test_what_forks_made_before_the_first_look_at_them_is_known_without_an_exact_one():
    """An exact look at gigabytes takes longer than a short simulation lives; what one made is no other's share."""
    ready, made = os.pipe()
    pids = []
    for _ in range(2):
        pids.append(os.fork())
        if not pids[-1]:
            held = bytes(range(256)) * (40 * MIB // 256)
            os.write(made, held[:1])
            time.sleep(60)
    try:
        for _ in pids:
            os.read(ready, 1)
        family = Family(os.getpid(), process(os.getpid()), 0, ServerMemory(pid=0))
        before_bytes = family.roughly_bytes()
        for pid in pids:
            family.take_in(process(pid))
        assert 80 * MIB == pytest.approx(family.roughly_bytes() - before_bytes, rel=0.1)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(ready)
        os.close(made)


SHARED = {
    "anonymous": "shared = mmap.mmap(-1, 60 * MIB); np.frombuffer(shared, np.uint8)[:] = 1",
    "named": "shared = SharedMemory(create=True, size=60 * MIB); shared.buf[:] = bytes(60 * MIB)",
    "a memory file, mapped": "fd = os.memfd_create('m'); os.ftruncate(fd, 60 * MIB); shared = mmap.mmap(fd, 0)\n"
    "shared[:] = bytes(60 * MIB)",
    "a memory file": "fd = os.memfd_create('m'); os.write(fd, bytes(60 * MIB)); time.sleep(0.5)",
    "a file in /dev/shm": "file = open(f'/dev/shm/mr-test-{os.getpid()}', 'wb'); file.write(bytes(60 * MIB))\n"
    "file.flush(); time.sleep(0.5)",
    "a deleted file in /dev/shm": "file = open(f'/dev/shm/mr-test-{os.getpid()}', 'wb'); os.unlink(file.name)\n"
    "file.write(bytes(60 * MIB)); file.flush(); time.sleep(0.5)",
    "read by four": "shared = np.frombuffer(mmap.mmap(-1, 60 * MIB), np.uint8); shared[:] = 1\n"
    "all_of(*[FORK.Process(target=lambda: (shared.sum(), time.sleep(0.4))) for _ in range(4)])",
    "a segment of System V": "number = libc.shmget(0, 60 * MIB, 0o1600); at = libc.shmat(number, None, 0)\n"
    "ctypes.memset(at, 1, 60 * MIB); libc.shmdt(ctypes.c_void_p(at)); time.sleep(0.5)",
}
SHARING = """
import ctypes
from multiprocessing.shared_memory import SharedMemory
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
LEFT = []
"""


@pytest.mark.alone
def test_shared_memory_counts_once_also_where_it_is_there_at_the_end_or_mapped_by_no_process(run):
    """It is held by the kernel all the same, and removed when it is left."""
    segments = SYSTEM_V.read_text()
    bodies = [f"{body}\nLEFT.append(locals())" for body in SHARED.values()]
    report, _ = run(*bodies, before=SHARING, limit=150)
    odd = {form: peak for form, peak in zip(SHARED, peaks_mib(report), strict=True) if not 55 <= peak <= 140}
    assert {} == odd
    until(lambda: segments == SYSTEM_V.read_text())


REWRITING = """
OURS = np.ones(60 * MIB // 8)
def rewrite(made):
    made += 1
    time.sleep(2)  # the three are there at the same time, on a busy machine as well
"""
REWRITTEN = {
    "the simulation's": (
        "made = np.ones(60 * MIB // 8); all_of(*[FORK.Process(target=rewrite, args=(made,)) for _ in range(3)])",
        240,
    ),
    "the import's": ("all_of(*[FORK.Process(target=rewrite, args=(OURS,)) for _ in range(3)])", 180),
    "the import's, by the simulation": ("rewrite(OURS)", 60),
    "only read": ("all_of(*[FORK.Process(target=lambda: (OURS.sum(), time.sleep(0.5))) for _ in range(3)])", 0),
}


@pytest.mark.alone
def test_what_is_written_to_of_what_is_shared_is_there_twice(run):
    """A page that is written to is copied; one that is only read is not."""
    report, _ = run(*[body for body, _ in REWRITTEN.values()], before=REWRITING, width=1)
    peaks = dict(zip(REWRITTEN, peaks_mib(report), strict=True))
    # A process copies some pages of the interpreter in any case, and of those of a child 32 MiB do not count.
    assert {} == {form: peak for form, peak in peaks.items() if not -35 <= peak - REWRITTEN[form][1] <= 60}


def test_what_is_copied_or_in_shared_memory_is_held_to_the_limit(run):
    """Although the memory of no process grows by it: each of these is killed for it."""
    over = [body for body, _ in list(REWRITTEN.values())[:2]]
    over.append("fd = os.memfd_create('m'); os.write(fd, bytes(150 * MIB)); time.sleep(9)")
    report, _ = run(*over, before=REWRITING, limit=120, width=1)
    told = [(one.cause, one.is_victim, "over its limit of" in one.message) for one in report.failures]
    assert () == report.completed
    assert [(Cause.OUT_OF_MEMORY, False, True)] * 3 == told


def test_what_a_simulation_copies_of_the_imports_is_held_to_the_limit(run):
    """Where that is less than there is to copy."""
    report, _ = run("OURS[:] = 2; time.sleep(0.5)", before="OURS = np.ones(120 * MIB // 8)\n", limit=50)
    assert [Cause.OUT_OF_MEMORY] == [one.cause for one in report.failures]


LEAVING = [
    "block = SharedMemory(create=True, size=MIB); tell(block.name)",
    """
name = f'/mr-{os.getpid()}'; _multiprocessing.SemLock(1, 1, 1, name, False)
resource_tracker.register(name, 'semaphore'); tell(f"sem.{name[1:]}")
""",
    """
file = open(f'/dev/shm/mr-test-{os.getpid()}', 'wb'); file.write(bytes(9 * MIB)); file.flush(); time.sleep(0.3)
tell(os.path.basename(file.name))
""",
]


def test_nothing_that_simulations_made_is_left_in_shared_memory_however_they_end(run, tmp_path):
    """What others have there is not touched."""
    told = tmp_path / "told"
    ours = SHM / f"mr-ours-{os.getpid()}"
    ours.write_bytes(b"ours")
    bodies = [f"{body}\n{end}" for body in LEAVING for end in ("", "os._exit(3)", "os.kill(os.getpid(), 9)")]
    needed = "import _multiprocessing\nfrom multiprocessing import resource_tracker\n"
    needed += f"def tell(name):\n    with open({str(told)!r}, 'a') as file: print(name, file=file)\n"
    try:
        run(*bodies, before=SHARING + needed)
        names = told.read_text().split()
        assert len(bodies) == len(set(names))
        until(lambda: not [name for name in names if (SHM / name).exists()])
        assert b"ours" == ours.read_bytes()
    finally:
        ours.unlink()


@pytest.mark.parametrize("isolation", ["fork", "reuse"])
def test_a_block_of_the_imports_or_of_others_that_simulations_attach_to_stays(run, isolation):
    """In Python, a process that attaches to a block removes it; the import's is removed with the server."""
    ours = SHM / f"mr-ours-{os.getpid()}"
    ours.write_bytes(b"ours" * 1024)
    making = "if os.getenv('PYTHONHASHSEED') == '0':\n    BLOCK = SharedMemory(create=True, size=1000)\n"
    reading = f"mine, other = SharedMemory(BLOCK.name), SharedMemory({ours.name!r})\n"
    reading += "return result(seed, name=mine.name, read=bytes([*mine.buf[:4], *other.buf[:4]]).decode())"
    try:
        report, rows = run(reading, before=f"{SHARING}{making}    BLOCK.buf[:4] = b'made'\n", n=3, isolation=isolation)
        assert ["madeours"] * 3 == [row["read"] for row in rows], report.failures
        until(lambda: not [row for row in rows if (SHM / row["name"]).exists()])
        assert ours.exists()
    finally:
        ours.unlink(missing_ok=True)


DAEMONS = [
    "subprocess.run(['sh', '-c', f'setsid sh -c \"sleep 0.9; echo done > {path}; sleep 978\" & :'])",
    """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(3, 100)
        held = np.ones(40 * MIB // 8)
        time.sleep(0.9)
        open(path, "w").write("done")
        time.sleep(978)
    os._exit(0)
os.wait()
""",
]
WAITING = """
path = f"{FOLDER}/{seed}"
DAEMON
deadline_s = time.monotonic() + 5
while not os.path.exists(path) and time.monotonic() < deadline_s: time.sleep(0.02)
return result(seed, said=os.path.exists(path))
"""


def test_a_helper_that_left_for_a_session_of_its_own_lives_as_long_as_its_simulation(run, tmp_path):
    """It is counted with it and ended with it, although its parent is another process."""
    bodies = [WAITING.replace("DAEMON", daemon) for daemon in DAEMONS]
    report, rows = run(*bodies, before=f"FOLDER = {str(tmp_path)!r}\n")
    assert [True, True] == [row["said"] for row in rows], report.failures
    assert 35 <= peaks_mib(report)[1] <= 90
    until(lambda: not [pid for pid in Path("/proc").glob("[0-9]*") if _sleeps(pid)])


def _sleeps(pid):
    try:
        return (pid / "cmdline").read_bytes().startswith(b"sleep\x00978")
    except OSError:
        return False
