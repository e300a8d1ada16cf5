"""Whether a simulation that ran twice came out the same, value for value; and the sentence where it did not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from modelops_ray.core.policy import count
from modelops_ray.sandbox.column_types import INDEX


def not_a_function(model: str, found: str) -> str:
    """One line on a model that is not reproducible; `found` says what differed."""
    return (
        f"model {model} is not a function of its parameters and its seed: {found} came out differently in two new "
        "processes; seed every generator it draws from, let nothing depend on the time or the process"
    )


def first_place(name: str, one: pa.Table, other: pa.Table) -> str:
    """Where two tables differ; empty if they are equal value for value. Integers may have become floats in a study."""
    if one.num_rows != other.num_rows:
        return f"output {name!r} has {count(other.num_rows, 'row')} alone and {one.num_rows:,} in the run"
    if one.num_rows == 0:
        return ""
    # Rows of a frame have labels only where some simulation took rows out of one.
    if {*one.column_names} ^ {*other.column_names} == {INDEX}:
        one, other = (table.drop_columns([INDEX] if INDEX in table.column_names else []) for table in (one, other))
    if one.column_names != other.column_names:
        return f"output {name!r} has the columns {', '.join(other.column_names)} alone"
    pairs = ((column, one[column].combine_chunks(), other[column].combine_chunks()) for column in one.column_names)
    different = (column for column, ours, theirs in pairs if not _are_equal(ours, theirs))
    return next((f"column {column!r} of output {name!r}" for column in different), "")


def _are_equal(one: pa.Array, other: pa.Array) -> bool:
    try:
        other = other.cast(one.type)
    except pa.ArrowException:
        return False
    if not one.is_null().equals(other.is_null()):
        return False
    if pa.types.is_list(one.type) or pa.types.is_fixed_size_list(one.type):
        return bool(one.value_lengths().equals(other.value_lengths())) and _are_equal(one.flatten(), other.flatten())
    if pa.types.is_struct(one.type):
        return all(_are_equal(*fields) for fields in zip(one.flatten(), other.flatten(), strict=True))
    if not pa.types.is_floating(one.type):
        return bool(one.equals(other))
    # Compared as bits, because NaN is not equal to itself.
    bits = (each.fill_null(0.0).to_numpy(zero_copy_only=False).view(f"u{one.type.byte_width}") for each in (one, other))
    return np.array_equal(*bits)
