"""Arrays made without pandas are what Arrow itself would make."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.sandbox.arrays import array_of, plain_array

_VALUES = {
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"])),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.null(): st.none(),
}


@pytest.mark.parametrize("type_", _VALUES, ids=str)
@given(data=st.data())
def test_plain_values_become_what_arrow_makes_of_them(type_, data):
    """Any of them may be missing."""
    values = data.draw(st.lists(_VALUES[type_] | st.none()))
    made = plain_array(values, type_)
    made.validate(full=True)
    assert type_ == made.type
    assert [str(value) for value in values] == [str(value) for value in made.to_pylist()]
    assert made.null_count == values.count(None)


def test_a_float_in_a_column_of_integers_is_refused():
    """It would be cut off."""
    with pytest.raises(TypeError):
        plain_array([1.5], pa.int64())


def test_a_large_integer_in_a_column_of_floats_is_rounded():
    """Arrow alone refuses it."""
    assert [float(2**70)] == plain_array([2**70], pa.float64()).to_pylist()


@pytest.mark.parametrize("kind", ["?", "i1", "i4", "i8"])
@pytest.mark.parametrize("step", [1, 2])
def test_arrays_of_numpy_are_shown_as_they_are(kind, step):
    """Also every other element of one."""
    values = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 1], kind)[::step]
    assert pa.array(values).equals(array_of(values))


_NAN_OF_A_SERIES = """
import sys
import importlib.util
from modelops_ray.sandbox.child import warm_up
warm_up()
assert "pandas" not in sys.modules
assert importlib.util.find_spec("pandas") is not None
import pyarrow as pa
import pandas
print(pa.array(pandas.Series([float("nan")])).null_count)
"""


def test_a_model_that_imports_pandas_late_has_its_series_read_as_everywhere():
    """Pyarrow looks for pandas once, and must look again: NaN of a series is null to it."""
    pytest.importorskip("pandas")
    done = subprocess.run([sys.executable, "-c", _NAN_OF_A_SERIES], capture_output=True, text=True, check=False)
    assert ("1\n", "") == (done.stdout, done.stderr)


_TOO_OLD = """
import sys
from modelops_ray.sandbox.child import warm_up
warm_up()
import pandas
print(pandas.__version__)
"""


def test_a_pandas_that_pyarrow_refuses_is_still_the_models_to_import(tmp_path):
    """An ImportError says so, of the look and not of the model."""
    (tmp_path / "pandas").mkdir()
    (tmp_path / "pandas" / "__init__.py").write_text("__version__ = '0.1'\n")
    done = subprocess.run(
        [sys.executable, "-c", _TOO_OLD], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ("0.1\n", "") == (done.stdout, done.stderr)
