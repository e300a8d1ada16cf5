"""Models whose import, or whose simulations, do odd things to their process, and what they are to return all the same.

Each is given by its source and the value `x` of every simulation, at every level of isolation. A model may use
`HERE`, a folder of its own, in which the files of `FILES` lie.
"""

from __future__ import annotations

import random
import sqlite3
import textwrap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LINES = "".join(f"{line:07d}\n" for line in range(1000))
PREAMBLE = "import os, sys, time\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"
ENDING = "def simulate(params, seed):\n    return {'r': {'seed': seed, 'x': x(seed)}}\n"


@dataclass(frozen=True)
class OddModel:
    """What an import does, the body of `x(seed)`, and what that returns; `is_forked` unless it must not be."""

    name: str
    importing: str
    body: str
    expected: object
    is_forked: bool = True

    def source(self) -> str:
        """The model as Python source."""
        body = textwrap.indent(textwrap.dedent(self.body).strip(), "    ")
        return f"{PREAMBLE}{textwrap.dedent(self.importing)}\ndef x(seed):\n{body}\n{ENDING}"

    def write(self, folder: Path) -> Path:
        """Write it, and the files that it reads, into a new folder."""
        folder.mkdir()
        (folder / "lines.txt").write_text(LINES)
        (folder / "districts.csv").write_bytes(b"\xef\xbb\xbfKailahun\nBo\n")
        (folder / "latin.csv").write_bytes(b"S\xe3o Tom\xe9\n")
        np.savez(folder / "contacts.npz", m=np.arange(10_000, dtype=float))
        with sqlite3.connect(folder / "pop.sqlite") as database:
            database.execute("create table pop (k, n)")
            database.execute("insert into pop values (1, 42)")
        database.close()
        with zipfile.ZipFile(folder / "lines.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("lines.txt", LINES)
        path = folder / "model.py"
        path.write_text(self.source())
        return path

    def rows(self, seeds: list[int]) -> dict[int, object]:
        """What every simulation is to return, by seed."""
        return {seed: self.expected(seed) if isinstance(self.expected, Callable) else self.expected for seed in seeds}


HALVES = """
FILE.seek(0)
first = FILE.read(4000)
time.sleep(0.03 * (seed % 3))
second = FILE.read(4000)
return len(set((first + second).split()))
"""
FREEZE = """
import time as _time
REAL = (time.time, time.monotonic, time.perf_counter)
def frozen(): return 0.0
for module in list(sys.modules.values()):
    for name, value in list(getattr(module, "__dict__", {}).items()):
        if any(value is real for real in REAL):
            setattr(module, name, frozen)
"""

DESCRIPTORS = (
    OddModel("text file", "FILE = open(HERE / 'lines.txt')", HALVES, 1000),
    OddModel("binary file without a buffer", "FILE = open(HERE / 'lines.txt', 'rb', buffering=0)", HALVES, 1000),
    OddModel("file that was removed", """
        (HERE / 'gone.txt').write_text((HERE / 'lines.txt').read_text())
        FILE = open(HERE / 'gone.txt')
        os.remove(HERE / 'gone.txt')
        """, HALVES, 1000),
    OddModel("file that was read in part", "FILE = open(HERE / 'lines.txt')\nHEAD = FILE.read(16)", """
        at = FILE.tell()
        rest = FILE.read()
        FILE.seek(at)
        return len((HEAD + rest).split())
        """, 1000),
    OddModel("scratch file", "import tempfile\nFILE = tempfile.TemporaryFile('w+')", """
        FILE.seek(0)
        FILE.truncate()
        FILE.write(str(seed))
        FILE.flush()
        time.sleep(0.1)
        FILE.seek(0)
        return int(FILE.read())
        """, lambda seed: seed),
    OddModel("memfd", "FD = os.memfd_create('m')\nos.write(FD, b'abc')", """
        os.pwrite(FD, str(seed).encode(), 3)
        time.sleep(0.1)
        return os.pread(FD, 99, 0).decode()
        """, lambda seed: f"abc{seed}"),
    OddModel("two numbers of one open file", "A = os.open(HERE / 'lines.txt', os.O_RDONLY)\nB = os.dup(A)", """
        os.lseek(A, 8 * 5, 0)
        time.sleep(0.03 * (seed % 3))
        return int(os.read(B, 7))
        """, 5),
    OddModel("one file opened twice", "A = open(HERE / 'lines.txt')\nB = open(HERE / 'lines.txt')", """
        A.seek(0); B.seek(0)
        return (A.read(8000) == B.read(8000)) and A.tell()
        """, 8000),
    OddModel("number that was chosen", "os.dup2(os.open(HERE / 'lines.txt', os.O_RDONLY), 900)", """
        os.lseek(900, 16, 0)
        time.sleep(0.03 * (seed % 3))
        return int(os.read(900, 7))
        """, 2),
    OddModel("SQLite", "import sqlite3\nDB = sqlite3.connect(HERE / 'pop.sqlite')", """
        return DB.execute("select n from pop where k = 1").fetchone()[0] + seed
        """, lambda seed: 42 + seed),
    OddModel("SQLite with a journal ahead of it", """
        import sqlite3
        DB = sqlite3.connect(HERE / 'pop.sqlite', timeout=20)
        DB.execute("pragma journal_mode=wal")
        DB.execute("select * from pop").fetchall()
        """, """
        return DB.execute("select n from pop where k = 1").fetchone()[0] + seed
        """, lambda seed: 42 + seed),
    OddModel("arrays in a zip file", "import numpy as np\nNPZ = np.load(HERE / 'contacts.npz')", """
        return float(NPZ["m"].sum())
        """, 49995000.0),
    OddModel("member of a zip file", "import zipfile\nZIP = zipfile.ZipFile(HERE / 'lines.zip')", """
        return len(ZIP.read("lines.txt").split())
        """, 1000),
    OddModel("mapped file", """
        import mmap
        FILE = open(HERE / 'lines.txt', 'rb')
        MAP = mmap.mmap(FILE.fileno(), 0, access=mmap.ACCESS_READ)
        """, "return int(MAP[80:87]) + MAP.size()", 8010),
    OddModel("folder", "FD = os.open(HERE, os.O_RDONLY | os.O_DIRECTORY)", """
        at = os.open("lines.txt", os.O_RDONLY, dir_fd=FD)
        found = int(os.pread(at, 7, 24))
        os.close(at)
        return found + ("lines.txt" in os.listdir(FD))
        """, 4),
    OddModel("devices", "NULL = open(os.devnull, 'w')\nRANDOM = open('/dev/urandom', 'rb', buffering=0)", """
        return NULL.write("x") + len(RANDOM.read(8))
        """, 9),
    OddModel("lock", """
        import fcntl
        LOCK = open(HERE / 'lock', 'a+') if os.environ.get('PYTHONHASHSEED') == '0' else None
        """, "return seed", lambda seed: seed),
    OddModel("pipe to itself", "R, W = os.pipe()", """
        os.write(W, str(seed).encode())
        time.sleep(0.1)
        return int(os.read(R, 99))
        """, lambda seed: seed, is_forked=False),
    OddModel("pair of sockets", "import socket\nA, B = socket.socketpair()", """
        A.sendall(str(seed).encode())
        time.sleep(0.1)
        return int(B.recv(99))
        """, lambda seed: seed, is_forked=False),
    OddModel("program that answers on a pipe", """
        import subprocess
        BC = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        """, """
        BC.stdin.write(b"%d\\n" % seed)
        time.sleep(0.1)
        return int(BC.stdout.readline())
        """, lambda seed: seed, is_forked=False),
    OddModel("event loop", "import asyncio\nLOOP = asyncio.new_event_loop()", """
        async def later():
            await asyncio.sleep(0.01)
            return seed
        return LOOP.run_until_complete(later())
        """, lambda seed: seed, is_forked=False),
    OddModel("shared memory", "import mmap\nMAP = mmap.mmap(-1, 100)", """
        MAP[:4] = str(seed).encode()
        time.sleep(0.1)
        return int(MAP[:4])
        """, lambda seed: seed, is_forked=False),
    OddModel("everything closed by the import of a server", """
        if os.environ.get("PYTHONHASHSEED") == "0" and "_modelops_ray.sandbox.forkserver" in sys.modules:
            os.closerange(0, 4096)
        """, "return seed", lambda seed: seed),
    OddModel("small numbers closed in a simulation", "", """
        os.closerange(3, 64)
        return seed
        """, lambda seed: seed),
)  # fmt: skip

FORKED = "pid = os.fork()\nif pid == 0: {}\nreturn os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
FORKS = (
    OddModel("process that it forks and that raises", "", FORKED.format("raise ValueError('of the child')"), 1),
    OddModel("process that it forks and that leaves with a code", "", FORKED.format("sys.exit(3)"), 3),
    OddModel("process that it forks and that leaves without one", "", FORKED.format("sys.exit()"), 0),
    OddModel("process that it forks and that leaves with words", "", FORKED.format("sys.exit('done')"), 1),
    OddModel("import that forks and raises there", "if os.fork() == 0: raise ValueError('of the fork')",
             "return seed", lambda seed: seed),
    OddModel("functions of Python that a simulation replaced", "", """
        import builtins
        def gone(*_): raise RuntimeError("replaced")
        for name in "len isinstance sorted min max sum any map zip getattr repr iter open print".split():
            setattr(builtins, name, gone)
        return seed
        """, lambda seed: seed),
    OddModel("timer of faulthandler", "import faulthandler\nfaulthandler.dump_traceback_later(0.3, exit=True)",
             "time.sleep(0.2)\nreturn seed", lambda seed: seed, is_forked=True),
    OddModel("generator of random numbers of its import", "import random\nRNG = random.Random()", "return RNG.random()",
             lambda seed: random.Random(seed << 32 | 1).random()),
)  # fmt: skip

STATE = (
    OddModel("children ignored", "import signal, subprocess\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)", """
        return subprocess.run(["sh", "-c", "exit 3"]).returncode
        """, 0),
    OddModel("signals held back", """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1])
        """, "return signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])", True),
    OddModel("handlers", """
        import signal
        SEEN = []
        signal.signal(signal.SIGUSR1, lambda *_: SEEN.append(1))
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        """, """
        SEEN.clear()
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0)
        return f"{len(SEEN)} {signal.getsignal(signal.SIGPIPE)!r}"
        """, "1 <Handlers.SIG_DFL: 0>"),
    OddModel("alarm", "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.4)", """
        time.sleep(0.5)
        return signal.getitimer(signal.ITIMER_REAL)[0]
        """, 0.0),
    OddModel("time limit of sockets", "import socket\nsocket.setdefaulttimeout(0.02)", """
        time.sleep(0.1)
        return socket.getdefaulttimeout()
        """, 0.02),
    OddModel("umask", "os.umask(0o777)", """
        path = HERE / f"made {seed} {os.getpid()}"
        path.touch()
        return oct(path.stat().st_mode & 0o777)
        """, "0o0"),
    OddModel("few frames", "sys.setrecursionlimit(150)", """
        def deep(n):
            return n if n == 120 else deep(n + 1)
        def how_deep(n):
            try:
                return how_deep(n + 1)
            except RecursionError:
                return n
        return deep(0) + how_deep(0) // 50
        """, 122),
    OddModel("clocks that stand still", "time.perf_counter = time.monotonic = time.time = lambda: 0.0", """
        return time.perf_counter() + time.monotonic() + time.time()
        """, 0.0),
    OddModel("clocks that go wrong", """
        time.perf_counter, time.monotonic = lambda: float('nan'), lambda: -1e300
        """, "return time.monotonic()", -1e300),
    OddModel("time frozen in every module", FREEZE, "return time.time() + time.monotonic()", 0.0),
    OddModel("clocks that a simulation stops", "", """
        time.perf_counter = time.monotonic = lambda: float('-inf')
        return time.monotonic()
        """, float("-inf")),
    OddModel("ways out that a simulation closes", "", """
        os._exit = os.getpid = os.kill = json = None
        import json, pickle
        json.dumps = json.loads = pickle.dumps = None
        return seed
        """, lambda seed: seed),
    OddModel("functions replaced", """
        import builtins
        def gone(*args, **kwargs): raise RuntimeError("gone")
        KEPT = open
        for name in ("open", "print", "sorted", "sum", "zip", "next", "filter", "enumerate", "super"):
            setattr(builtins, name, gone)
        """, """
        try:
            open(HERE / "lines.txt")
        except RuntimeError as error:
            return str(error)
        """, "gone"),
    OddModel("modules taken apart", """
        import json, pickle, random, struct, socket, selectors, shutil, signal, gc, resource, tempfile
        def gone(*args, **kwargs): raise RuntimeError("gone")
        for module, names in ((json, "dumps loads JSONEncoder"), (pickle, "dumps loads"), (random, "seed random"),
                              (struct, "pack Struct unpack"), (socket, "socket socketpair"), (shutil, "rmtree"),
                              (selectors, "DefaultSelector"), (os, "fork listdir read write waitpid open chdir"),
                              (signal, "signal getsignal"), (gc, "collect freeze"), (resource, "setrlimit"),
                              (sys, "setrecursionlimit")):
            for name in names.split():
                setattr(module, name, gone)
        """, """
        try:
            json.dumps({})
        except RuntimeError as error:
            return str(error)
        """, "gone"),
    OddModel("names taken away", "import json\ndel json.dumps, os.listdir, time.monotonic", """
        return hasattr(json, "dumps") or hasattr(os, "listdir")
        """, False),
    OddModel("import replaced", """
        import builtins
        REAL, SEEN = builtins.__import__, []
        def importing(name, *args, **kwargs):
            SEEN.append(name)
            return REAL(name, *args, **kwargs)
        builtins.__import__ = importing
        """, """
        SEEN.clear()
        import colorsys
        return SEEN[0]
        """, "colorsys"),
    OddModel("import called in its ways", """
        __import__("os.path", fromlist=["join"], level=0)
        __import__(name="json", globals=None, locals=None, fromlist=None)
        __import__("json", {}, {}, (), 0)
        NAMES = (HERE / "districts.csv").read_text(encoding="utf-8-sig").split()
        LATIN = (HERE / "latin.csv").read_text(encoding="latin-1")
        """, "return NAMES[0] + LATIN.strip()", "KailahunSão Tomé"),
    OddModel("streams replaced", """
        class Broken:
            def write(self, text): raise RuntimeError("broken")
            def flush(self): raise RuntimeError("broken")
        sys.stdout = sys.__stdout__ = Broken()
        sys.stderr = sys.__stderr__ = None
        """, """
        try:
            print("x")
        except RuntimeError as error:
            return str(error)
        """, "broken"),
    OddModel("streams closed", "sys.stderr.close()\nsys.__stdout__.close()", """
        print("said", file=sys.stderr, flush=True)
        return sys.stdout.closed or sys.stderr.closed
        """, False),
    OddModel("standard descriptors closed", "os.close(1)\nos.close(2)\nos.close(0)", "return seed", lambda seed: seed),
    OddModel("standard output sent to a file", """
        LOG = os.open(HERE / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(LOG, 1)
        """, """
        os.write(1, b"said\\n")
        return os.path.samestat(os.fstat(1), os.stat(HERE / "log"))
        """, True),
    OddModel("warnings as errors", "import warnings\nwarnings.simplefilter('error')", """
        try:
            warnings.warn("x")
        except UserWarning:
            return "raised"
        """, "raised"),
    OddModel("no collector", "import gc\ngc.disable()\ngc.set_threshold(7, 8, 9)", """
        return f"{gc.isenabled()} {gc.get_threshold()}"
        """, "False (7, 8, 9)"),
    OddModel("tracers", """
        CALLS = []
        sys.setprofile(lambda frame, event, arg: CALLS.append(frame.f_code.co_name))
        sys.settrace(lambda frame, event, arg: CALLS.append(frame.f_code.co_name))
        """, """
        CALLS.clear()
        (lambda: 0)()
        return CALLS.count("<lambda>") > 0 and "begin" not in CALLS
        """, True),
    OddModel("decimals", """
        import decimal
        decimal.getcontext().prec = 3
        decimal.getcontext().traps[decimal.FloatOperation] = True
        """, "return str(decimal.Decimal(1) / 3)", "0.333"),
    OddModel("errors of NumPy", "import numpy as np\nnp.seterr(all='raise')", """
        try:
            np.float64(1) / np.float64(0)
        except FloatingPointError:
            return "raised"
        """, "raised"),
    OddModel("environment", """
        os.environ.clear()
        os.environ.update(WHERE="here", TMPDIR="/nowhere")
        """, """
        return f"{os.environ.get('WHERE')} {os.environ.get('TMPDIR')} {os.environ.get('PATH')}"
        """, "here /nowhere None"),
    OddModel("folder for temporary files", "import tempfile\ntempfile.tempdir = str(HERE)", """
        return Path(tempfile.gettempdir()).name
        """, "folder_for_temporary_files"),
    OddModel("working folder", "os.chdir('/')", "return os.path.samefile('etc', '/etc')", True),
    OddModel("search path emptied", "sys.path.clear()", "return seed", lambda seed: seed),
    OddModel("search path replaced", "sys.path = ('/nowhere',)", "return seed", lambda seed: seed),
    OddModel("interpreter changed in a simulation", "", """
        sys.setrecursionlimit(90)
        sys.settrace(lambda *args: None)
        return seed
        """, lambda seed: seed),
    OddModel("limits", """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (90, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        """, "return resource.getrlimit(resource.RLIMIT_NOFILE)[0]", 90),
    OddModel("one CPU", "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", """
        return len(os.sched_getaffinity(0))
        """, 1),
)  # fmt: skip

ODD_MODELS = (*DESCRIPTORS, *STATE, *FORKS)
# What unit tests show, too; forks of these are for the long run.
SHOWN_ELSEWHERE = frozenset(
    {
        "binary file without a buffer",
        "file that was read in part",
        "two numbers of one open file",
        "one file opened twice",
        "number that was chosen",
        "arrays in a zip file",
        "member of a zip file",
        "mapped file",
        "folder",
        "devices",
        "lock",
        "pair of sockets",
        "program that answers on a pipe",
        "memfd",
        "handlers",
        "signals held back",
        "clocks that go wrong",
        "names taken away",
        "no collector",
        "decimals",
        "errors of NumPy",
        "working folder",
        "search path replaced",
        "one CPU",
        "folder for temporary files",
        "warnings as errors",
        "tracers",
        "standard descriptors closed",
        "interpreter changed in a simulation",
    }
)
