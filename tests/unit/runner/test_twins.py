"""Two attempts of one simulation are compared value for value."""

import math

import pyarrow as pa
import pytest

from modelops_ray.core.report import Cause, Failure
from modelops_ray.runner.executor import Attempt
from modelops_ray.runner.twins import difference


def attempt(**outputs):
    """What came of a simulation."""
    return Attempt(outputs, 1.0, 0)


TABLE = pa.table({"x": [1.0, math.nan, None], "name": ["a", "b", "c"]})


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (attempt(a={"x": 1.5, "n": 3}), attempt(a={"x": 1.5, "n": 3}), ""),
        (attempt(a={"x": math.nan}), attempt(a={"x": math.nan}), ""),
        (attempt(a=TABLE), attempt(a=TABLE), ""),
        (attempt(a={"x": 1.5, "n": 3}), attempt(a={"x": 1.5, "n": 4}), "column 'n' of output 'a'"),
        (attempt(a={"x": 1}, b={"x": 1}), attempt(a={"x": 1}, b={"x": 2}), "column 'x' of output 'b'"),
        (attempt(a=TABLE), attempt(a=TABLE.slice(0, 2)), "output 'a' has 2 rows alone and 3 in the run"),
        (attempt(a={"x": 1}), attempt(b={"x": 1}), "output 'a'"),
    ],
)
def test_the_first_place_is_named_where_they_differ(one, other, expected):
    """What is not a number equals itself."""
    assert expected == difference(one, other)


def test_a_failure_is_not_compared():
    """It is judged as any other."""
    failed = Attempt(Failure(0, Cause.OUT_OF_MEMORY, "OutOfMemory", "killed"), 1.0, 0)

    assert "" == difference(failed, attempt(a={"x": 1}))
    assert "" == difference(attempt(a={"x": 1}), failed)
