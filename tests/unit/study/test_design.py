"""Studies that are drawn: their points fill the ranges, are the same for the same seed, and wrong ranges are named."""

import sys

import numpy as np
import pytest

from modelops_ray.errors import StudyError
from modelops_ray.study.design import Space
from modelops_ray.study.study import Study


def points(study, *names):
    """The values of some parameters in each set."""
    return [tuple(each.params[name] for name in names) for each in study.parameter_sets]


def test_a_latin_hypercube_has_one_point_in_each_part_of_each_range():
    """Whole numbers stay whole, with both ends among them."""
    study = Study.latin_hypercube({"beta": (0.5, 1.5), "n": (1, 10)}, n=10, seed=3, replicates=4)

    assert list(range(10)) == sorted(int((beta - 0.5) * 10) for (beta,) in points(study, "beta"))
    assert [(n,) for n in range(1, 11)] == sorted(points(study, "n"))
    assert {int} == {type(n) for (n,) in points(study, "n")}
    assert (4, "lhs") == (study.n_replicates, study.sampling_method)


def test_more_points_of_sobols_sequence_keep_those_that_were_there():
    """A run of fewer goes on with more; the number need not be a power of two."""
    few, many = (points(Study.sobol({"a": (0.0, 1.0), "b": (-1.0, 1.0)}, n=n, seed=5), "a", "b") for n in (6, 13))

    assert few == many[:6]
    assert 13 == len(set(many))
    assert all(0 <= a <= 1 and -1 <= b <= 1 for a, b in many)


def test_the_same_points_are_taken_at_each_point_of_a_grid():
    """What differs between two grid points is then the grid alone."""
    study = Study.sobol({"a": (0.0, 1.0)}, n=3, grid={"kind": ["x", "y"], "k": [1]})

    assert [("x", 1)] * 3 + [("y", 1)] * 3 == points(study, "kind", "k")
    assert points(study, "a")[:3] == points(study, "a")[3:]


@pytest.mark.parametrize("draw", [Study.latin_hypercube, Study.sobol])
def test_the_seed_decides_the_points(draw):
    """The same one draws the same, another one others; NumPy's numbers are numbers."""
    ranges = {"a": (np.float64(0.0), 1.0)}

    assert draw(ranges, n=np.int64(5), seed=np.int64(1)) == draw(ranges, n=5, seed=1)
    assert draw(ranges, n=5, seed=1) != draw(ranges, n=5, seed=2)


A_RANGE = "two numbers, the lower one first, such as (0.1, 0.5)"


@pytest.mark.parametrize(
    ("ranges", "options", "expected"),
    [
        ({"a": (2, 1)}, {}, f"a: found 2 to 1; expected {A_RANGE}"),
        ({"a": (1, 2, 3)}, {}, f"a: found 3 values; expected {A_RANGE}"),
        ({"a": 3}, {}, f"a: found 3; expected {A_RANGE}"),
        ({"a": (0, float("inf"))}, {}, f"a: found an infinite number; expected {A_RANGE}"),
        ({"a": (0, "x")}, {}, f'a: found the text "x"; expected {A_RANGE}'),
        ({"id": (0, 1)}, {}, ("id: found a parameter called id; expected another name, because its column param_id is "
         "taken by the identifier")),
        ({"a": (0, 1)}, {"n": 0}, "n: found 0; expected how many points, up to 10000000"),
        ({"a": (0, 1)}, {"n": 2.0}, "n: found 2.0; expected how many points, up to 10000000"),
        ({"a": (0, 1)}, {"seed": -1}, "seed: found -1; expected a whole number from 0 to 18446744073709551615"),
        ({"a": (0, 1)}, {"grid": {"a": [1]}}, ("a: found it more than once; expected each parameter in one of grid, "
         "lhs and sobol")),
        ({}, {}, "found no parameter; expected at least one"),
        ({1: (0, 1)}, {}, "found the parameter name 1; expected a text as name"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_named(ranges, options, expected):
    """One line with the parameter."""
    with pytest.raises(StudyError) as caught:
        Study.sobol(ranges, **{"n": 3, **options})

    assert "Study.sobol: " + expected == str(caught.value)


def test_a_number_of_points_for_a_grid_alone_is_refused():
    """A grid has all of its points."""
    with pytest.raises(StudyError, match="n: found 3; expected none for a grid alone: it has all of its points"):
        Study.of_space(Space.of({"a": [1, 2]}), 3, 1, 0)


def test_without_scipy_the_extra_is_named(monkeypatch):
    """In one line, that says how it is installed."""
    monkeypatch.setitem(sys.modules, "scipy.stats", None)

    with pytest.raises(StudyError, match=r"^this design needs SciPy \(.*\); install it, as in: pip install 'modelops-"):
        Study.sobol({"a": (0, 1)}, n=3)
