"""What an import changed of its process is in force while the model runs, and not between."""

from __future__ import annotations

import decimal
import gc
import json
import locale
import os
import resource
import signal
import socket
import sys
import time
import warnings

import numpy as np
import pytest

from modelops_ray.runner.executor import Attempt
from modelops_ray.sandbox.aftermath import Aftermath, NamesKept, mend_streams
from modelops_ray.sandbox.held import held


def umask():
    """The mask for new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def forever():
    """A clock that stands still."""
    return 0.0


HOT = {
    "umask": (lambda: os.umask(0o777), umask),
    "recursion": (lambda: sys.setrecursionlimit(500), lambda: sys.getrecursionlimit() < 700),
    "clock": (lambda: setattr(time, "perf_counter", forever), lambda: time.perf_counter is forever),
    "deleted": (lambda: delattr(json, "dumps"), lambda: hasattr(json, "dumps")),
    "warnings": (lambda: warnings.simplefilter("error", ImportWarning), lambda: warnings.filters[0]),
    "decimal": (lambda: setattr(decimal.getcontext(), "prec", 5), lambda: decimal.getcontext().prec),
    "numpy": (lambda: np.seterr(all="raise"), np.geterr),
    "profiler": (lambda: sys.setprofile(lambda *_: None), lambda: sys.getprofile() is None),
    "stream": (lambda: setattr(sys, "__stdin__", None), lambda: sys.__stdin__ is None),
}
COLD = {
    "signal": (lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN), lambda: signal.getsignal(signal.SIGCHLD)),
    "mask": (
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, []),
    ),
    "sockets": (lambda: socket.setdefaulttimeout(0.3), socket.getdefaulttimeout),
    "environment": (lambda: os.environ.update(ODD="1"), lambda: os.environ.get("ODD")),
    "collector": (gc.disable, gc.isenabled),
    "limit": (
        lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])),
        lambda: resource.getrlimit(resource.RLIMIT_CORE)[0],
    ),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C"), lambda: locale.setlocale(locale.LC_ALL)),
}


@pytest.fixture
def another_locale():
    """A locale that is not the plainest, and files of crashes, so that either can be changed."""
    before, limits = locale.setlocale(locale.LC_ALL), resource.getrlimit(resource.RLIMIT_CORE)
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    resource.setrlimit(resource.RLIMIT_CORE, (min(4096, limits[1]) if limits[1] >= 0 else 4096, limits[1]))
    yield
    locale.setlocale(locale.LC_ALL, before)
    resource.setrlimit(resource.RLIMIT_CORE, limits)


@pytest.mark.parametrize(("change", "look"), HOT.values(), ids=HOT)
def test_what_ours_meets_in_every_simulation_is_switched_around_the_model(change, look):
    """Also where the model raises."""
    before = look()
    with Aftermath() as after:
        change()
        changed = look()
    seen = []

    def model(params, seed, scenario):
        seen.append(look())
        raise LookupError

    assert before == look() != changed
    for _ in range(2):
        with pytest.raises(LookupError):
            after.around(model)({}, 1, "")
    assert ([changed] * 2, before) == (seen, look())


@pytest.mark.usefixtures("another_locale")
@pytest.mark.parametrize(("change", "look"), COLD.values(), ids=COLD)
def test_what_only_others_mind_is_in_force_until_they_take_over(change, look):
    """The model itself is called as it is."""
    before = look()
    with Aftermath() as after:
        change()
        changed = look()

    assert before == look() != changed
    assert print is after.around(print)
    after.settle()
    assert changed == look()
    after.leave()
    assert before == look()


def test_signals_by_which_a_process_is_ended_can_be_left_to_it():
    """Ctrl-C ends a run although its model ignores it."""
    before = signal.getsignal(signal.SIGINT)
    with Aftermath() as after:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    after.settle(but=(signal.SIGINT,))
    assert before == signal.getsignal(signal.SIGINT)
    after.leave()


def test_a_timer_that_an_import_starts_is_stopped():
    """Forks would not have it, and a server must not end by it."""
    with Aftermath():
        signal.setitimer(signal.ITIMER_VIRTUAL, 600)
    assert (0.0, 0.0) == signal.getitimer(signal.ITIMER_VIRTUAL)


def test_a_timer_that_ran_before_an_import_goes_on():
    """Although the import changed it."""
    before = signal.setitimer(signal.ITIMER_VIRTUAL, 500)
    with Aftermath():
        signal.setitimer(signal.ITIMER_VIRTUAL, 9)
    assert 499 < signal.getitimer(signal.ITIMER_VIRTUAL)[0] <= 500
    signal.setitimer(signal.ITIMER_VIRTUAL, *before)


def test_modules_are_found_where_they_were_although_the_search_path_changed():
    """Behind what the import put there."""
    before = list(sys.path)
    with Aftermath():
        sys.path[:] = ["/models"]
    found, sys.path[:] = list(sys.path), before
    assert ["/models", *before] == found


def test_a_closed_stream_has_another_in_its_place(monkeypatch):
    """It leads where the first one did."""
    with open(os.dup(2), "w") as stream:  # noqa: PTH123 (a descriptor)
        monkeypatch.setattr(sys, "stderr", stream)
    assert sys.stderr.closed
    mend_streams()
    assert (False, 2) == (sys.stderr.closed, sys.stderr.fileno())


def test_functions_that_a_simulation_replaced_are_put_back():
    """Without isolation they would be the driver's."""
    clock = time.monotonic
    with NamesKept():
        time.monotonic = forever
    assert clock is time.monotonic


def test_our_clocks_are_no_members_of_a_module():
    """Packages that freeze time replace all those that are the functions of Python."""
    found = [
        module.__name__
        for name, module in list(sys.modules.items())
        if name.startswith("modelops_ray.runner")
        for value in vars(module).values()
        if value is time.monotonic or value is time.perf_counter
    ]
    assert ([], time.monotonic) == (found, held.monotonic_s)


@pytest.mark.parametrize(
    ("told_s", "kept_s"),
    [(2.0, 2.0), (-1.0, 0.0), (float("nan"), 0.0), (float("inf"), 5.0), (1e300, 5.0), (float("-inf"), 0.0)],
)
def test_any_time_that_a_simulation_tells_is_kept_within_its_chunk(told_s, kept_s):
    """A clock that a model patched must not end a run whose results are there."""
    attempt = Attempt({}, told_s, -3).within(5.0)
    assert (kept_s, 0) == (attempt.seconds, attempt.peak_bytes)
