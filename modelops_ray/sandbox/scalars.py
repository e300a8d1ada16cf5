"""Single values of Python, NumPy and pandas, and columns of them.

Owns what one value means (missing, text, a number, a date, or refused), and the type of a column of such values: the
narrowest that holds each exactly. Runs in the model's interpreter.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import sys
import uuid
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from .column_types import FLOATS, INTEGERS, MOST_DIGITS, MOST_LEVELS, TOO_DEEP, UNITS, candidates
from .numpy_times import column_of_times
from .plain import Column, RefusedValueError, UnknownValueError, list_array, plain_column, quoted, whole

Convert = Callable[[Any], Column]
_UTC = dt.timezone.utc  # its short name is newer than Python 3.9
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=_UTC)
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NONE = type(None)
_SURE = INTEGERS | {pa.null().id, pa.string().id}
_LIST = pa.list_(pa.null()).id
_HOLDERS = (list, tuple, dict, set, frozenset, np.ndarray)
"""Types whose values Arrow looks into."""
_PYTHONS = {pa.binary(): bytes, pa.date32(): dt.date, pa.duration("us"): dt.timedelta}
_NAMES = {"bool": "a bool", "int": "an int", "float": "a float", "str": "text", "bytes": "bytes"}


class _Days(NamedTuple):
    n: int


class _Instant(NamedTuple):
    """`ticks` of `unit` since 1970 in UTC, or on a clock without a zone where `zone` is None."""

    ticks: int
    unit: str
    zone: str | None


class _Span(NamedTuple):
    ticks: int
    unit: str


class _Clock(NamedTuple):
    """A time of day."""

    ticks: int
    unit: str


class _Items(NamedTuple):
    """What a list, an array or a series in a row holds."""

    values: Any


class _Fields(NamedTuple):
    values: Mapping[str, Any]


def require_end(values: Sequence[Any], found: set[type]) -> None:
    """Refuse values, of the types `found`, that hold others without end: Arrow would overflow its stack."""
    level: Iterable[Any] = values
    for _ in range(MOST_LEVELS):
        if not any(issubclass(kind, _HOLDERS) for kind in found):
            return
        # A holder that is in several places is followed once.
        holders = {id(each): each for each in level if isinstance(each, _HOLDERS)}.values()
        held = [each.values() if isinstance(each, dict) else each for each in holders if _is_followed(each)]
        found = set().union(*(map(type, each) for each in held))
        level = chain.from_iterable(held)
    raise RefusedValueError(TOO_DEEP)


def _is_followed(holder: Any) -> bool:
    return not isinstance(holder, np.ndarray) or (holder.dtype == object and holder.ndim > 0)


def is_surely_kept(type_: pa.DataType, values: Sequence[Any], found: set[type]) -> bool:
    """Whether Arrow certainly lost nothing when it converted values, of the types `found`, to this type."""
    if type_.id in _SURE:
        return True
    found = set(found)
    if type_.id in FLOATS:
        return bool not in found and np.bool_ not in found
    found.discard(_NONE)
    if type_.id == _LIST:
        return _are_surely_kept(type_.value_type, found, values)
    if pa.types.is_timestamp(type_):
        return found == {dt.datetime} and len({value.tzinfo for value in values if value is not None}) == 1
    return found == {_PYTHONS.get(type_)} or (pa.types.is_decimal128(type_) and found <= {decimal.Decimal, int})


def _are_surely_kept(item: pa.DataType, found: set[type], lists: Sequence[Any]) -> bool:
    if not found <= {list, tuple}:
        return found <= {list, tuple, np.ndarray} and (item.id in INTEGERS or item.id in FLOATS)
    if item.id in _SURE:
        return True
    values = [each for one in lists if one is not None for each in one]
    return is_surely_kept(item, values, set(map(type, values)))


def array_of_values(values: Sequence[Any], convert: Convert) -> Column:
    """Make a plain array of values one by one; `convert` is for the lists and arrays among them.

    RefusedValueError where a value cannot be kept, or not beside the others.
    """
    found = set(map(type, values)) - {_NONE}
    if found and all(issubclass(kind, pa.Scalar) for kind in found):
        return plain_column(pa.array(values))
    if len(found) == 1 and found <= {np.datetime64, np.timedelta64} and (promoted := _promoted(values)) is not None:
        return convert(promoted)
    plain = [_canonical(value, row) for row, value in enumerate(values)]
    kinds = {type(value) for value in plain} - {_NONE}
    if float in kinds and kinds != {float} and int not in kinds:
        # NaN beside values that are no numbers means that a value is missing.
        plain = [None if type(value) is float and value != value else value for value in plain]  # noqa: PLR0124
        kinds = {type(value) for value in plain} - {_NONE}
    if not kinds:
        return pa.nulls(len(plain))
    for accepted, build in _BUILDERS:
        if kinds <= accepted:
            return build(plain, convert)
    raise _mixed(plain, values)


def _promoted(values: Sequence[Any]) -> np.ndarray | None:
    """Bring dates of NumPy into the finest of their units; None where that unit does not hold them all."""
    try:
        array = np.array(["NaT" if value is None else value for value in values])
    except (OverflowError, TypeError):
        return None
    if array.dtype.kind not in "Mm" or np.isnat(array).all():
        return None
    # NumPy wraps around where a value does not fit the unit that all of them share.
    is_same = all(one is None or np.isnat(one) or each.astype(one.dtype) == one for each, one in zip(array, values))
    return array if is_same else None


def _mixed(plain: list[Any], values: Sequence[Any]) -> RefusedValueError:
    first = next(at for at, value in enumerate(plain) if value is not None)
    other = next(at for at, value in enumerate(plain) if value is not None and type(value) is not type(plain[first]))
    return RefusedValueError(
        f"values of no common type, {_name(values[first])} in row {first} and {_name(values[other])} in row {other}; "
        "return columns of one kind",
        None,
    )


def _name(value: Any) -> str:
    kind = type(value).__name__
    return _NAMES.get(kind, f"an {kind}" if kind[:1].lower() in "aeiou" else f"a {kind}")


def _canonical(value: Any, row: int) -> Any:
    """Return a value in one of the few forms that columns are built of, None where it is missing."""
    kind = type(value)
    if kind in (int, float, bool, bytes, _NONE):
        return value
    for recognises, read in _READERS:
        if isinstance(value, recognises):
            try:
                return read(value)
            except RefusedValueError as error:
                error.row = row
                raise
    return _by_protocol(value, row)


def _by_protocol(value: Any, row: int) -> Any:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name.startswith("pandas."):
        if kind.__name__ in ("NaTType", "NAType"):
            return None
        if kind.__name__ in ("Period", "Interval"):
            return str(value)
    if kind.__name__ in ("DataFrame", "LazyFrame", "Dataset", "Table", "RecordBatch"):
        raise RefusedValueError(f"a table ({name}) within a column; return it as an output of its own", row)
    if fields := fields_of(value):
        return _Fields(fields)
    if hasattr(kind, "__array__") and getattr(value, "ndim", 1) == 0:
        return _canonical(np.asarray(value)[()], row)
    if any(hasattr(kind, protocol) for protocol in ("__array__", "__arrow_c_array__", "__iter__")):
        return _Items(value)
    raise UnknownValueError(f"{_name(value)} ({name}); return numbers, text, dates, or lists of them", row)


def fields_of(value: Any) -> Mapping[str, Any] | None:
    """Return the fields by name of a record; None for any other value.

    Records are those of NumPy, dataclasses, named tuples, models of pydantic and classes of attrs.
    """
    if isinstance(value, type):
        return None
    if isinstance(value, np.void):
        return {name: value[name] for name in value.dtype.names or ()} or None
    kind = type(value)
    names: Any = getattr(kind, "model_fields", None)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif isinstance(value, tuple):
        names = getattr(kind, "_fields", None)
    elif names is None and hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    return {name: getattr(value, name) for name in names} if names else None


def refuse(found: str) -> Callable[[Any], Any]:
    """Return a function that refuses any value with this phrase, in which `{0}` stands for the value."""

    def read(value: Any) -> Any:
        raise RefusedValueError(found.format(value))

    return read


def _text(value: Any) -> str:
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RefusedValueError(f"text that UTF-8 cannot hold ({error}); encode it before") from error
    return text


def _decimal(value: decimal.Decimal) -> decimal.Decimal:
    if not value.is_finite():
        raise RefusedValueError(f"a Decimal {value}, which decimal columns do not hold; return None, or a float")
    return value


def _long(value: Any) -> float:
    shorter = float(value)
    if shorter != value and value == value:  # noqa: PLR0124
        raise RefusedValueError("a longdouble that a float of 64 bits does not hold; return float(x), or text")
    return shorter


def _instant(value: Any) -> Any:
    if value != value:  # noqa: PLR0124 (NaT of pandas)
        return None
    nanoseconds = getattr(value, "nanosecond", 0)
    zone = None if value.tzinfo is None else _zone(value.tzinfo)
    since = value.replace(tzinfo=_UTC) if zone is None else value
    if hasattr(value, "to_pydatetime"):
        since = since.to_pydatetime(warn=False)
    us = (since - _EPOCH) // dt.timedelta(microseconds=1)
    return _Instant(us * 1000 + nanoseconds, "ns", zone) if nanoseconds else _Instant(us, "us", zone)


def _zone(tzinfo: dt.tzinfo) -> str:
    try:
        return str(pa.lib.tzinfo_to_string(tzinfo))
    except (ValueError, TypeError, pa.ArrowException):
        return "UTC"


def _clock(value: dt.time) -> _Clock:
    if value.tzinfo is not None:
        raise RefusedValueError("a time of day with a zone; return it without, or a datetime")
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return _Clock(seconds * 10**6 + value.microsecond, "us")


def _span(value: dt.timedelta) -> Any:
    if value != value:  # noqa: PLR0124 (NaT of pandas)
        return None
    nanoseconds = getattr(value, "nanoseconds", 0)
    if hasattr(value, "to_pytimedelta"):
        value = dt.timedelta(value.days, value.seconds, value.microseconds)
    us = value // dt.timedelta(microseconds=1)
    return _Span(us * 1000 + nanoseconds, "ns") if nanoseconds else _Span(us, "us")


def _ticks(value: Any) -> Any:
    """Read a scalar date or span of NumPy in the way that an array of them is read."""
    if np.isnat(value):
        return None
    column = column_of_times(np.array([value]))
    n = column.view(pa.int32() if pa.types.is_date(column.type) else pa.int64())[0].as_py()
    if pa.types.is_date(column.type):
        return _Days(n)
    if pa.types.is_timestamp(column.type):
        return _Instant(n, column.type.unit, None)
    return _Span(n, column.type.unit)


def _zero_d(value: np.ndarray) -> Any:
    masks: Any = sys.modules.get("numpy.ma")
    if masks is not None and isinstance(value, masks.MaskedArray) and value.ndim == 0 and value.mask:
        return None
    return _canonical(value[()], 0) if value.ndim == 0 else _Items(value)


def _member(value: enum.Enum) -> Any:
    if isinstance(value.value, (bool, int, float, str)):
        return _canonical(value.value, 0)
    raise RefusedValueError(f"{value}, whose value is neither a number nor text; return its name")


_READERS: list[tuple[Any, Callable[[Any], Any]]] = [
    (np.bool_, bool),
    (np.ndarray, _zero_d),
    ((np.datetime64, np.timedelta64), _ticks),
    (np.longdouble, _long),
    ((complex, np.complexfloating), refuse("a complex number; return two columns, its real and its imaginary part")),
    (np.void, lambda value: _Fields({n: value[n] for n in value.dtype.names}) if value.dtype.names else bytes(value)),
    (str, _text),
    ((bytes, bytearray, memoryview), bytes),
    (enum.Enum, _member),
    (np.generic, lambda value: _canonical(value.item(), 0)),
    (float, float.__float__),
    (int, int.__int__),
    (dt.datetime, _instant),
    (dt.date, lambda value: _Days(value.toordinal() - _EPOCH_DAY)),
    (dt.time, _clock),
    (dt.timedelta, _span),
    (decimal.Decimal, _decimal),
    (fractions.Fraction, refuse("a Fraction; return float(x), or its numerator and denominator")),
    (uuid.UUID, str),
    (pathlib.PurePath, lambda value: _text(str(value))),
    (pa.Scalar, lambda value: _canonical(value.as_py(), 0)),
    (Mapping, _Fields),
    ((KeysView, ItemsView, ValuesView), lambda value: _Items(list(value))),
    (AbstractSet, refuse("a set, which has no order; return sorted(...)")),
    ((list, range), _Items),
    (tuple, lambda value: _Fields(fields) if (fields := fields_of(value)) else _Items(value)),
]


def _integers(values: list[Any], _: Convert) -> Column:
    present = [value for value in values if value is not None]
    low, high = min(present), max(present)
    if low >= -(2**63) and high < 2**63:
        return pa.array(values, pa.int64())
    if low >= 0 and high < 2**64:
        return pa.array(values, pa.uint64())
    row = values.index(low if low < -(2**63) else high)
    raise RefusedValueError(
        f"integers from {_short(low)} to {_short(high)}, which 64 bits do not hold; return Decimal, float or text",
        row,
    )


def _short(n: int) -> str:
    # Python refuses to write integers of thousands of digits.
    return str(n) if n.bit_length() <= 128 else f"one of {n.bit_length()} bits"


def _floats(values: list[Any], _: Convert) -> Column:
    for row, value in enumerate(values):
        if type(value) is int and (value.bit_length() > 1024 or int(float(value)) != value):
            raise RefusedValueError(
                f"an integer beside floats that no float holds exactly ({_short(value)}); "
                "return float(x), or integers only",
                row,
            )
    return pa.array([float(value) if type(value) is int else value for value in values], pa.float64())


def _decimals(values: list[Any], _: Convert) -> Column:
    n_digits = n_places = 0
    for row, value in enumerate(values):
        if value is None:
            continue
        if type(value) is int and value.bit_length() > 128:
            raise RefusedValueError(_TOO_LONG, row)
        digits, exponent = decimal.Decimal(value).as_tuple()[1:]
        before = len(digits) + exponent if any(digits) else 0  # type: ignore[operator]
        n_digits, n_places = max(n_digits, before), max(n_places, -exponent)  # type: ignore[operator]
        if n_digits + n_places > MOST_DIGITS:
            raise RefusedValueError(_TOO_LONG, row)
    return pa.array(values, pa.decimal128(max(1, n_digits + n_places), n_places))


_TOO_LONG = f"decimal numbers that take more than {MOST_DIGITS} digits together; return floats, or text"


def _days(values: list[Any], _: Convert) -> Column:
    return plain_column(pa.array([None if day is None else day.n for day in values], pa.int32()).view(pa.date32()))


def _instants(values: list[Any], _: Convert) -> Column:
    zones = {value.zone for value in values if value is not None}
    if None in zones and len(zones) > 1:
        raise RefusedValueError("values of no common type, times with a zone and without; give all of them one")
    zone = zones.pop() if len(zones) == 1 else "UTC"
    return plain_column(_ticked(values, lambda unit: pa.timestamp(unit, zone)))


def _ticked(values: list[Any], type_of: Callable[[str], pa.DataType]) -> pa.Array:
    unit = max((value.unit for value in values if value is not None), key=UNITS.index)
    per = _PER_SECOND[unit]
    ticks = [None if value is None else value.ticks * (per // _PER_SECOND[value.unit]) for value in values]
    try:
        return pa.array(ticks, pa.int64()).view(type_of(unit))
    except (OverflowError, pa.ArrowException) as error:
        raise RefusedValueError(
            f"times that {type_of(unit)} does not hold together; return them in a coarser unit"
        ) from error


def _lists(values: list[Any], convert: Convert) -> Column:
    missing = pa.array([value is None for value in values]) if None in values else None
    found = [value.values for value in values if value is not None]
    if all(type(value) in (list, tuple) for value in found):
        lengths = [0 if value is None else len(value.values) for value in values]
        items = [item for value in found for item in value]
        return list_array(np.array(lengths), whole(convert(items)), missing)
    # An array of several dimensions is a list of its rows, which become lists.
    arrays = [whole(convert(list(value) if getattr(value, "ndim", 1) > 1 else value)) for value in found]
    lengths_of = iter(arrays)
    lengths = [0 if value is None else len(next(lengths_of)) for value in values]
    return list_array(np.array(lengths), _concatenated(arrays), missing)


def _concatenated(arrays: list[pa.Array]) -> pa.Array:
    kinds = list(dict.fromkeys(array.type for array in arrays))
    common = kinds[:1]
    for kind in kinds[1:]:
        common = list(dict.fromkeys(wider for one in common for wider in candidates(one, kind)))
    for kind in common:
        with suppress(pa.ArrowInvalid):
            return pa.concat_arrays([array.cast(kind) for array in arrays])
    raise RefusedValueError(
        f"lists of values of no common type ({', '.join(map(str, kinds))}); return lists of one kind"
    )


def _structs(values: list[Any], convert: Convert) -> Column:
    rows = [None if value is None else value.values for value in values]
    columns = columns_of_rows([row or {} for row in rows])
    if not columns:
        raise RefusedValueError("mappings without keys; leave the column out")
    arrays = [whole(convert(column)) for column in columns.values()]
    missing = pa.array([row is None for row in rows]) if None in rows else None
    return pa.StructArray.from_arrays(arrays, names=list(columns), mask=missing)


def columns_of_rows(rows: Sequence[Mapping[Any, Any]]) -> dict[str, list[Any]]:
    """Turn rows by name into columns; a name that a row lacks is missing there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        if not isinstance(name, str):
            raise RefusedValueError(f"a mapping with the key {quoted(name)}; keys must be text")
    return {str.__str__(name): [row.get(name) for row in rows] for name in names}


_BUILDERS: list[tuple[set[type], Callable[[list[Any], Convert], Column]]] = [
    ({bool}, lambda values, _: pa.array(values, pa.bool_())),
    ({int}, _integers),
    ({int, float}, _floats),
    ({int, decimal.Decimal}, _decimals),
    ({str}, lambda values, _: pa.array(values, pa.string())),
    ({bytes}, lambda values, _: pa.array(values, pa.binary())),
    ({_Days}, _days),
    ({_Instant}, _instants),
    ({_Span}, lambda values, _: _ticked(values, pa.duration)),
    ({_Clock}, lambda values, _: _ticked(values, pa.time64)),
    ({_Items}, _lists),
    ({_Fields}, _structs),
]
