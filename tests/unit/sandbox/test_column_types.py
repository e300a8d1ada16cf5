"""Which types are plain, and which one holds the values of two: in any order, and exactly."""

import itertools
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.sandbox.column_types import RefusedTypeError, candidates, joined, plain_type

NUMBERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
           pa.float16(), pa.float32(), pa.float64()]  # fmt: skip
TIMES = [
    *(pa.timestamp(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")),
    *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
]
DECIMALS = [pa.decimal128(5, 2), pa.decimal128(10, 0), pa.decimal128(38, 30), pa.decimal128(20, 18)]
OTHERS = [pa.null(), pa.bool_(), pa.string(), pa.binary(), pa.date32(), pa.timestamp("us"), pa.list_(pa.int64())]
FLAT = st.sampled_from(NUMBERS + TIMES + DECIMALS + OTHERS)
KINDS = st.one_of(
    FLAT,
    FLAT.map(pa.list_),
    FLAT.map(lambda kind: pa.map_(pa.string(), kind)),
    st.tuples(FLAT, FLAT).map(lambda two: pa.struct(list(zip("ab", two, strict=True)))),
)


@given(KINDS, KINDS)
def test_which_type_comes_first_does_not_matter(left, right):
    """Joining is symmetric, and so is what may hold both."""
    assert joined(left, right) == joined(right, left)
    assert candidates(left, right) == candidates(right, left)


@given(KINDS, KINDS, KINDS)
def test_in_which_order_types_are_joined_does_not_matter(a, b, c):
    """The type of a finished column does not depend on the order of commits."""
    ab, bc = joined(a, b), joined(b, c)

    left = joined(ab, c) if ab is not None else None
    right = joined(a, bc) if bc is not None else None

    assert left == right or None in (ab, bc)


@given(KINDS, KINDS)
def test_a_type_that_holds_two_needs_nothing_more_for_either(left, right):
    """Joining again changes nothing, and the result is plain."""
    both = joined(left, right)

    assert left == joined(left, left) == plain_type(left)
    assert both is None or [both, both, both] == [joined(both, left), joined(both, right), plain_type(both)]


@pytest.mark.parametrize(
    ("left", "right"), list(itertools.combinations_with_replacement(NUMBERS + TIMES + DECIMALS, 2))
)
def test_what_the_joined_type_takes_is_given_back(left, right):
    """Every value that is cast without complaint is the same when it is cast back."""
    numbers = np.array([0, 1, 2, 100])
    for kind in candidates(left, right):
        for each in (left, right):
            values = values_of(numbers, each)
            assert values.equals(values.cast(kind).cast(each)), (each, kind)


def values_of(numbers, kind):
    """Small values of a type."""
    if pa.types.is_decimal(kind):
        return pa.array([Decimal(int(n) % 10) for n in numbers], kind)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return pa.array(numbers).cast(kind)
    return pa.array(numbers.astype(f"i{kind.bit_width // 8}")).view(kind)


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_all_numbers_fit_together(left, right):
    """Whole numbers widen to floats."""
    assert joined(left, right) is not None


@pytest.mark.parametrize(("left", "right"), list(itertools.combinations([*OTHERS[1:], pa.int64()], 2)))
def test_different_kinds_of_values_do_not_fit(left, right):
    """Text is no number, and neither is true or false."""
    assert joined(left, right) is None


@pytest.mark.parametrize(
    ("left", "right", "kinds"),
    [
        (pa.decimal128(5, 2), pa.decimal128(10, 4), [pa.decimal128(10, 4)]),
        (pa.decimal128(38, 0), pa.decimal128(38, 30), []),
        (pa.decimal128(5, 2), pa.float64(), []),
        (pa.timestamp("ms"), pa.timestamp("ns"), [pa.timestamp("ns")]),
        (pa.timestamp("us", "UTC"), pa.timestamp("ms", "Europe/Berlin"), [pa.timestamp("us", "UTC")]),
        (pa.timestamp("us", "UTC"), pa.timestamp("us"), []),
        (pa.duration("s"), pa.duration("ns"), [pa.duration("ns")]),
        (pa.time32("ms"), pa.time64("ns"), [pa.time64("ns")]),
        (pa.int8(), pa.uint8(), [pa.int16()]),
        (pa.int64(), pa.uint32(), [pa.int64()]),
        (pa.int8(), pa.uint64(), [pa.uint64(), pa.int64(), pa.float64()]),
        (pa.list_(pa.uint64()), pa.list_(pa.int64()), [pa.list_(k) for k in (pa.uint64(), pa.int64(), pa.float64())]),
        (pa.map_(pa.string(), pa.int32()), pa.map_(pa.string(), pa.float32()), [pa.map_(pa.string(), pa.float64())]),
    ],
)
def test_the_narrowest_type_is_preferred(left, right, kinds):
    """Of those that the values decide between, the exact ones come first."""
    assert kinds == candidates(left, right)


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.string_view()), pa.string()),
        (pa.binary_view(), pa.binary()),
        (pa.binary(0), pa.binary()),
        (pa.list_(pa.string_view(), 3), pa.list_(pa.string())),
        (pa.large_list_view(pa.dictionary(pa.int8(), pa.int32())), pa.list_(pa.int32())),
        (pa.run_end_encoded(pa.int16(), pa.large_binary()), pa.binary()),
        (pa.map_(pa.large_string(), pa.timestamp("s")), pa.map_(pa.string(), pa.timestamp("ms"))),
        (pa.decimal256(38, 2), pa.decimal128(38, 2)),
        (pa.decimal128(5, -2), pa.decimal128(7, 0)),
        (pa.list_(pa.field("x", pa.int64(), nullable=False)), pa.list_(pa.int64())),
        (pa.uuid(), pa.string()),
        (pa.bool8(), pa.bool_()),
        (pa.fixed_shape_tensor(pa.float32(), (2, 3)), pa.list_(pa.list_(pa.float32()))),
    ],
)
def test_an_encoding_stands_for_a_plain_type(kind, plain):
    """All the way down."""
    assert plain == plain_type(kind)
    assert plain == plain_type(plain)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (pa.dense_union([pa.field("a", pa.int64())]), "several types"),
        (pa.month_day_nano_interval(), "no fixed length"),
        (pa.list_(pa.struct([])), "without fields"),
        (pa.struct([pa.field("a", pa.int64()), pa.field("a", pa.int64())]), "two fields 'a'"),
        (pa.decimal256(39, 0), "38 digits at most"),
        (pa.opaque(pa.int64(), "thing", "vendor"), "extension type 'arrow.opaque'"),
        (pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0]), "extension type 'arrow.fixed_shape_tensor'"),
    ],
)
def test_what_no_plain_type_holds_is_refused(kind, says):
    """With what it is, and what to return."""
    with pytest.raises(RefusedTypeError, match=says):
        plain_type(kind)
