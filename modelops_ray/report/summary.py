"""What is printed when a command ends: the summary of a run, `plan`, `profile`, `status`, `runs`.

Owns facts, one a line. Tables are shown by `tables`.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelops_ray.core.forecast import Forecast
from modelops_ray.errors import ModelopsRayError
from modelops_ray.report.screen import Screen
from modelops_ray.report.text import count, duration, format_size, one_line, rate
from modelops_ray.session.planning import Profiled
from modelops_ray.session.summary import Summary
from modelops_ray.store.reader import RunReader
from modelops_ray.store.runs import Found
from modelops_ray.store.status import Status

_MAX_SHARDS = 12
_MAX_TYPE_CHARS = 80
_MOST = 2.0**60
_WARNING = "warning: "


def facts(console: Screen, rows: Sequence[tuple[str, str]]) -> None:
    """Print pairs of name and value, aligned."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.say(f"{name:<{width}}  {value}")


def print_summary(console: Screen, summary: Summary) -> None:
    """Print how a run ended."""
    rows = [
        ("results", f"{summary.completed:,} of {count(summary.simulations, 'simulation')}"),
        ("failed", f"{summary.failed:,}"),
        ("run directory", summary.run_dir),
    ]
    if summary.resumed:
        rows.insert(2, ("already there", f"{summary.resumed:,}"))
    if summary.attempts:
        rows += [
            ("time", f"{duration(summary.wall_seconds)}, {rate(summary.simulations_per_second, ' simulations')}"),
            ("most memory", _memory(summary)),
        ]
    if summary.oom_retries or summary.infrastructure_retries:
        repeats = f"{summary.oom_retries:,} for memory, {summary.infrastructure_retries:,} after losses"
        rows.append(("repeated", repeats))
    if summary.spilled_bytes:
        rows.append(("spilled", format_size(summary.spilled_bytes)))
    facts(console, rows)


def _memory(summary: Summary) -> str:
    request, driver = format_size(summary.request_bytes_max), format_size(summary.driver_peak_rss_bytes)
    # A simulation that fits into what its process had already adds nothing.
    peak = format_size(summary.peak_bytes_max) if summary.peak_bytes_max >= 2**20 else "under 1 MiB"
    return f"simulation {peak}, request {request}, driver {driver}"


def print_runs(console: Screen, found: Sequence[Found], folder: Path) -> None:
    """Print the runs of a folder, how far each is, and when it was last written to."""
    if not found:
        console.say(f"there is no run below {folder}/")
    now_s = time.time()
    rows = [(str(run.path), f"{duration(max(0.0, now_s - run.written_unix_s))} ago", _far(run)) for run in found]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(2)]
    for path, age, far in rows:
        console.say(f"{path:<{widths[0]}}  {age:>{widths[1]}}  {far}")


def _far(run: Found) -> str:
    """How far a run is, in a few words; what is wrong with a directory goes in the place of it."""
    try:
        state = RunReader(run.path).status()
    except ModelopsRayError as error:
        return one_line(str(error), _MAX_TYPE_CHARS)
    done = f"{state.completed + state.failed:,} of {state.total:,}"
    failed = f", {state.failed:,} failed" if state.failed else ""
    return f"{done}{failed}{', running' if state.running else ''}"


def runs_values(found: Sequence[Found]) -> dict[str, Any]:
    """The runs of a folder as JSON values; times in seconds since 1970."""
    return {"runs": [{"run_dir": str(run.path), "written_at": round(run.written_unix_s, 3)} for run in found]}


def print_plan(console: Screen, expected: Forecast) -> None:
    """Print what a study would take."""
    sets = count(expected.parameter_sets, "parameter set")
    rows = [
        ("simulations", f"{expected.simulations:,} of {sets}"),
        ("memory each", _known(expected.request_bytes, format_size)),
        ("time each", _known(expected.seconds_per_simulation, duration)),
        ("at a time", _known(expected.concurrency, "{:,}".format)),
        ("memory holds", _known(expected.fit_in_memory, lambda _: _density(expected))),
        ("duration", _known(expected.wall_seconds, lambda seconds: f"about {duration(seconds)}")),
        ("outputs", _known(expected.output_bytes, lambda size: f"about {format_size(size)}")),
    ]
    facts(console, rows)
    for warning in expected.warnings:
        _warn(console, warning)


def _known(value: float | None, show: Callable[[float], str]) -> str:
    return "not known yet" if value is None else show(value)


def _density(expected: Forecast) -> str:
    text = f"{expected.fit_in_memory:,} at a time"
    if expected.fit_unshared is None or expected.fit_unshared >= (expected.fit_in_memory or 0):
        return text
    return f"{text}, against {expected.fit_unshared:,} if each imported the model itself"


def _warn(console: Screen, text: str) -> None:
    """Print a warning; on a terminal its lines stand below each other, in a pipe it is one line."""
    if console.is_terminal:
        indent = " " * len(_WARNING)
        lines = textwrap.wrap(_WARNING + text, console.width, subsequent_indent=indent, break_on_hyphens=False)
    else:
        lines = [_WARNING + text]
    for line in lines:
        console.say(line, "yellow")


def print_profile(console: Screen, measured: Profiled) -> None:
    """Print what a few simulations took, and of what their peak is made."""
    rows = [
        ("simulations", f"{measured.simulations:,} measured, {measured.failed:,} failed"),
        ("worker", f"{format_size(measured.worker_bytes)} for the interpreter and its libraries"),
        ("model", f"{format_size(measured.model_bytes)} for importing the model"),
        (
            "simulation",
            f"{format_size(measured.peak_bytes_median)} (median), {format_size(measured.peak_bytes_max)} (largest)",
        ),
        ("time each", duration(measured.seconds)),
    ]
    facts(console, rows)


def status_values(state: Status) -> dict[str, Any]:
    """The state of a run as JSON values; of a run in shards also that of each, and which have not begun."""
    values = _own_values(state)
    if state.shards:
        values["shards"] = {shard: _own_values(each) for shard, each in state.shards.items()}
        values["shards_missing"] = list(state.missing)
    return values


def _own_values(state: Status) -> dict[str, Any]:
    return {
        "simulations": state.total,
        "completed": state.completed,
        "failed": state.failed,
        "running": state.running,
        "ending": state.ending,
        "heartbeat_age_seconds": state.heartbeat_age_s,
        "host": state.host,
        "pid": state.pid,
        "causes": dict(state.causes),
        "counters": dict(state.counters),
    }


def print_status(console: Screen, state: Status) -> None:
    """Print how far a run is."""
    done = state.completed + state.failed
    share = done / state.total if state.total else 1.0
    rows = [
        ("done", f"{done:,} of {count(state.total, 'simulation')} ({share:.0%}) committed"),
        ("failed", f"{state.failed:,}" + _causes(state.causes)),
        *(_shards(state) if state.shards else [("state", _life(state))]),
    ]
    if speed := _speed([each for each in state.shards.values() or [state] if each.running]):
        rows.append(("speed", speed))
    facts(console, rows)


def _life(state: Status) -> str:
    if state.running:
        return f"running on {state.host} (process {state.pid}), heartbeat {duration(state.heartbeat_age_s or 0)} ago"
    if state.is_done:
        return "finished"
    return f"not running ({state.ending or 'it was killed, or its machine is gone'}); run the study again to go on"


def _shards(state: Status) -> list[tuple[str, str]]:
    """How many shards are in which state, and a line for each that is begun and not finished."""
    states = state.shards.values()
    finished = sum(each.is_done for each in states)
    running = sum(each.running and not each.is_done for each in states)
    stopped = len(states) - finished - running
    numbers = [(finished, "finished"), (running, "running"), (stopped, "stopped"), (len(state.missing), "not begun")]
    rows = [("shards", ", ".join(f"{n:,} {what}" for n, what in numbers if n))]
    unfinished = [(shard, each) for shard, each in state.shards.items() if not each.is_done]
    for shard, each in unfinished[:_MAX_SHARDS]:
        rows.append((f"  {shard}", f"{each.completed + each.failed:,} of {each.total:,}, {_life(each)}"))
    if len(unfinished) > _MAX_SHARDS:
        rows.append(("", f"and {len(unfinished) - _MAX_SHARDS:,} more; --json tells of all"))
    if state.missing:
        more = ", ..." if len(state.missing) > _MAX_SHARDS else ""
        rows.append(("not begun", f"run the study with --shard {', '.join(state.missing[:_MAX_SHARDS])}{more}"))
    return rows


def _speed(live: Sequence[Status]) -> str:
    """How fast the live sessions are, in their own words, and when the last ends; empty while they have none."""
    speeds = [(_per_second(state.counters), state.total - state.completed - state.failed) for state in live]
    if not all(per_second for per_second, _ in speeds) or not speeds:
        return ""
    left_s = max(left / per_second for per_second, left in speeds)
    return f"{rate(sum(per_second for per_second, _ in speeds), ' simulations')}, about {duration(left_s)} left"


def _per_second(counters: Mapping[str, Any]) -> float:
    elapsed_s = _amount(counters, "elapsed_seconds")
    return _amount(counters, "completed", "failed") / elapsed_s if elapsed_s else 0.0


def _amount(counters: Mapping[str, Any], *names: str) -> float:
    values = (counters.get(name, 0) for name in names)
    # Written by another process: not every number is one of these.
    return sum(value for value in values if isinstance(value, int | float) and 0 <= value < _MOST)


def _causes(causes: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{n:,} {cause}' for cause, n in causes.items())})" if causes else ""
