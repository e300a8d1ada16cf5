"""Quantiles leave out what is missing, and numbers have as many digits as a plot can show."""

import warnings

import numpy as np
import pyarrow as pa
import pytest

from modelops_ray.report.page.numbers import SHARES, codes, floats, quantiles, short


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_quantiles_are_those_of_numpy(n):
    """Over what is there, with something missing in each column."""
    values = np.random.default_rng(n).random((n + 1, 5))
    values[np.arange(5) % (n + 1), np.arange(5)] = np.nan

    np.testing.assert_allclose(quantiles(values), np.nanquantile(values, SHARES, axis=0))


def test_a_column_without_values_has_no_quantiles():
    """Nothing is said about it, a warning neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(quantiles(np.full((3, 2), np.nan))).all()
        assert np.isnan(quantiles(np.empty((0, 2)))).all()


def test_numbers_are_written_with_four_digits_that_count():
    """Whole ones as whole numbers, and what is not finite as nothing."""
    assert [0.1235, 12, 123500, -1.5e-09, None, None] == short([0.12345678, 12.0, 123456.0, -1.5e-9, np.nan, np.inf])


def test_times_are_seconds_since_1970():
    """In whichever unit, and of dates as well; a missing one is missing."""
    for unit, per_second in (("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        column = pa.chunked_array([pa.array([int(86400 * per_second), None], pa.timestamp(unit))])
        np.testing.assert_array_equal([86400.0, np.nan], floats(column))
    np.testing.assert_array_equal([86400.0], floats(pa.chunked_array([pa.array([1], pa.date32())])))


@pytest.mark.parametrize("kind", [pa.bool_(), pa.float16(), pa.uint64(), pa.decimal128(21, 2)])
def test_numbers_of_any_type_are_floats(kind):
    """Truth values are 0 and 1."""
    column = pa.chunked_array(
        [pa.array(np.array([1, 0], np.float16), pa.float16()) if kind == pa.float16() else pa.array([1, 0]).cast(kind)]
    )
    np.testing.assert_array_equal([1.0, 0.0], floats(column))


def test_values_have_numbers_in_the_order_of_their_first_rows():
    """Across chunks; a missing value has -1."""
    numbers, distinct = codes(pa.chunked_array([["b", "a"], ["b", None]]))

    assert [0, 1, 0, -1] == numbers.tolist()
    assert ["b", "a"] == distinct.to_pylist()
    assert [] == codes(pa.chunked_array([], pa.string()))[0].tolist()
