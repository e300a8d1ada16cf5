"""A few of the faults that `python -m tests.chaos` does by the hundred, on a real run on a real Ray."""

from tests.chaos.play import play
from tests.chaos.schedule import Fault, Kind, Schedule, draw

FAULTS = (
    Fault(Kind.KILL_CHILD, after_s=0.3, lasts_s=0.0, at_once=False, chance=0.5),
    Fault(Kind.STOP_SERVER, after_s=0.5, lasts_s=0.5, at_once=True, chance=0.5),
    Fault(Kind.KILL_WORKER, after_s=1.0, lasts_s=0.0, at_once=True, chance=0.5),
    Fault(Kind.KILL_DRIVER, after_s=0.5, lasts_s=0.0, at_once=True, chance=0.5),
)


def test_a_run_that_is_harmed_again_and_again_gives_what_its_model_gives():
    """A child, a fork server, a worker, the driver: nothing is lost, doubled or left, and exit codes are right."""
    schedule = Schedule(seed=0, n_sets=40, n_replicates=2, has_failures=True, faults=FAULTS)
    story = play(schedule, len(FAULTS))
    assert [] == story.violations, "\n".join([str(schedule), *story.told])
    assert len(story.wounds) >= 3


def test_a_seed_is_the_same_schedule_each_time():
    """Whoever plays it again does the same faults."""
    assert str(draw(7)) == str(draw(7)) != str(draw(8))
