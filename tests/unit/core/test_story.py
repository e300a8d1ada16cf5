"""What a run remembers of one simulation, and how much it remembers at most."""

from modelops_ray.core.events import (
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    ClusterSaid,
    Node,
    PartCommitted,
    Segment,
    SubmitChunk,
    TasksAdded,
    WritePart,
)
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured
from modelops_ray.core.retry import Judgement, Verdict
from modelops_ray.core.state import RunState
from modelops_ray.core.story import ENTRIES_KEPT, ITEMS_PER_PLACE, JUDGEMENTS_KEPT, TROUBLED_KEPT, Known, Story

GIB = 2**30
KNOWN = Known(0, 0, 0, 0, 0, 1.0)


def started(**policy):
    """A run of ten simulations on one node, and the chunk of each by its position."""
    state = RunState(Policy(memory_bytes=GIB, chunk=1, **policy))
    state.handle(CapacityChanged(0.0, Capacity((Node(4.0, 8 * GIB),))))
    actions = state.handle(TasksAdded(0.0, (Segment(0, 0, 10),), last=True))
    return state, {each.positions[0]: each for each in actions if isinstance(each, SubmitChunk)}


def judged(position):
    """A judgement of one simulation."""
    return Judgement((position,), Cause.CRASHED, Verdict.REPEAT, GIB, 2 * GIB)


def test_the_story_of_a_simulation_has_its_events_and_decisions_in_order_and_no_other():
    """From its submission to its commit, with a retry after a crash in between."""
    state, chunks = started()
    crash = ChunkFailed(1.0, chunks[0].chunk_id, Cause.CRASHED, "Crash", "exit code 139", kernel_killed=False)
    [again] = [each for each in state.handle(crash) if isinstance(each, SubmitChunk)]
    finished = ChunkFinished(2.0, again.chunk_id, ChunkReport((Measured(0, 1.0, 2**20),), payload_bytes=10))
    [write] = [each for each in state.handle(finished) if isinstance(each, WritePart)]
    committed = PartCommitted(3.0, write.chunk_ids)
    state.handle(committed)
    steps = state.story.of(0)
    assert [chunks[0], crash, again, finished, committed] == [
        step.what for step in steps if not isinstance(step.what, Judgement)
    ]
    [judgement] = [step.what for step in steps if isinstance(step.what, Judgement)]
    assert (Cause.CRASHED, Verdict.REPEAT, 1) == (judgement.cause, judgement.verdict, judgement.history.blamed)
    assert [chunks[1]] == [step.what for step in state.story.of(1)]


def test_each_step_has_what_was_known_when_it_was_decided():
    """Of the second decision: one peak was measured."""
    state, chunks = started()
    report = ChunkReport((Measured(0, 1.0, 3 * 2**20),))
    state.handle(ChunkFinished(1.0, chunks[0].chunk_id, report))
    before, after = state.story.of(0)[:2]
    assert (0, 1, 3 * 2**20) == (before.known.n_measured, after.known.n_measured, after.known.peak_bytes_max)


def test_what_was_decided_on_a_simulation_in_trouble_is_kept_when_its_events_are_gone():
    """The last judgements of the simulations judged last."""
    story = Story()
    for index in range(3 * JUDGEMENTS_KEPT):
        story.note((ClusterSaid(float(index), "x"), judged(7), *KNOWN))
        story.keep_judged()
    for index in range(ENTRIES_KEPT):
        story.note((ClusterSaid(1000.0 + index, "x"), [], *KNOWN))
    assert [float(at) for at in range(2 * JUDGEMENTS_KEPT, 3 * JUDGEMENTS_KEPT)] == [s.now_s for s in story.of(7)]
    for position in range(100, 100 + TROUBLED_KEPT):
        story.note((ClusterSaid(5000.0, "x"), judged(position), *KNOWN))
        story.keep_judged()
    assert [] == story.of(7)


def test_a_judgement_whose_event_is_still_kept_is_told_once():
    """It is in both records, and stands beside what else was decided on that event."""
    story = Story()
    again = SubmitChunk(1, (7,), (2,), 2 * GIB, GIB)
    story.note((ClusterSaid(1.0, "x"), [judged(7), again], *KNOWN))
    story.keep_judged()
    assert [judged(7), again] == [step.what for step in story.of(7)]


def test_large_chunks_leave_room_for_few():
    """The finished simulations that a story names are bounded, however many a chunk has."""
    state = RunState(Policy(memory_bytes=GIB, chunk=5_000, window=1))
    actions = state.handle(CapacityChanged(0.0, Capacity((Node(4.0, 8 * GIB),))))
    actions += state.handle(TasksAdded(0.0, (Segment(0, 0, 200_000),), last=True))
    while actions:
        match actions.pop(0):
            case SubmitChunk(chunk_id=chunk_id, positions=positions):
                report = ChunkReport(tuple(Measured(position, 1.0, 2**20) for position in positions))
                actions += state.handle(ChunkFinished(1.0, chunk_id, report))
            case WritePart(chunk_ids=chunk_ids):
                actions += state.handle(PartCommitted(1.0, chunk_ids))
    assert 200_000 == state.counters.committed
    kept = [entry.event for entry in state.story.last(ENTRIES_KEPT)]
    named = [len(event.report.completed) for event in kept if isinstance(event, ChunkFinished)]
    assert 60_000 <= sum(named) <= ENTRIES_KEPT * ITEMS_PER_PLACE


def test_long_tracebacks_leave_room_for_few():
    """A hundred bytes of text count as one simulation."""
    state, chunks = started(max_failures=1000)
    for position in range(10):
        failure = Failure(position, Cause.MODEL_ERROR, "ValueError", "x" * 2_000_000)
        report = ChunkReport((), (failure,))
        actions = state.handle(ChunkFinished(1.0, chunks[position].chunk_id, report))
        chunks |= {each.positions[0]: each for each in actions if isinstance(each, SubmitChunk)}
    assert 10 == state.counters.failed
    assert 5 >= sum(isinstance(entry.event, ChunkFinished) for entry in state.story.last(ENTRIES_KEPT))
