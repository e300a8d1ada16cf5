"""How a fault is done to a run, and how it is taken back.

Owns finding the process that is meant. When a fault is due is the schedule's, what must hold then is `play`'s.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from support.studies import Command, Place

from tests.chaos import disks
from tests.chaos.schedule import Fault, Kind

Lift = Callable[[], None]
FILLS_WITHIN_S = 15.0
_SERVER = "at_start = tuple(sys.modules)"
_RPC = {"num_failures": 12, "req_failure_prob": 4, "resp_failure_prob": 4, "in_flight_failure_prob": 4}
"""Of any calls of a process 12 fail at most; the probabilities are in percent."""
_LATE = (
    "NodeManagerService.grpc_server.RequestWorkerLease", "NodeManagerService.grpc_server.ReturnWorkerLease",
    "CoreWorkerService.grpc_server.PushTask", "CoreWorkerService.grpc_server.GetObjectStatus",
    "CoreWorkerService.grpc_server.CancelTask",
)  # fmt: skip
"""Where all handlers of Ray are late, its timers among them, it crashes while it starts."""
ENVIRONS = {
    Kind.RPC_FAILURES: {"RAY_testing_rpc_failure": json.dumps({"*": _RPC})},
    Kind.RPC_DELAYS: {"RAY_testing_asio_delay_us": ",".join(f"{call}=1000:500000" for call in _LATE)},
}
"""What a driver is started with after its fault, and so is the Ray that it starts."""
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "interrupt": signal.SIGTERM}
_AS = {
    Kind.FULL_STORE: Kind.STOP_DRIVER,
    Kind.CLOCK_AHEAD: Kind.KILL_DRIVER,
    Kind.CLOCK_BACK: Kind.STOP_DRIVER,
    **dict.fromkeys(ENVIRONS, Kind.INTERRUPT),
}
"""What is done to a process where the name of the fault does not say it."""


def nothing() -> None:
    """Take nothing back: it cannot be, or goes on by itself."""


def victims(kind: Kind, place: Place, command: Command) -> list[int]:
    """Find the processes that a kind of fault may hit, by the word it ends with."""
    who = kind.split(" ", 1)[1]
    if who == "driver":
        return [command.process.pid]
    if who in {"raylet", "GCS"}:
        name = {"raylet": "raylet", "GCS": "gcs_server"}[who]
        return [pid for pid in place.processes() if _name_of(pid) == name]
    if who == "worker":
        return [pid for pid, title in place.processes("ray::").items() if title.startswith("ray::modelops-chunk")]
    forked = set(place.processes(_SERVER))
    children = [pid for pid in forked if _parent_of(pid) in forked]
    return children if who == "child" else sorted(forked - set(children))


def do(fault: Fault, place: Place, command: Command, out: Path) -> Lift | None:
    """Do it and return how it is taken back; None where it cannot be done: no such process, disk or heartbeat now."""
    match fault.kind:
        case Kind.FULL_RUN_DISK | Kind.FULL_TMP_DISK:
            disk = out.parent if fault.kind is Kind.FULL_RUN_DISK else place.tmp
            return partial(disks.make_room, disk) if disks.fill_up(disk) else None
        case Kind.SLOW_DISK:
            return disks.slow_down(place.folder / "site")
        case Kind.CLOCK_AHEAD | Kind.CLOCK_BACK if not (out / "progress.json").exists():
            return None
    spilled = _spilled(place)
    lift = _signal(fault, place, command)
    if fault.kind is Kind.FULL_STORE and lift is not None and not _is_soon(lambda: _spilled(place) > spilled):
        lift()
        return None
    if fault.kind in {Kind.CLOCK_AHEAD, Kind.CLOCK_BACK}:
        _is_soon(lambda: _writes_no_more(command.process.pid))
        _move_heartbeat(out, timedelta(hours=1 if fault.kind is Kind.CLOCK_AHEAD else -1))
    return lift


def wake(pid: int) -> None:
    """Let a stopped process go on."""
    _send(pid, signal.SIGCONT)


def _signal(fault: Fault, place: Place, command: Command) -> Lift | None:
    kind = _AS.get(fault.kind, fault.kind)
    found = sorted(victims(kind, place, command))
    if not found:
        return None
    pid = found[int(fault.chance * len(found))]
    number = _SIGNALS[kind.split(" ", 1)[0]]
    if not _send(pid, number):
        return None
    return partial(wake, pid) if number == signal.SIGSTOP else nothing


def _writes_no_more(pid: int) -> bool:
    """Whether each of its threads has stopped or ended: until then one may still write a heartbeat."""
    with suppress(OSError):
        threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(thread.rpartition(")")[2].split()[0] in {"T", "Z", "X"} for thread in threads)
    return False


def _spilled(place: Place) -> set[Path]:
    return {path for path in place.tmp.rglob("*spill*/**/*") if path.is_file()}


def _is_soon(condition: Callable[[], bool]) -> bool:
    last_s = time.monotonic() + FILLS_WITHIN_S
    while not (is_so := condition()) and time.monotonic() < last_s:
        time.sleep(0.1)
    return is_so


def _move_heartbeat(out: Path, by: timedelta) -> None:
    """Have the last heartbeat be that of a clock which is wrong by so much; the machine's own is left alone."""
    progress = json.loads((out / "progress.json").read_text())
    progress["heartbeat"] = (datetime.fromisoformat(progress["heartbeat"]) + by).isoformat()
    (out / "progress.json").write_text(json.dumps(progress))


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _parent_of(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
