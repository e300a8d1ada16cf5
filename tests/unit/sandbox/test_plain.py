"""Arrays of every type, however they are nested, cut and chunked, have the same values when they are plain."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelops_ray.sandbox.column_types import plain_type
from modelops_ray.sandbox.plain import RefusedValueError, plain_column

VALUES = [
    ([pa.int8(), pa.int64(), pa.uint64()], (0, 100)),
    ([pa.float16(), pa.float32(), pa.float64()], (0.5, -2.0)),
    ([pa.string(), pa.large_string(), pa.string_view()], ("", "é" * 20)),
    ([pa.binary(), pa.large_binary(), pa.binary_view()], (b"", b"a" * 30)),
    ([pa.date32(), pa.date64()], (dt.date(2020, 1, 2),)),
    ([pa.timestamp("s"), pa.timestamp("us")], (dt.datetime(2020, 1, 2, 3),)),  # noqa: DTZ001
    ([pa.time32("s"), pa.time64("ns")], (dt.time(4),)),
    ([pa.decimal32(5, 2), pa.decimal128(5, 2), pa.decimal256(10, 2)], (Decimal("1.25"),)),
    ([pa.bool_()], (True, False)),
    ([pa.binary(2)], (b"ab",)),
    ([pa.duration("s")], (dt.timedelta(seconds=5),)),
    ([pa.null()], (None,)),
]
FLAT = {kind: values for kinds, values in VALUES for kind in kinds}
NESTED = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda kind: pa.list_(kind, 2),
          lambda kind: pa.list_(kind, 0), lambda kind: pa.map_(pa.large_string(), kind),
          lambda kind: pa.struct([("a", kind), ("b", pa.string_view())])]  # fmt: skip


def some_type(rng, depth):
    """A type, which may hold others."""
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(list(FLAT))
    return rng.choice(NESTED)(some_type(rng, depth - 1))


def some_value(rng, kind):
    """A value of a type, missing at times."""
    if rng.random() < 0.25:
        return None
    if pa.types.is_map(kind):
        return [(f"k{i}", some_value(rng, kind.item_type)) for i in range(rng.randrange(3))]
    if pa.types.is_struct(kind):
        return {field.name: some_value(rng, field.type) for field in kind}
    if pa.types.is_nested(kind):
        n_items = kind.list_size if pa.types.is_fixed_size_list(kind) else rng.randrange(4)
        return [some_value(rng, kind.value_type) for _ in range(n_items)]
    return rng.choice(FLAT[kind])


def some_array(rng):
    """An array, perhaps in a dictionary or in runs, and perhaps a part of a longer one."""
    kind = some_type(rng, 3)
    array = pa.array([some_value(rng, kind) for _ in range(rng.randrange(1, 8))], kind)
    form = rng.randrange(3)
    if form == 1:
        indices = [rng.choice([None, *range(len(array))]) for _ in range(6)]
        array = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), array)
    if form == 2:
        array = pa.RunEndEncodedArray.from_arrays(pa.array(range(2, 2 * len(array) + 1, 2), pa.int32()), array)
    return array.slice(rng.randrange(len(array)), rng.randrange(len(array) + 1)) if rng.random() < 0.6 else array


@pytest.mark.parametrize("seed", range(4))
def test_plain_arrays_have_the_same_values(seed, tmp_path):
    """And keep them in a file."""
    for each in range(100):
        rng = random.Random(1000 * seed + each)
        array = some_array(rng)
        column = pa.chunked_array([array, array]) if rng.random() < 0.5 else array

        plain = plain_column(column)
        plain.validate(full=True)
        pq.write_table(pa.table({"x": plain}), tmp_path / "x.parquet")

        assert plain_type(array.type) == plain.type
        assert column.to_pylist() == plain.to_pylist() == pq.ParquetFile(tmp_path / "x.parquet").read()["x"].to_pylist()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (pa.array([4000000], pa.date32()), "the years 1 to 9999"),
        (pa.array([2**62], pa.timestamp("s")), "cannot be kept as it is"),
        (pa.array([1], pa.date64()), "cannot be kept as it is"),
        (pa.array([b"\xff"]).view(pa.string()), "cannot be kept as it is"),
    ],
)  # fmt: skip
def test_an_array_that_is_not_what_it_says_is_refused(array, says):
    """Neither cut nor read beyond its end."""
    with pytest.raises(RefusedValueError, match=says):
        plain_column(array)
