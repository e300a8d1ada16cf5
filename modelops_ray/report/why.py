"""Why simulations failed, in sentences: the first lines that a run with failures ends with, and all that `why` tells.

Owns the words and the layout. What is alike, and where it is, is found in `diagnosis`.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from modelops_ray.core.bounds import Bound
from modelops_ray.core.places import place_of
from modelops_ray.core.report import Cause
from modelops_ray.diagnosis.answer import Together
from modelops_ray.diagnosis.diagnosis import Diagnosis, OfOne, parameters_in
from modelops_ray.diagnosis.groups import Group, without_printed
from modelops_ray.diagnosis.pace import Pace
from modelops_ray.diagnosis.regions import Regions
from modelops_ray.report.screen import Screen
from modelops_ray.report.text import count, duration, format_size, number, one_line, printable
from modelops_ray.store.export import ENDINGS

MOST_GROUPS = 5
PRINTED_LINES = 20
STACK_LINES = 24
_SHOWN = 20
_MOST_SETS = 5
_MOST_CHARS = 400
_LEAST_CHARS = 20
_INDENT = 2
_NAMES = 10
_WORDS = {
    Cause.OUT_OF_MEMORY: "out of memory",
    Cause.CRASHED: "crashed",
    Cause.WORKER_LOST: "worker lost",
    Cause.NODE_LOST: "node lost",
    Cause.BAD_OUTPUT: "bad output",
    Cause.TIMEOUT: "time limit",
    Cause.UNSCHEDULABLE: "fits no machine",
}
_BOUND_BY = {
    Bound.NODES: "waiting for nodes",
    Bound.START_UP: "start-up and the first simulations",
    Bound.END: "the last simulations",
    Bound.WRITER: "writing results",
    Bound.CPUS: "CPUs",
    Bound.WINDOW: "the window",
    Bound.MEMORY: "memory",
}
_REMEDIES = {
    Bound.NODES: "--address of a cluster that has nodes",
    Bound.START_UP: "nothing, where the study is short; else `modelops-ray profile` first, which spares the first ones",
    Bound.END: "--chunk 1, where the last tasks hold many simulations; else nothing",
    Bound.WRITER: "--out on faster storage, or fewer `outputs` in the study",
    Bound.CPUS: "--limit-cpus N on this machine, or more nodes; --cpus below 1 where simulations wait",
    Bound.WINDOW: "--window N, larger or left out",
    Bound.MEMORY: "--limit-memory SIZE on this machine, or nodes with more memory",
}
_STARTING = re.compile(r'  File "<string>", line \d+, in <module>$|(?:Current thread|Stack) .*call last\):$')
_FRAME_LINE = re.compile(r'\s*File "')


def print_first_lines(console: Screen, found: Diagnosis) -> None:
    """Print what failed, where in the model and where in parameter space: two lines for each of the largest groups."""
    for group in found.groups[:MOST_GROUPS]:
        _print_headline(console, group)
        _print_fact(console, "where", where(group.regions))
    if len(found.groups) > MOST_GROUPS:
        console.say(f"and {count(len(found.groups) - MOST_GROUPS, 'other kind')} of failure")


def print_why(
    console: Screen, found: Diagnosis, attempts: Mapping[str, Sequence[Mapping[str, Any]]], bias: Together | None
) -> None:
    """Print all that is known of why a run ended as it did; `attempts` are those of the simulations that stand for all.

    `bias` is what goes together with the need that simulations failed for.
    """
    if not found.groups:
        state = found.status
        console.say(f"nothing failed: {state.completed:,} of {count(state.total, 'simulation')} have a result")
    for group in found.groups:
        _print_group(console, found, group, attempts.get(found.task_id_of(group), ()))
        console.say()
    if found.groups:
        _print_fact(console, "answer", answer(found, bias))
    if found.pace is not None:
        _print_fact(console, "pace", pace(found.pace))
        _print_fact(console, "change", remedy(found.pace))
    if found.groups:
        _print_fact(console, "then", f"{found.command('run')} --retry-failed", is_whole=True)


def _print_group(console: Screen, found: Diagnosis, group: Group, attempts: Sequence[Mapping[str, Any]]) -> None:
    _print_headline(console, group)
    message = one_line(group.message, _MOST_CHARS)
    if message and message not in headline(group, console.width):
        _print_fact(console, "message", message)
    if group.place is not None:
        _print_fact(console, "line", f"{group.place.path}:{group.place.line}", is_whole=True)
    _print_fact(console, "where", where(group.regions))
    if group.cause == Cause.OUT_OF_MEMORY:
        _print_memory(console, found, group, attempts)
    if group.cause == Cause.TIMEOUT:
        _print_stack(console, without_printed(found.failures["traceback"][group.rows[0]].as_py()))
    task_id = found.task_id_of(group)
    _print_printed(console, _printed_in(attempts), f"the end of what {task_id[:_NAMES]}… printed")
    _print_fact(console, "debug", found.command("debug", "--only", task_id), is_whole=True)


def _print_memory(console: Screen, found: Diagnosis, group: Group, attempts: Sequence[Mapping[str, Any]]) -> None:
    """What one used and was given at each attempt, what there is, and which sets need more."""
    tries = [f"{row['attempt']}: {used}" for row in attempts if (used := _used(row))]
    _print_fact(console, "tries", "; ".join(tries))
    if found.pace is not None and found.pace.largest_node_bytes:
        cap = found.config.get("max_memory")
        capped = f"; --max-memory is {format_size(cap)}" if isinstance(cap, int) else ""
        there = format_size(found.pace.largest_node_bytes)
        _print_fact(console, "machine", f"the largest has {there} for simulations{capped}")
    failures = found.failures.take(list(group.rows))
    n_sets = len(found.simulations["param_id"].unique())
    sets = {row["param_id"]: row for row in reversed(failures.to_pylist())}
    shown = [_parameters(row) for row in list(sets.values())[:_MOST_SETS]]
    more = ", …" if len(sets) > _MOST_SETS else ""
    _print_fact(console, "sets", f"{len(sets):,} of {n_sets:,} need more: {'; '.join(shown)}{more}")


def _used(attempt: Mapping[str, Any]) -> str:
    peak, limit = (attempt[name] and format_size(attempt[name]) for name in ("peak_bytes", "limit_bytes"))
    return f"used {peak} of {limit}" if peak and limit else ""


def _printed_in(attempts: Sequence[Mapping[str, Any]]) -> str:
    printed = [row["printed"] for row in attempts if row["printed"]]
    return str(printed[-1]) if printed else ""


def answer(found: Diagnosis, bias: Together | None) -> str:
    """Say what failures do to the answer: what is missing, how much, and what that means for means."""
    state = found.status
    missing = [str(region) for group in found.groups if group.regions for region in group.regions.regions]
    share = f"{state.failed / state.total:.0%}" if state.total else "0%"
    text = f"{state.completed:,} of {count(state.total, 'simulation')} have a result, {share} failed"
    if missing:
        text += f"; missing are {'; '.join(missing[:MOST_GROUPS])}. Means over all parameters leave these out"
    if bias is not None:
        name = "memory" if bias.need == "peak_bytes" else "run time"
        way = "low" if bias.correlation > 0 else "high"
        text += (
            f". {bias.output}.{bias.column} goes together with {name} (rank correlation {bias.correlation:.2f}): "
            f"means over what is left are too {way}"
        )
    elif not missing:
        text += ". Means over what is left are biased where what makes a simulation fail also moves its outcome"
    return text


def pace(told: Pace) -> str:
    """Say what bounded a session, with the figures."""
    seconds = sum(told.seconds.values())
    others = [f"{_BOUND_BY[bound]} {duration(s)}" for bound, s in list(told.seconds.items())[1:3] if s > 0.05 * seconds]
    also = f" (also {', '.join(others)})" if others else ""
    wide = f"up to {told.n_running_max:,} at a time on {count(told.n_nodes, 'node')}"
    there = f"{told.cpus:g} CPUs and {format_size(told.memory_bytes)}"
    each = f"requests up to {format_size(told.request_bytes_max)}, used up to {format_size(told.peak_bytes_max)}"
    head = f"{_BOUND_BY[told.main]} for {told.share:.0%} of {duration(seconds)}{also}"
    return f"bound by {head}; {wide} with {there}; {each}"


def remedy(told: Pace) -> str:
    """Name the one option that moves what bounded a session."""
    if told.main is Bound.MEMORY and told.asks_too_much:
        return f"--memory {math.ceil(1.25 * told.peak_bytes_max / 2**20)}Mi, as requests are far above what was used"
    return _REMEDIES[told.main]


def headline(group: Group, width: int) -> str:
    """Say how many failed, of what, and at which line of the model, in one line of this width where that is enough."""
    begin, end = f"{len(group.rows):,} failed: ", "" if group.place is None else f" ({group.place})"
    room = max(_LEAST_CHARS, width - len(begin) - len(end))
    # What this program says of a failure goes on with what to do about it.
    message = group.message if group.cause == Cause.MODEL_ERROR else group.message.partition(";")[0]
    return begin + one_line(what_failed(group.cause, group.error_type, message), room) + end


def what_failed(cause: str, error_type: str, message: str) -> str:
    """Name a failure in words: `KeyError: 'beta'`, `time limit: it took longer than 2 s`."""
    kind = error_type if cause == Cause.MODEL_ERROR else _WORDS.get(Cause(cause), cause)
    return f"{kind}: {one_line(message)}" if message else kind


def where(regions: Regions | None) -> str:
    """Say where in parameter space simulations failed: `beta >= 0.19: 10 of 10; elsewhere 0 of 90`."""
    if regions is None:
        return ""
    if not regions.regions:
        every = " (every one)" if regions.n_failed == regions.n_of else ", in no region of the parameters"
        return f"{regions.n_failed:,} of {regions.n_of:,}{every}"
    return "; ".join([*map(str, regions.regions), f"elsewhere {regions.n_failed:,} of {regions.n_of:,}"])


def print_one(console: Screen, found: Diagnosis, one: OfOne) -> None:
    """Print everything about one simulation."""
    row = one.row
    if row is None:
        console.say(f"it has no result yet, after {count(len(one.attempts), 'attempt')}")
    elif row["status"] == "completed":
        console.say(f"it has a result, of attempt {row['attempts']}")
    else:
        place = place_of(without_printed(row["traceback"]), found.model_label)
        end = "" if place is None else f" ({place})"
        told = one_line(what_failed(row["cause"], row["error_type"] or "", row["error_message"] or ""), _MOST_CHARS)
        console.say(f"failed: {told}{end}")
    if row is not None:
        _print_row(console, row)
    for attempt in one.attempts:
        _print_fact(console, f"try {attempt['attempt']}", _attempt(attempt))
    if row is not None and row["status"] == "failed":
        _print_stack(console, without_printed(row["traceback"]))
    _print_printed(console, _printed_in(one.attempts), "the end of what it printed")
    task_id = row["task_id"] if row is not None else one.attempts[0]["task_id"]
    _print_fact(console, "debug", found.command("debug", "--only", task_id), is_whole=True)


def print_what_was_printed(console: Screen, table: pa.Table) -> None:
    """Print the last lines of what some simulations printed, each below the set that it is of."""
    for row in table.slice(0, _SHOWN).to_pylist():
        console.say(_identity(row), "bold")
        _print_lines(console, row["printed"].rstrip().splitlines()[-PRINTED_LINES:])
    console.say(f"{count(table.num_rows, 'simulation')} printed something that is kept")
    console.say(f"export all of it with --to FILE{ENDINGS}")


def _identity(row: Mapping[str, Any]) -> str:
    return f"{_parameters(row)}; replicate {row['replicate']}, seed {row['seed']}"


def _parameters(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in parameters_in(row).items() if value is not None)


def _print_row(console: Screen, row: Mapping[str, Any]) -> None:
    _print_fact(console, "task", str(row["task_id"]), is_whole=True)
    _print_fact(console, "set", _identity(row))
    took = [duration(row["seconds"])] if row["seconds"] is not None else []
    took += [f"{format_size(row['peak_bytes'])} of memory"] if row["peak_bytes"] else []
    took += [f"on {row['node']}"] if row["node"] else []
    _print_fact(console, "took", ", ".join(took))


def _attempt(attempt: Mapping[str, Any]) -> str:
    """What is known of one attempt that gave no result."""
    told = what_failed(attempt["cause"], attempt["error_type"] or "", attempt["error_message"] or "")
    memory = f"; {used}" if (used := _used(attempt)) else ""
    killed = f"; killed by {attempt['killed_by']}" if attempt["killed_by"] else ""
    return f"{one_line(told, _MOST_CHARS)}{memory}{killed}; {attempt['follows']}"


def _print_headline(console: Screen, group: Group) -> None:
    console.say(headline(group, console.width), "bold")


def _print_fact(console: Screen, name: str, text: str, *, is_whole: bool = False) -> None:
    """Print a name and a text below each other's; `is_whole` is what is copied, and is not broken into lines."""
    if not text:
        return
    first, more = f"{' ' * _INDENT}{name:<{_NAMES - _INDENT}}", " " * _NAMES
    lines = [first + text] if is_whole else _wrapped(text, console.width, first, more)
    for line in lines:
        console.say(line)


def _wrapped(text: str, width: int, first: str, more: str) -> list[str]:
    text = printable(text)
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=more, break_on_hyphens=False)


def _print_stack(console: Screen, traceback: str | None) -> None:
    lines = [line for line in (traceback or "").rstrip().splitlines() if not _STARTING.match(line)]
    if not any(_FRAME_LINE.match(line) for line in lines):
        return
    _print_fact(console, "stack", "where it was")
    _print_lines(console, lines[-STACK_LINES:])


def _print_printed(console: Screen, printed: str, title: str) -> None:
    lines = printed.rstrip().splitlines()[-PRINTED_LINES:]
    if lines:
        _print_fact(console, "printed", title)
        _print_lines(console, lines)


def _print_lines(console: Screen, lines: Sequence[str]) -> None:
    for line in lines:
        for piece in _cut(line, console.width - _NAMES):
            console.say(" " * _NAMES + piece)


def _cut(line: str, most_chars: int) -> Iterator[str]:
    """A line in pieces of this length: what a model prints may be the one thing that tells."""
    text = printable(line)
    yield text[:most_chars]
    for at in range(most_chars, len(text), most_chars):
        yield text[at : at + most_chars]


def _value(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def why_values(found: Diagnosis) -> dict[str, Any]:
    """The failures of a run as JSON values."""
    return {
        "run_dir": found.run_dir,
        "simulations": found.status.total,
        "completed": found.status.completed,
        "failed": found.status.failed,
        "bound_by": {} if found.pace is None else {str(bound): s for bound, s in found.pace.seconds.items()},
        "groups": [_group_values(found, group) for group in found.groups],
    }


def _group_values(found: Diagnosis, group: Group) -> dict[str, Any]:
    regions = [] if group.regions is None else [str(region) for region in group.regions.regions]
    task_id = found.task_id_of(group)
    return {
        "failed": len(group.rows),
        "cause": group.cause,
        "error_type": group.error_type,
        "message": group.message,
        "place": None if group.place is None else str(group.place),
        "path": None if group.place is None else group.place.path,
        "regions": regions,
        "where": where(group.regions),
        "task_id": task_id,
        "debug": found.command("debug", "--only", task_id),
    }
