"""Time limits, and signals that are not the model's."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from modelops_ray.runner.time_limit import Guard, TimeUpError


def spin(seconds):
    """Keep Python busy."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        pass


def test_work_within_its_time_returns():
    """The limit changes nothing else."""
    assert Guard(60).call(lambda: "done") == "done"


def test_work_that_takes_too_long_is_interrupted():
    """It does not run to its end."""
    started_s = time.monotonic()
    with pytest.raises(TimeUpError):
        Guard(0.05).call(lambda: spin(30))

    assert time.monotonic() - started_s < 10


def test_work_that_swallows_the_interruption_is_over_time_all_the_same():
    """A bare except does not make a result of half a simulation."""

    def stubborn():
        try:
            spin(30)
        except BaseException:  # noqa: BLE001 - as stubborn as a model can be
            return "half a result"

    with pytest.raises(TimeUpError):
        Guard(0.05).call(stubborn)


def test_the_next_work_has_its_own_time():
    """An alarm does not outlive what it was set for."""
    guard = Guard(0.5)
    with pytest.raises(TimeUpError):
        guard.call(lambda: spin(30))

    assert guard.call(lambda: spin(0.01)) is None
    assert signal.getitimer(signal.ITIMER_REAL)[0] != pytest.approx(0.45, abs=0.05)


def test_without_a_limit_no_alarm_is_set():
    """Zero is none."""
    before = signal.getsignal(signal.SIGALRM)

    assert before is Guard(0).call(lambda: signal.getsignal(signal.SIGALRM))


def test_the_handler_and_timer_of_others_are_put_back():
    """A program that uses the alarm itself gets it back with the time that is left."""
    handler = signal.signal(signal.SIGALRM, lambda *_: None)
    timer = signal.setitimer(signal.ITIMER_REAL, 500)
    try:
        ours = signal.getsignal(signal.SIGALRM)
        with pytest.raises(ZeroDivisionError):
            Guard(60).call(lambda: 1 / 0)

        assert ours is signal.getsignal(signal.SIGALRM)
        assert 490 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_in_another_thread_nothing_is_limited():
    """Signals arrive in the main thread only; elsewhere work runs to its end."""
    results = []

    def work():
        with Guard(0.01) as guard:
            results.append(guard.call(lambda: spin(0.05)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert [None] == results


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside_is_remembered_and_handed_on(number):
    """A handler that was there before still handles the signal, and is set again."""
    seen = []
    previous = signal.signal(number, lambda n, _frame: seen.append(n))
    try:
        handler = signal.getsignal(number)
        with Guard(60) as guard:
            os.kill(os.getpid(), number)
            while not seen:
                spin(0.001)

        assert (True, [number], handler) == (guard.interrupted, seen, signal.getsignal(number))
    finally:
        signal.signal(number, previous)


def test_a_signal_without_a_handler_keeps_its_default():
    """SIGTERM still ends a process that has no handler."""
    previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Guard(60):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_the_work_forked_ends_by_the_signal_that_ends_it(number):
    """It has a copy of our handlers, and the process that started it waits for its end: `multiprocessing.Pool` does."""
    before = signal.signal(number, lambda *_: None)

    def forks():
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), number)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    try:
        with Guard(0) as guard:
            assert -number == guard.call(forks)
    finally:
        signal.signal(number, before)
    assert not guard.interrupted
