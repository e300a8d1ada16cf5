"""Every exception of Ray has a decision, and the decision is the one a run needs."""

import inspect

import pytest

from modelops_ray.backends.ray.errors import VERDICTS, classify, killer, node_says, used_bytes
from modelops_ray.core.report import Cause, Killer
from modelops_ray.errors import BackendError, ModelError, NodeError, StorageError, first_line


def ray_exceptions() -> dict[str, type[BaseException]]:
    """All exception classes that Ray defines."""
    from ray import exceptions

    members = inspect.getmembers(exceptions, inspect.isclass)
    return {
        name: each
        for name, each in members
        if issubclass(each, BaseException) and each.__module__ == exceptions.__name__
    }


def made(name: str, *args: object) -> BaseException:
    """An instance of one of Ray's classes, without its own constructor, whose arguments differ from class to class."""
    cls = ray_exceptions()[name]
    error = cls.__new__(cls)
    error.args = args
    return error


def raised(cause: Exception) -> BaseException:
    """What the driver gets when a task raised."""
    from ray.exceptions import RayTaskError

    return RayTaskError("task", "Traceback ...\nKeyError: 'here'", cause).as_instanceof_cause()


def test_every_exception_class_of_ray_has_a_decision():
    """A newer Ray with a class that is not handled fails here, and not in a run."""
    assert set() == set(ray_exceptions()) - set(VERDICTS)


def test_the_table_names_no_class_that_ray_does_not_have():
    """A misspelt name would silently never match."""
    assert set() == set(VERDICTS) - set(ray_exceptions())


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("OutOfMemoryError", Cause.OUT_OF_MEMORY),
        ("WorkerCrashedError", Cause.CRASHED),
        ("NodeDiedError", Cause.NODE_LOST),
        ("TaskUnschedulableError", Cause.UNSCHEDULABLE),
        ("ObjectReconstructionFailedError", Cause.WORKER_LOST),
        ("OwnerDiedError", Cause.WORKER_LOST),
        ("TaskCancelledError", Cause.WORKER_LOST),
    ],
)
def test_what_happened_to_a_worker_is_a_cause(name, cause):
    """The chunk failed, the run goes on."""
    assert cause == classify(made(name))


def test_a_subclass_that_is_not_in_the_table_means_what_its_base_means():
    """A newer Ray may refine what it raises."""
    from ray.exceptions import WorkerCrashedError

    class WorkerCrashedNicelyError(WorkerCrashedError):
        pass

    assert classify(WorkerCrashedNicelyError()) == Cause.CRASHED


def test_a_full_spill_disk_ends_the_run_with_the_remedy():
    """Every further chunk would fail alike."""
    with pytest.raises(StorageError, match="make room there"):
        classify(made("OutOfDiskError"))


def test_a_failure_of_ray_itself_is_told_in_one_line():
    """The message of Ray may have many lines."""
    error = made("RaySystemError")
    error.client_exc, error.traceback_str = "gone\nlong story", None
    with pytest.raises(BackendError, match=r"^Ray failed: RaySystemError: .*gone$"):
        classify(error)


def test_a_memory_error_outside_of_a_simulation_is_out_of_memory():
    """It leads to a larger request, as one inside does."""
    assert classify(raised(MemoryError())) == Cause.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("name", "who"),
    [("OutOfMemoryError", Killer.RAY), ("WorkerCrashedError", None), ("NodeDiedError", None), ("RayTaskError", None)],
)
def test_only_rays_memory_monitor_says_that_it_was_it(name, who):
    """Of other ends it is not known who sent the signal, if there was one."""
    assert who is killer(made(name, "killed"))


def test_a_model_error_in_the_worker_is_a_model_error_in_the_driver():
    """Its message arrives as it was written."""
    with pytest.raises(ModelError, match=r"^no function f in the model$"):
        classify(raised(ModelError("no function f in the model")))


@pytest.mark.parametrize("cause", [NodeError("node a has no disk"), OSError(28, "no space left", "/tmp/x")])
def test_what_one_node_lacks_is_not_the_end_of_a_run_on_several(cause):
    """Another node may have it; what is the matter is told."""
    assert classify(raised(cause)) == Cause.WORKER_LOST
    assert node_says(raised(cause)) == str(cause)


def test_only_a_node_that_lacks_something_has_something_to_say():
    """Other ends of a chunk have sentences of their own."""
    assert ["", ""] == [node_says(raised(KeyError("here"))), node_says(made("WorkerCrashedError"))]


def test_anything_else_raised_in_the_worker_is_our_own_failure():
    """It names the exception by the last line of the remote traceback."""
    with pytest.raises(BackendError, match="before it could simulate: KeyError: 'here'"):
        classify(raised(KeyError("here")))


def test_the_first_line_that_says_something_is_the_message():
    """Empty lines are skipped, and an empty message becomes the class."""
    assert [first_line(ValueError(text)) for text in ("\n a \nb", "")] == ["a", "ValueError"]


SWEEP = """2 worker(s) were killed due to the node running low on memory.
Considered workers: [
Selected to kill: (Task: job ID=01, lease ID=00, task name=chunk-1, required resources={CPU: 1}, pid=363, actual memory used=0.06GB, worker ID=1)
Selected to kill: (Task: job ID=01, lease ID=01, task name=chunk-1, required resources={CPU: 1}, pid=362, actual memory used=1.25GB, worker ID=5)
]
Top 10 memory users: PID\tMEM(GB)\tCOMMAND
362\t1.25\tray::chunk-1
302\t0.10\tray::DashboardAgent
363\t0.06\tray::chunk-12
"""  # noqa: E501


@pytest.mark.parametrize("message", [SWEEP, SWEEP.replace("\n", ";")])
def test_the_memory_of_a_killed_task_is_found_by_its_process_title(message):
    """Ray's list of the killed names whichever task asked for the worker first; both say chunk-1 here."""
    assert [used_bytes(message, name) for name in ("chunk-1", "chunk-12")] == [int(1.25 * 2**30), int(0.06 * 2**30)]


def test_the_memory_of_a_task_that_is_not_in_the_message_is_unknown():
    """Ray lists the ten largest users only."""
    assert used_bytes(SWEEP, "chunk-2") is None
