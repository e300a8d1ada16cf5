"""Why simulations failed, in sentences: the first lines that a run with failures ends with, and all that `why` tells.

Owns the words and the layout. What is alike, and where it is, is found in `diagnosis`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelops_ray.core.places import place_of
from modelops_ray.core.report import Cause
from modelops_ray.diagnosis.diagnosis import Diagnosis, OfOne, parameters_in
from modelops_ray.diagnosis.groups import Group, without_printed
from modelops_ray.diagnosis.regions import Regions
from modelops_ray.report.screen import Screen
from modelops_ray.report.text import count, duration, format_size, number, one_line, printable

MOST_GROUPS = 5
PRINTED_LINES = 20
STACK_LINES = 24
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
_FRAME_LINE = re.compile(r'\s*File "')


def print_first_lines(console: Screen, found: Diagnosis) -> None:
    """Print what failed, where in the model and where in parameter space: two lines for each of the largest groups."""
    for group in found.groups[:MOST_GROUPS]:
        _print_headline(console, group)
        _print_fact(console, "where", where(group.regions))
    if len(found.groups) > MOST_GROUPS:
        console.say(f"and {count(len(found.groups) - MOST_GROUPS, 'other kind')} of failure")


def print_why(console: Screen, found: Diagnosis, printed: Mapping[str, str]) -> None:
    """Print all that is known of why a run ended as it did; `printed` is what simulations printed, by task_id."""
    if not found.groups:
        _print_no_failures(console, found)
    for at, group in enumerate(found.groups):
        if at:
            console.say()
        _print_group(console, found, group, printed.get(found.task_id_of(group), ""))
    if found.groups:
        console.say()
        _print_fact(console, "then", f"{found.command('run')} --retry-failed", is_whole=True)


def _print_no_failures(console: Screen, found: Diagnosis) -> None:
    state = found.status
    console.say(f"nothing failed: {state.completed:,} of {count(state.total, 'simulation')} have a result")


def _print_group(console: Screen, found: Diagnosis, group: Group, printed: str) -> None:
    _print_headline(console, group)
    message = one_line(group.message, _MOST_CHARS)
    if message and message not in headline(group, console.width):
        _print_fact(console, "message", message)
    if group.place is not None:
        _print_fact(console, "line", f"{group.place.path}:{group.place.line}", is_whole=True)
    _print_fact(console, "where", where(group.regions))
    if group.cause == Cause.TIMEOUT:
        _print_stack(console, without_printed(found.failures["traceback"][group.rows[0]].as_py()))
    task_id = found.task_id_of(group)
    _print_printed(console, printed, f"the end of what {task_id[:_NAMES]}… printed")
    _print_fact(console, "debug", found.command("debug", "--only", task_id), is_whole=True)


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
    printed = [each["printed"] for each in one.attempts if each["printed"]]
    _print_printed(console, printed[-1] if printed else "", "the end of what it printed")
    task_id = row["task_id"] if row is not None else one.attempts[0]["task_id"]
    _print_fact(console, "debug", found.command("debug", "--only", task_id), is_whole=True)


def _print_row(console: Screen, row: Mapping[str, Any]) -> None:
    _print_fact(console, "task", str(row["task_id"]), is_whole=True)
    values = ", ".join(f"{name}={_value(value)}" for name, value in parameters_in(row).items() if value is not None)
    _print_fact(console, "set", f"{values}; replicate {row['replicate']}, seed {row['seed']}")
    took = [duration(row["seconds"])] if row["seconds"] is not None else []
    took += [f"{format_size(row['peak_bytes'])} of memory"] if row["peak_bytes"] else []
    took += [f"on {row['node']}"] if row["node"] else []
    _print_fact(console, "took", ", ".join(took))


def _attempt(attempt: Mapping[str, Any]) -> str:
    """What is known of one attempt that gave no result."""
    told = what_failed(attempt["cause"], attempt["error_type"] or "", attempt["error_message"] or "")
    peak, limit = (attempt[name] and format_size(attempt[name]) for name in ("peak_bytes", "limit_bytes"))
    memory = f"; used {peak} of {limit}" if peak and limit else ""
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
    lines = (traceback or "").rstrip().splitlines()
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
