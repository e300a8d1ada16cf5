"""State of a process that an import can change, besides modules, names, descriptors and the working folder.

Owns reading and writing it. `HOT` is what affects our code in every simulation, `COLD` what affects only a fork server,
a worker or a driver. State that is read as a dictionary is written one entry at a time. Standard library only.
"""

from __future__ import annotations

import gc
import locale
import os
import resource
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

_NUMPYS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


class Aspect(NamedTuple):
    """One thing that an import can change, read and written as a whole."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _write_signal(one: tuple[int, Any]) -> None:
    number, handler = one
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


def _read_signals() -> dict[int, Any]:
    """Handlers by number; what C code has ignored counts as ignored."""
    ignored = 0
    with suppress(OSError), open("/proc/self/status", "rb") as status:  # noqa: PTH123 (once)
        ignored = next((int(line.split()[1], 16) for line in status if line.startswith(b"SigIgn:")), 0)
    return {
        number: signal.SIG_IGN if ignored >> (number - 1) & 1 else signal.getsignal(number)
        for number in signal.valid_signals()
        if number not in (signal.SIGKILL, signal.SIGSTOP)
    }


def _read_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _write_environ(one: tuple[str, str | None]) -> None:
    name, value = one
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _read_limits() -> dict[int, tuple[int, int]]:
    numbers = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    return {number: resource.getrlimit(number) for number in numbers}


def _write_limit(one: tuple[int, tuple[int, int]]) -> None:
    """Set a limit; the hard one is only raised, and only where this process may."""
    number, (soft, hard) = one
    _, hard_now = resource.getrlimit(number)
    if _as_number(hard) > _as_number(hard_now):
        with suppress(OSError, ValueError):
            resource.setrlimit(number, (soft, hard))
            return
    resource.setrlimit(number, (min(soft, hard_now, key=_as_number), hard_now))


def _as_number(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _write_gc(state: tuple[bool, tuple[int, ...], int]) -> None:
    is_enabled, thresholds, debug = state
    (gc.enable if is_enabled else gc.disable)()
    gc.set_threshold(*thresholds)
    gc.set_debug(debug)


def _read_errors() -> list[Any]:
    """All filters, if one makes an error of a warning; else none, since hiding warnings changes no result."""
    return list(warnings.filters) if any(one[0] == "error" for one in warnings.filters) else []


def _write_filters(filters: list[Any]) -> None:
    # An empty list stands for: no errors.
    warnings.filters[:] = filters or [one for one in warnings.filters if one[0] != "error"]  # type: ignore[index]
    mutated = getattr(warnings, "_filters_mutated", None)
    if mutated is not None:
        mutated()


def _read_decimal() -> tuple[Any, ...] | None:
    """What a decimal context does, without the flags that it has raised; None for what a new one does."""
    if (decimal := sys.modules.get("decimal")) is None:
        return None
    now, new = map(_of_context, (decimal.getcontext(), decimal.Context()))
    return None if now == new else now


def _of_context(one: Any) -> tuple[Any, ...]:
    traps = [each for each, is_set in one.traps.items() if is_set]
    return one.prec, one.rounding, one.Emin, one.Emax, one.capitals, one.clamp, [], traps


def _write_decimal(state: tuple[Any, ...] | None) -> None:
    import decimal

    decimal.setcontext(decimal.Context(*(state or ())))


def _read_numpy() -> dict[str, str]:
    numpy: Any = sys.modules.get("numpy")
    return dict(numpy.geterr()) if hasattr(numpy, "geterr") else dict(_NUMPYS)


def _write_numpy(one: tuple[str, Any]) -> None:
    if "numpy" in sys.modules:
        sys.modules["numpy"].seterr(**{one[0]: one[1]})


HOT = {
    "umask": Aspect(_read_umask, os.umask),
    "warnings": Aspect(_read_errors, _write_filters),
    "decimal": Aspect(_read_decimal, _write_decimal),
    "numpy": Aspect(_read_numpy, _write_numpy),
}
COLD = {
    # First, because reading and writing the others opens files.
    "limit": Aspect(_read_limits, _write_limit),
    "signal": Aspect(_read_signals, _write_signal),
    "signal mask": Aspect(
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        lambda mask: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
    ),
    "timeout": Aspect(socket.getdefaulttimeout, socket.setdefaulttimeout),
    "environment": Aspect(lambda: dict(os.environ), _write_environ),
    "cpus": Aspect(lambda: os.sched_getaffinity(0), lambda cpus: os.sched_setaffinity(0, cpus)),
    "collector": Aspect(lambda: (gc.isenabled(), gc.get_threshold(), gc.get_debug()), _write_gc),
    "locale": Aspect(lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
}
