"""A study as a source: what is not done, in study order, in batches, and then the end."""

from modelops_ray.core.events import Segment
from modelops_ray.core.ranges import Ranges
from modelops_ray.session.ports import Segments, TheEnd
from modelops_ray.session.source import StudySource
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study


def source(n_sets, *, replicates=1, done=(), only=None):
    """Make a source of a study."""
    study = Study.grid({"beta": range(n_sets)}, replicates=replicates)
    return StudySource(Simulations(study), Ranges(done), only)


def positions(segments):
    """The positions of segments, in order."""
    return [position for segment in segments for position in range(segment.start, segment.stop)]


def test_what_is_done_is_left_out():
    """The rest comes as runs of one parameter set each."""
    supply = source(2, replicates=3, done=[(1, 2)]).next()
    assert Segments((Segment(0, 0, 1), Segment(0, 2, 3), Segment(1, 3, 6))) == supply


def test_only_what_is_asked_for_comes():
    """Less what is done of it."""
    supply = source(2, replicates=3, done=[(1, 2)], only=Ranges([(0, 2), (5, 6)])).next()
    assert [0, 5] == positions(supply.segments)


def test_a_short_batch_is_not_the_end():
    """Given 5,000 parameter sets, three batches come, the last of them short, and the end is said by itself."""
    study = source(5000)
    batches = [study.next() for _ in range(3)]
    assert list(range(5000)) == [position for batch in batches for position in positions(batch.segments)]
    assert TheEnd() == study.next()


def test_a_study_of_which_everything_is_done_is_at_its_end():
    """It hands out no empty batch."""
    assert TheEnd() == source(2, done=[(0, 2)]).next()


def test_the_simulations_at_positions_are_the_studys():
    """In the order that was asked."""
    assert [4, 1] == [simulation.position for simulation in source(5).take([4, 1])]
