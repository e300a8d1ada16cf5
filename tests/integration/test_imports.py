"""What a model does while it is imported, and what of that reaches the process that only wants to know of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import enter, run_locally, summary_of, write_model, write_study
from support.models import chunk_of, context_of

from modelops_ray.errors import ModelError
from modelops_ray.model.inspection import Look, measured
from modelops_ray.model.resolve import find_model, resolve_model
from modelops_ray.runner.chunk import run_chunk
from modelops_ray.sandbox.processes import process

SIMULATE = "\n\ndef simulate(params, seed):\n    return {'r': {'x': params['beta'] * seed}}\n"
FORK_AND_STAY = "import os, time\nif os.fork() == 0:\n    time.sleep(600)\n"

HARMLESS = {
    "prints through a shell": "import os\nos.system('echo from-git-1.2.3')",
    "prints to a kept stream": "import sys\nprint('hello', file=sys.__stdout__, flush=True)",
    "writes to descriptor 1": "import os\nos.write(1, b'{}\\n')",
    "prints at exit": "import atexit, os\natexit.register(os.system, 'echo goodbye')",
    "replaces stderr": "import sys, io\nsys.stderr = sys.__stderr__ = io.StringIO()",
    "replaces stdout by nothing": "import sys\nsys.stdout = sys.stderr = None",
    "forbids all files": "import os\nos.umask(0o777)",
    "allows no recursion": "import sys\nsys.setrecursionlimit(60)",
    "handles signals": "import signal\nfor n in (2, 15, 17):\n    signal.signal(n, signal.SIG_IGN)",
    "goes elsewhere": "import os\nos.chdir('/')",
    "empties the environment": "import os\nos.environ.clear()\nos.environ['HOME'] = '/nowhere'",
    "closes the standard streams": "import os\nos.closerange(0, 3)",
    "closes every descriptor": "import os\nos.closerange(0, 4096)",
    "prints 100 MB": "import os\nfor _ in range(100):\n    os.write(1, b'x' * 2**20)",
    "is forked and goes on twice": "import os\nos.fork()",
    "starts a process that stays": "import subprocess\nsubprocess.Popen(['sleep', '613'])",
    "starts one that leaves the group": "import subprocess\nsubprocess.Popen(['sleep', '613'], start_new_session=True)",
    "starts an endless thread": "import threading, time\nthreading.Thread(target=time.sleep, args=[600]).start()",
    "sets an alarm": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 600)",
    "replaces what ours is made of": "import os, json\nos._exit = json.dumps = os.getpid = None",
    "limits itself": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))",
    "traces": "import sys\nsys.settrace(lambda *_: None)\nsys.setprofile(lambda *_: None)",
}

ENDS = {
    "leaves": ("import os\nos._exit(0)", "does not import: it ended Python with exit code 0 while it was imported"),
    "exits": ("import sys\n\nsys.exit('enough')", "does not import: SystemExit: enough (model.py line 3)"),
    "crashes": (
        "import ctypes\n\nctypes.string_at(0)",
        "does not import: it was ended by SIGSEGV while it was imported (model.py line 3)",
    ),
    "kills itself": (
        "import os\nos.kill(os.getpid(), 9)",
        "does not import: it was ended by SIGKILL while it was imported",
    ),
    "kills its group": (
        "import os\nos.killpg(0, 15)", "does not import: it was ended by SIGTERM while it was imported",
    ),
    "raises what cannot be shown": (
        "class Odd(Exception):\n    def __str__(self): return 1 / 0\n\nraise Odd",
        "does not import: Odd: what it says cannot be shown (model.py line 4)",
    ),
    "raises much": ("raise ValueError('x' * 3_000_000)", "does not import: ValueError: xxx"),
    "raises what moves the cursor": (
        "raise ValueError('a\\x1b[2Jb\\nc')",
        "does not import: ValueError: a\N{REPLACEMENT CHARACTER}[2Jb c (model.py line 1)",
    ),
    "raises in its signature": (
        "class F:\n    def __call__(self, a, b): ...\n    __signature__ = property(lambda self: 1 / 0)\nsimulate = F()",
        "cannot be called: ZeroDivisionError: division by zero (model.py line 3)",
    ),
}  # fmt: skip


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Work in a folder of the test's own."""
    return enter(monkeypatch, tmp_path / "here")


def state_of_this_process():
    """What an import could change in it."""
    mask = os.umask(0)
    os.umask(mask)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM)]
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    fds = sorted(map(str, Path("/proc/self/fd").iterdir()))
    return mask, handlers, streams, fds, sys.getrecursionlimit(), dict(os.environ), Path.cwd(), sorted(sys.modules)


def sleepers():
    """Processes that models of this file leave behind."""
    found = subprocess.run(["pgrep", "-f", "^sleep 613$"], capture_output=True, text=True, check=False)
    return set(found.stdout.split())


@pytest.mark.parametrize("source", HARMLESS.values(), ids=HARMLESS)
def test_an_import_does_not_reach_this_process(here, capfd, source):
    """It can be called, and nothing of it has got here: no output on stdout, no state, no process."""
    write_model(here, SIMULATE)
    resolve_model("model.py:simulate", here)  # what of ours is imported late is there now
    write_model(here, source + SIMULATE)
    before, asleep = state_of_this_process(), sleepers()

    resolve_model("model.py:simulate", here)

    assert (before, asleep) == (state_of_this_process(), sleepers())
    assert "" == capfd.readouterr().out


@pytest.mark.parametrize(("source", "says"), ENDS.values(), ids=ENDS)
def test_an_import_that_ends_its_process_is_one_line(here, source, says):
    """With the place, where that can be known; never more than a screen."""
    write_model(here, source + ("" if "simulate" in source else SIMULATE))

    with pytest.raises(ModelError) as caught:
        resolve_model("model.py:simulate", here)

    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 5000


def test_an_import_that_hangs_is_ended_and_says_where(here):
    """With all that it started."""
    write_model(here, "import subprocess\nstarted = subprocess.Popen(['sleep', '613'])\nstarted.wait()" + SIMULATE)
    asleep = sleepers()

    with (
        pytest.raises(ModelError, match=r"^model model\.py:simulate was not imported within 1 s \(model\.py line 3\)$"),
        Look(find_model("model.py:simulate", here), within_s=1.0) as look,
    ):
        look.result()

    assert asleep == sleepers()


def test_a_look_whose_result_is_not_waited_for_ends_at_once(here):
    """A run that is interrupted leaves no import behind."""
    write_model(here, FORK_AND_STAY + "time.sleep(600)" + SIMULATE)
    began_s = time.monotonic()

    with Look(find_model("model.py:simulate", here)) as look:
        pass

    assert process(look.pid) is None
    assert time.monotonic() - began_s < 10


def test_what_an_import_prints_is_seen_up_to_a_bound(here, capfd):
    """On stderr, without what moves the cursor."""
    write_model(here, "print('loading births \\x1b[2J')\nprint('x' * 10**6)" + SIMULATE)

    resolve_model("model.py:simulate", here)

    out, err = capfd.readouterr()
    assert ("", "loading births \N{REPLACEMENT CHARACTER}[2J") == (out, err.splitlines()[0])
    assert len(err) <= 64 * 1024


def test_loading_is_measured_although_the_model_prints_numbers(here):
    """No number is read from a stream that others write to."""
    write_model(
        here, "import os\nos.write(1, b'7 8\\n')\nHELD = bytearray(30 * 2**20)\nHELD[::4096] = b'x' * 7680" + SIMULATE
    )

    assert 30 * 2**20 <= measured(find_model("model.py:simulate", here))[1] < 60 * 2**20


def command_line(*arguments, cwd, **env):
    """Run the program in a process of its own, with descriptors of its own."""
    return subprocess.run(
        [sys.executable, "-m", "modelops_ray", *map(str, arguments)],
        cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False,
    )  # fmt: skip


ALL_AT_ONCE = """
import atexit, io, os, sys
os.system('echo from-git-1.2.3')
atexit.register(os.system, 'echo goodbye')
print('kept', file=sys.__stdout__, flush=True)
os.umask(0o777)
sys.setrecursionlimit(60)
sys.stderr = io.StringIO()
"""


def test_json_is_one_line_although_an_import_prints_and_changes_its_process(here):
    """Under `--backend local`: the run directory can be read, and a second run finds all there."""
    write_model(here, ALL_AT_ONCE + SIMULATE)
    study = write_study(here)

    done = [
        command_line("run", study, "--backend", "local", "--isolation", "fork", "--json", cwd=here) for _ in range(2)
    ]

    assert [0, 0] == [each.returncode for each in done], done[0].stderr
    first, second = (json.loads(each.stdout) for each in done)
    assert (2, 0, 2) == (first["completed"], first["resumed"], second["resumed"])
    assert [1, 1] == [each.stdout.count("\n") for each in done]
    assert 0o700 == Path(here, first["run_dir"]).stat().st_mode & 0o700


LATE_AND_TWICE = """
import atexit, os, sys

atexit.register(print, "goodbye")
atexit.register(os.system, "echo goodbye")
atexit.register(sys.__stdout__.write, "goodbye")
if os.fork() == 0:
    sys.stdout = sys.__stdout__
"""


def test_json_is_one_line_where_the_model_ran_in_this_process_and_prints_when_that_ends(here):
    """Nor is there a second driver, where its import forked."""
    write_model(here, LATE_AND_TWICE + SIMULATE)
    done = command_line(
        "run", write_study(here), "--backend", "local", "--isolation", "none", "--json", "--quiet", cwd=here
    )
    assert (0, 1) == (done.returncode, done.stdout.count("\n")), done.stderr
    assert 2 == json.loads(done.stdout)["completed"]
    assert "goodbye" in done.stderr


def test_an_error_after_an_import_that_replaced_stderr_is_seen(here):
    """One line, and nothing on stdout."""
    write_model(here, ALL_AT_ONCE + "def simulate(params): ...\n")
    study = write_study(here)

    done = command_line("run", study, "--backend", "local", "--isolation", "fork", "--json", "--quiet", cwd=here)

    assert (1, "") == (done.returncode, done.stdout)
    assert "must take (params, seed) or (params, seed, scenario) by position; it takes (params)" in done.stderr


def test_a_run_that_is_whole_is_answered_without_an_import(here):
    """Its results are there, although the model would not import today."""
    needed = here / "licence.txt"
    needed.write_text("")
    write_model(here, f"import os; os.stat({str(needed)!r})" + SIMULATE)
    assert 0 == run_locally("--out", "run").exit_code
    needed.unlink()

    again, fresh = run_locally("--out", "run"), run_locally("--out", "other")

    assert (0, 2) == (again.exit_code, summary_of(again)["resumed"])
    assert (1, "") == (fresh.exit_code, fresh.stdout)
    assert "does not import: FileNotFoundError" in fresh.stderr


SITES = {
    "prints": "print('welcome to this cluster')",
    "prints through a shell": "import os\nos.system('echo 123')",
    "raises": "raise RuntimeError('no licence')",
    "replaces the streams": "import io, sys\nsys.stdout = sys.stderr = io.StringIO()",
    "starts a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    "prints at exit": "import atexit\natexit.register(print, 'goodbye')",
    "writes to every descriptor": (
        "import os\nfor fd in range(1, 3):\n    os.write(fd, b'42\\n')\nos.system('echo 42 >&2')"
    ),
}


@pytest.fixture
def site(here, monkeypatch):
    """Return what writes the `sitecustomize.py` of every Python that is started."""
    folder = here / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return (folder / "sitecustomize.py").write_text


# What "everything" below does not do.
IN_TIME = {"raises": (), "prints at exit": ()}
EVERYTHING = "\n".join([SITES["writes to every descriptor"], SITES["starts a thread"], SITES["replaces the streams"]])


@pytest.mark.parametrize(
    ("source", "isolation"),
    [
        *(
            pytest.param(source, "fork", id=name, marks=IN_TIME.get(name, pytest.mark.long))
            for name, source in SITES.items()
        ),
        *(pytest.param(EVERYTHING, isolation, id=isolation) for isolation in ("fork", "reuse", "fresh")),
    ],
)
def test_what_an_installation_does_when_python_starts_disturbs_nothing(here, site, source, isolation):
    """No protocol of ours shares a stream with it."""
    site(source)
    write_model(here, SIMULATE)

    report, payload = run_chunk(context_of(here / "model.py", isolation=isolation), chunk_of([{"beta": 2.0, "n": 1}]))

    assert (1, ()) == (len(report.completed), report.failures)
    assert [2000.0] == payload.outputs["r"][0].table.column("x").to_pylist()


def test_an_interpreter_that_ends_before_it_begins_is_named(here, site):
    """With what it said last."""
    site("import os, sys\nprint('no licence', file=sys.stderr, flush=True)\nos._exit(4)")
    write_model(here, SIMULATE)

    says = f"model model.py:simulate cannot be looked at: {sys.executable} ended before it began (no licence)"
    with pytest.raises(ModelError) as caught:
        resolve_model("model.py:simulate", here)

    assert says == str(caught.value)
