"""A model of which nothing is known is tried by one simulation before the others of a large study."""

import pytest

from modelops_ray.core.events import (
    Capacity,
    CapacityChanged,
    ChunkFinished,
    Ending,
    Finish,
    Node,
    Segment,
    SubmitChunk,
    TasksAdded,
    Ticked,
)
from modelops_ray.core.policy import Policy
from modelops_ray.core.reasons import AllFailAlike
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured
from modelops_ray.core.state import RunState

GIB = 2**30
POLICY = Policy(trial_wait_s=60.0)


def begun(n=100, policy=POLICY, **known):
    """A run of simulations, each of a set of its own, on sixteen CPUs; with what was submitted."""
    state = RunState(policy, **known)
    state.handle(CapacityChanged(0.0, Capacity((Node(16.0, 64 * GIB),))))
    actions = state.handle(TasksAdded(0.0, tuple(Segment(at, at, at + 1) for at in range(n)), last=True))
    return state, submitted(actions)


def submitted(actions):
    """The chunks among actions."""
    return [action for action in actions if isinstance(action, SubmitChunk)]


def failed(chunk, cause=Cause.MODEL_ERROR, error_type="NameError"):
    """The end of a chunk whose simulation failed."""
    failure = Failure(chunk.positions[0], cause, error_type, "name 'parms' is not defined")
    return ChunkFinished(1.0, chunk.chunk_id, ChunkReport((), (failure,)))


def completed(chunk, now_s=1.0):
    """The end of a chunk whose simulations completed."""
    measured = tuple(Measured(position, 1.0, 10 * 2**20) for position in chunk.positions)
    return ChunkFinished(now_s, chunk.chunk_id, ChunkReport(measured))


def test_one_simulation_runs_alone_until_it_has_ended():
    """The others are submitted when it has completed; the next one runs twice, and no other does."""
    state, first = begun()
    after = submitted(state.handle(completed(first[0])))

    assert [1] == [len(chunk.positions) for chunk in first]
    assert [] == submitted(RunState.handle(begun()[0], Ticked(59.0)))
    assert len(after) > 1
    assert [True] + [False] * (len(after) - 1) == [chunk.has_twin for chunk in after]
    assert 1 == len(after[0].positions)
    assert not first[0].has_twin


@pytest.mark.parametrize(("cause", "error_type"), [(Cause.MODEL_ERROR, "NameError"), (Cause.BAD_OUTPUT, "BadOutput")])
def test_a_plain_error_of_the_first_one_ends_the_run(cause, error_type):
    """It costs one simulation."""
    state, first = begun()
    actions = state.handle(failed(first[0], cause, error_type))
    finish = state._ending

    assert [] == submitted(actions)
    assert (Ending.GAVE_UP, 1) == (finish.ending, finish.reason.n_failed)
    assert isinstance(finish, Finish)
    assert isinstance(finish.reason, AllFailAlike)


@pytest.mark.parametrize(("cause", "error_type"), [(Cause.MODEL_ERROR, "ValueError"), (Cause.TIMEOUT, "Timeout")])
def test_another_failure_of_the_first_one_ends_nothing(cause, error_type):
    """It may be a matter of its parameters: the first twenty have to fail alike, as without a trial."""
    state, first = begun()
    actions = state.handle(failed(first[0], cause, error_type))

    assert not state.is_ending
    assert len(submitted(actions)) > 1
    assert not any(chunk.has_twin for chunk in submitted(actions))


def test_a_plain_error_after_a_result_ends_nothing():
    """The model can work."""
    state, first = begun()
    after = submitted(state.handle(completed(first[0])))
    state.handle(failed(after[0]))

    assert not state.is_ending


def test_the_others_do_not_wait_longer_than_a_minute():
    """A long simulation delays the others by no more than that."""
    state, _ = begun()

    assert [] == submitted(state.handle(Ticked(59.9)))
    assert len(submitted(state.handle(Ticked(60.0)))) > 1


@pytest.mark.parametrize(
    ("n", "policy", "known"),
    [
        (20, POLICY, {}),
        (100, Policy(), {}),
        (100, Policy(trial_wait_s=60.0, max_failures=5), {}),
        (100, POLICY, {"known_seconds": 1.0}),
        (100, POLICY, {"n_completed_before": 1}),
    ],
    ids=["few simulations", "not asked for", "the user says how many may fail", "known", "has results"],
)
def test_there_is_no_trial_where_it_is_not_worth_it(n, policy, known):
    """Few simulations cost no more than the trial; a model that has completed one is known to work."""
    state, chunks = begun(n, policy, **known)
    state.handle(failed(chunks[0]))

    assert len(chunks) > 1
    assert not state.is_ending


def test_one_alone_is_tried_also_where_memory_and_chunks_are_given():
    """Neither makes the first chunk larger."""
    _, chunks = begun(policy=Policy(trial_wait_s=60.0, memory_bytes=GIB, chunk=10))

    assert [1] == [len(chunk.positions) for chunk in chunks]


def test_a_trial_begins_with_the_first_simulations():
    """The time without any is no part of it."""
    state = RunState(POLICY)
    state.handle(CapacityChanged(0.0, Capacity((Node(16.0, 64 * GIB),))))
    state.handle(Ticked(100.0))
    added = TasksAdded(200.0, tuple(Segment(at, at, at + 1) for at in range(21)), last=True)

    assert 1 == len(submitted(state.handle(added)))
    assert [] == submitted(state.handle(Ticked(259.0)))
    assert len(submitted(state.handle(Ticked(260.0)))) > 1
