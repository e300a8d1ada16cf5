"""What a run of a schedule must have come to; each violation is a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from modelops_ray.core.events import Ending
from modelops_ray.core.reasons import AllFailAlike, KilledInVain, TooMuchMemory
from modelops_ray.core.report import Cause, Follows
from tests.world.cluster import Record, play
from tests.world.schedule import Fate, Schedule, draw


def violations(schedule: Schedule) -> list[str]:
    """Play a schedule and list what is wrong with what it came to."""
    try:
        record = play(schedule)
    except AssertionError as error:
        return [str(error).splitlines()[0]]
    return list(_found(schedule, record))


def _found(schedule: Schedule, record: Record) -> Iterator[str]:
    yield from record.late
    yield from record.idle
    yield from _rows(schedule, record)
    yield from _memory(schedule, record)
    yield from _attempts(record)


def _rows(schedule: Schedule, record: Record) -> Iterator[str]:
    finish = record.finishes[-1]
    twice = [position for position, n in record.rows.items() if n != 1]
    if twice:
        yield f"simulations {twice} have more than one row"
    if finish.ending is Ending.COMPLETE and len(record.rows) != len(schedule.simulations):
        yield f"it is complete with {len(record.rows)} of {len(schedule.simulations)} rows"
    if finish.ending is not Ending.COMPLETE and not _may_give_up(schedule, record):
        yield f"it gave up: {finish.reason}"
    for position in record.rows:
        fate = schedule.simulations[position].fate
        if position not in record.failures and fate not in (Fate.COMPLETES, Fate.CRASHES_ONCE):
            yield f"simulation {position}, which {fate}, has a result"


def _may_give_up(schedule: Schedule, record: Record) -> bool:
    """Whether a run may end before everything is done."""
    match record.finishes[-1].reason:
        case AllFailAlike():
            return True
        case KilledInVain():
            return not any(schedule.is_feasible(one.need_bytes) for one in schedule.simulations)
        case TooMuchMemory(memory_bytes=memory_bytes):
            return not schedule.is_feasible(memory_bytes)
        case _:
            return False


def _memory(schedule: Schedule, record: Record) -> Iterator[str]:
    attempts = schedule.policy.attempts
    for position, failure in record.failures.items():
        need = schedule.simulations[position].need_bytes
        is_excused = attempts == 1 or record.victims[position] >= 1
        if failure.cause is Cause.OUT_OF_MEMORY and schedule.is_feasible(need) and not is_excused:
            yield f"simulation {position} needs {need:,} bytes, which there are, and failed: {failure.message}"
    for position, limits in record.overruns.items():
        for (earlier, _), (later, is_all) in pairwise(limits):
            if later < 1.5 * earlier - 2 and not is_all:
                yield f"simulation {position} overran {earlier:,} bytes and was given {later:,}"
        if len(limits) > attempts + 2 + len(schedule.happenings) * 2 + len(record.finishes):
            yield f"simulation {position} overran {len(limits)} times with {attempts} attempts"


def _attempts(record: Record) -> Iterator[str]:
    """Each attempt that gave no result has one row, which says what happened; the last one of a failure ends it."""
    said = {key: (cause, limit_bytes) for key, (cause, limit_bytes, _) in record.attempts.items()}
    for key in sorted(said.items() ^ record.ended.items()):
        yield f"attempt {key[0]} ended as {record.ended.get(key[0])}, and its row says {said.get(key[0])}"
    last = {key for key, (_, _, follows) in record.attempts.items() if follows is Follows.FAILED}
    if last != {(position, failure.attempts) for position, failure in record.failures.items()}:
        yield f"attempts {sorted(last)} are said to be the last of failures, which are {sorted(record.failures)}"
    for (position, number), (cause, _, follows) in record.attempts.items():
        if number > 1 and (position, number - 1) not in record.attempts:
            yield f"attempt {number} of simulation {position} has a row, and the one before it has none"
        if follows is Follows.RAISED and cause not in (Cause.OUT_OF_MEMORY, Cause.CRASHED):
            yield f"simulation {position} was given more memory after attempt {number}, which ended as {cause}"


def check(seed: int) -> list[str]:
    """List what is wrong with the run of a seed."""
    return violations(draw(seed))
