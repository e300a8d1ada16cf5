"""What follows from failed attempts, and what is kept of each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelops_ray.core.events import (
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    Node,
    PartCommitted,
    PayloadLost,
    Segment,
    StopRequested,
    SubmitChunk,
    TasksAdded,
    WritePart,
)
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, ChunkReport, Failure, Follows, Killer, Measured
from tests.support.decisions import begun, killed, of
from tests.support.decisions import finished as all_completed

MIB, GIB = 2**20, 2**30


class Run:
    """A run of some simulations of 100 MiB each, whose commits are durable at once; `kept` are its attempts."""

    def __init__(self, n=1, attempts_before=None, **policy):
        self.state = CheckedRun(Policy(**{"memory_bytes": 100 * MIB} | policy), attempts_before=attempts_before)
        self.kept, self.chunks = [], []
        self.tell(CapacityChanged(0.0, Capacity((Node(4.0, 8 * GIB),))))
        self.tell(TasksAdded(0.0, (Segment(0, 0, n),), last=True))

    def together(self):
        """A task of several simulations: of a set, one goes first."""
        self.settle(self.tell(finished(self.chunks[0])))
        return max(self.chunks, key=lambda chunk: len(chunk.positions))

    def tell(self, event):
        """Hand an event over; return the commit that followed, whose rejections are none."""
        write = None
        for action in self.state.handle(event):
            if isinstance(action, SubmitChunk):
                self.chunks.append(action)
            elif isinstance(action, WritePart):
                write = action
                self.kept += [row for each in action.attempts for row in rows(each)]
        return write

    def settle(self, write, now_s=9.0, rejected=()):
        """A commit is durable; return the one that followed."""
        return self.tell(PartCommitted(now_s, write.chunk_ids, rejected))


def rows(attempts):
    """What the rows of attempts say first: the simulation, which attempt it was, why it ended, and what follows."""
    return [
        (position, number, attempts.failure.cause, attempts.follows)
        for position, number in zip(attempts.positions, attempts.numbers, strict=True)
    ]


def died(chunk, now_s=1.0, cause=Cause.WORKER_LOST, **how):
    """A task that died without a report."""
    return ChunkFailed(now_s, chunk.chunk_id, cause, "Died", "it died", **how)


def finished(chunk, *failures, now_s=1.0):
    """A task that returned; all but the failures are results."""
    failed = {failure.position for failure in failures}
    done = tuple(Measured(position, 1.0, 10 * MIB) for position in chunk.positions if position not in failed)
    report = ChunkReport(done, failures, base_bytes=64 * MIB, payload_bytes=1000)
    return ChunkFinished(now_s, chunk.chunk_id, report)


def test_an_attempt_is_kept_with_what_its_task_was_given_and_who_killed_it():
    """And goes with the commit of the result that came of the next one."""
    run = Run(memory_bytes=None)
    [first] = run.chunks
    used_bytes = first.request_bytes + GIB
    run.tell(died(first, 5.0, Cause.OUT_OF_MEMORY, used_bytes=used_bytes, killed_by=Killer.RAY))
    write = run.tell(finished(run.chunks[1], now_s=8.0))

    [kept] = write.attempts
    assert ((0,), (1,), first.limit_bytes, first.request_bytes) == (
        kept.positions, kept.numbers, kept.limit_bytes, kept.request_bytes,
    )  # fmt: skip
    assert (5.0, Follows.RAISED, Killer.RAY) == (kept.noticed_s, kept.follows, kept.failure.killed_by)
    assert (Cause.OUT_OF_MEMORY, "Died", "it died") == (
        kept.failure.cause, kept.failure.error_type, kept.failure.message,
    )  # fmt: skip
    assert kept.failure.peak_bytes > first.limit_bytes
    assert (run.chunks[1].chunk_id,) == write.chunk_ids


@pytest.mark.parametrize(
    ("cause", "how", "kept_cause", "killed_by"),
    [
        (Cause.CRASHED, {"kernel_killed": True}, Cause.OUT_OF_MEMORY, Killer.KERNEL),
        (Cause.CRASHED, {"kernel_killed": False}, Cause.CRASHED, None),
        (Cause.NODE_LOST, {}, Cause.NODE_LOST, None),
    ],
)
def test_who_killed_a_task_is_said_where_it_is_known(cause, how, kept_cause, killed_by):
    """The kernel counts its own kills."""
    run = Run(n=1, attempts=1)
    write = run.tell(died(run.chunks[0], cause=cause, **how))
    [kept] = write.attempts
    assert (kept_cause, killed_by) == (kept.failure.cause, kept.failure.killed_by)


def test_of_several_that_died_together_each_attempt_is_kept():
    """Which was at fault cannot be told; each half tries again."""
    run = Run(n=5, chunk=4)
    run.tell(died(run.together(), cause=Cause.CRASHED, kernel_killed=False))
    run.settle(run.tell(StopRequested(2.0, "enough")))
    assert [(position, 1, Cause.CRASHED, Follows.RETRIED) for position in range(1, 5)] == run.kept


def test_one_that_overran_and_took_its_node_along_is_told_from_its_victims():
    """The victims were lost with the node."""
    run = Run(n=4, chunk=3, supervised=True)
    run.tell(died(run.together(), cause=Cause.NODE_LOST, excess=((2, GIB),), address="10.0.0.7"))
    run.settle(run.tell(StopRequested(2.0, "enough")))
    assert [(2, Cause.OUT_OF_MEMORY), (1, Cause.NODE_LOST), (3, Cause.NODE_LOST)] == [
        (position, cause) for position, _, cause, _ in run.kept
    ]


def test_a_failure_is_committed_with_its_last_attempt_and_every_one_before_it():
    """The numbers count on, and only the last one says that it failed."""
    run = Run(attempts=3)
    write = None
    while write is None:
        write = run.tell(died(run.chunks[-1], cause=Cause.CRASHED, kernel_killed=False))
    assert [(0, 1, Follows.RETRIED), (0, 2, Follows.RETRIED), (0, 3, Follows.FAILED)] == [
        (position, number, follows) for position, number, _, follows in run.kept
    ]
    assert [3] == [failure.attempts for failure in write.failures]


def test_what_ends_in_a_result_at_once_is_not_kept():
    """There is nothing to say of it."""
    run = Run()
    assert () == run.tell(finished(run.chunks[0])).attempts


def test_an_attempt_whose_outputs_were_lost_gave_no_result():
    """The next one has the next number, also where it is the same as one that failed before."""
    run = Run()
    run.tell(died(run.chunks[0]))
    run.tell(finished(run.chunks[1]))
    run.tell(PayloadLost(2.0, run.chunks[1].chunk_id))
    run.tell(PartCommitted(2.0, ()))
    write = run.tell(finished(run.chunks[2], now_s=3.0))
    assert [(1,), (2,), (3,)] == [chunk.attempts for chunk in run.chunks]
    assert [(0, 1, Cause.WORKER_LOST, Follows.RETRIED), (0, 2, Cause.WORKER_LOST, Follows.RETRIED)] == run.kept
    assert "OutputsLost" == write.attempts[0].failure.error_type


def test_an_attempt_whose_outputs_do_not_fit_failed():
    """It is committed with the failure that it is."""
    run = Run()
    run.tell(died(run.chunks[0]))
    write = run.tell(finished(run.chunks[1]))
    misfit = Failure(0, Cause.BAD_OUTPUT, "ColumnMismatch", "text in a column of numbers", attempts=2, request_bytes=7)
    write = run.settle(write, rejected=(misfit,))
    assert [(0, 1, Cause.WORKER_LOST, Follows.RETRIED), (0, 2, Cause.BAD_OUTPUT, Follows.FAILED)] == run.kept
    [kept] = write.attempts
    assert (run.chunks[1].limit_bytes, 7) == (kept.limit_bytes, kept.request_bytes)
    assert (misfit,) == write.failures


def test_an_attempt_that_is_interrupted_is_none():
    """It was neither a result nor judged: the next one has its number."""
    run = Run(n=8)
    assert run.tell(StopRequested(1.0, "Ctrl-C")) is None
    assert (0, []) == (run.state.counters.attempts, run.kept)


def test_numbers_count_on_from_earlier_sessions():
    """So that each attempt of a simulation has one number, however often the run was begun."""
    run = Run(attempts_before={0: 4}, attempts=1)
    assert (5,) == run.chunks[0].attempts
    write = run.tell(died(run.chunks[0], cause=Cause.CRASHED, kernel_killed=False))
    assert [(0, 5, Cause.CRASHED, Follows.FAILED)] == run.kept
    assert [5] == [failure.attempts for failure in write.failures]


def test_a_storm_of_losses_is_committed_before_much_of_it_waits():
    """However slow commits are: what waits is bounded as outputs are, and no more is submitted until less does."""
    run = Run(n=10_000, chunk=250, window=20, commit_bytes=MIB // 2, payload_budget_bytes=64 * MIB, timeout_s=0.0)
    run.settle(run.tell(finished(run.chunks[0])))
    budget_bytes, most_bytes, write, at, n_commits = run.state.policy.payload_budget_bytes, 0, None, 1, 0
    while n_commits < 10:
        if at < len(run.chunks):
            found = run.tell(died(run.chunks[at], 1.0 + at, Cause.NODE_LOST))
            at += 1
        else:
            n_commits += 1
            found = run.settle(write, 1.0 + at)
        write = found or write
        most_bytes = max(most_bytes, run.state.journal.unwritten_bytes)
    assert budget_bytes / 2 < most_bytes < 1.1 * budget_bytes
    assert 10 * budget_bytes / 1000 < len(run.kept)


def test_a_traceback_is_kept_with_the_simulation_only():
    """An attempt has its message and what it printed."""
    run = Run()
    failure = Failure(0, Cause.MODEL_ERROR, "ValueError", "no", "Traceback ...", 1.0, printed="hello")
    write = run.tell(finished(run.chunks[0], failure))
    [kept], [failed] = write.attempts, write.failures
    assert (replace(failure, traceback=None), "Traceback ...") == (kept.failure, failed.traceback)


def test_an_overrun_is_repeated_first_and_with_at_least_half_as_much_again():
    """Seen above its request, a simulation is to blame and asks for more."""
    state, actions = begun(n=1, memory_bytes=200 * MIB)
    chunk = of(SubmitChunk, actions)[0]
    again = of(SubmitChunk, state.handle(killed(chunk, used_bytes=chunk.request_bytes + 1)))[0]
    assert chunk.positions == again.positions
    assert again.limit_bytes >= 300 * MIB
    assert (2,) == again.attempts


def test_the_victim_is_repeated_as_it_was_and_once_only():
    """Killed within its request, a simulation keeps its request; seen again, it is taken for the culprit."""
    state, actions = begun(n=1, memory_bytes=200 * MIB)
    chunk = of(SubmitChunk, actions)[0]
    again = of(SubmitChunk, state.handle(killed(chunk, used_bytes=1)))[0]
    assert (chunk.positions, chunk.limit_bytes) == (again.positions, again.limit_bytes)
    third = of(SubmitChunk, state.handle(killed(again, used_bytes=1)))[0]
    assert third.limit_bytes >= 300 * MIB


def test_an_overrun_at_the_largest_node_is_a_failure_that_says_how_much_it_wanted():
    """There is nothing larger to ask for."""
    state, actions = begun(n=1, memory_bytes=7 * GIB)
    for _ in range(5):
        chunks = of(SubmitChunk, actions)
        if not chunks:
            break
        actions = state.handle(killed(chunks[0], used_bytes=chunks[0].request_bytes + 1))
    failure = of(WritePart, actions)[0].failures[0]
    assert Cause.OUT_OF_MEMORY == failure.cause
    assert "needs more than" in failure.message
    assert "the most there is here" in failure.message


def test_several_simulations_killed_together_are_tried_in_halves():
    """Whose fault it was cannot be told."""
    state, actions = begun(n=8, memory_bytes=100 * MIB, chunk=8)
    chunk = of(SubmitChunk, actions)[0]
    halves = of(SubmitChunk, state.handle(killed(chunk, Cause.CRASHED)))
    assert [chunk.positions[:4], chunk.positions[4:]] == [half.positions for half in halves]


def test_a_lost_node_costs_nothing_while_others_progress():
    """Twenty losses in a row do not make a failure."""
    state, actions = begun(n=4, memory_bytes=100 * MIB, attempts=2)
    chunk = of(SubmitChunk, actions)[0]
    for _ in range(20):
        chunk = of(SubmitChunk, state.handle(killed(chunk, Cause.NODE_LOST)))[0]
    assert (0, 20) == (state.counters.failed, state.counters.infrastructure_retries)


def test_a_crash_that_the_kernel_did_not_cause_keeps_its_request_and_spends_the_budget():
    """A segmentation fault does not need more memory."""
    state, actions = begun(n=1, memory_bytes=100 * MIB, attempts=3)
    for _ in range(3):
        chunk = of(SubmitChunk, actions)[0]
        assert 100 * MIB == chunk.limit_bytes
        actions = state.handle(killed(chunk, Cause.CRASHED, kernel_killed=False))
    assert [Cause.CRASHED] == [failure.cause for failure in of(WritePart, actions)[0].failures]


def test_two_simulations_that_kill_their_workers_do_not_keep_each_other_free_of_blame():
    """Nothing else is left that could make progress."""
    state, actions = begun(n=4, supervised=True, memory_bytes=100 * MIB, attempts=3)
    first, second, *others = of(SubmitChunk, actions)
    queue = [first, second]
    for chunk in others:
        state.handle(all_completed(chunk))
    for _ in range(20):
        if not queue:
            break
        queue += of(SubmitChunk, state.handle(killed(queue.pop(0), Cause.CRASHED)))
    assert (2, 2) == (state.counters.failed, state.counters.completed)


@pytest.mark.parametrize("cause", [Cause.CRASHED, Cause.OUT_OF_MEMORY])
def test_the_end_of_a_worker_that_only_supervises_costs_a_simulation_nothing(cause):
    """It ran in a process of its own: another worker repeats it with what it had, while others make progress."""
    state, actions = begun(n=4, supervised=True, memory_bytes=100 * MIB, attempts=2, window=10)
    (first, *others) = of(SubmitChunk, actions)
    for now_s in range(1, 6):
        actions = state.handle(ChunkFailed(float(now_s), first.chunk_id, cause, "Killed", "the worker died"))
        (again,) = of(SubmitChunk, actions)
        assert (first.positions, first.request_bytes) == (again.positions, again.request_bytes)
        first = again
    assert others
    assert 0 == state.counters.failed


def test_simulations_that_are_simply_too_large_fail_one_by_one_with_their_size():
    """However many there are: nobody else uses the memory."""
    node = Capacity((Node(1.0, 8 * GIB),))
    state, actions = begun(n=250, memory_bytes=7 * GIB, capacity=node, max_failures=1000, chunk=1)
    queue = of(SubmitChunk, actions)
    while queue:
        chunk = queue.pop(0)
        queue += of(SubmitChunk, state.handle(killed(chunk, used_bytes=chunk.request_bytes + 1)))
    assert (250, False) == (state.counters.failed, state.is_ending)
