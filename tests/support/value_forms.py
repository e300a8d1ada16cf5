"""What models return, form by form, and the table that a person means by it or the words it is refused with.

A form is Python source, so that one table serves tests in this process and models in others, which evaluate it with
`MODEL`. Expected are the tables by output, or words of the refusal.
"""

# ruff: noqa: DTZ001, E501, ISC004 (a table is read line by line, and times without a zone are what it is about)
from __future__ import annotations

import datetime as dt
from decimal import Decimal as D  # noqa: N817
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa


class Form(NamedTuple):
    """What a model returns, and what is to become of it."""

    source: str
    expected: dict[str, pa.Table] | str


MODEL = '''
"""Returns the form that its parameter names; libraries are imported where a form needs them."""

import importlib

NAMES = {"np": "numpy", "pd": "pandas", "pl": "polars", "pa": "pyarrow", "xr": "xarray", "dt": "datetime"}
CLASSES = """
import collections, dataclasses, enum
class Color(enum.Enum):
    RED = "red"
class Opaque(enum.Enum):
    SELF = object()
class Level(enum.IntEnum):
    LOW = 1
@dataclasses.dataclass
class Point:
    x: object
    y: object
Row = collections.namedtuple("Row", "a b")
class Tensor:
    ndim = 1
    def __array__(self, dtype=None, copy=None):
        import numpy
        return numpy.arange(3.0)
class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it is on another device")
class Exchanged:
    def __dlpack__(self, **options):
        import numpy
        return numpy.arange(3.0).__dlpack__(**options)
    def __dlpack_device__(self):
        return (1, 0)
def nested(n_levels):
    return [nested(n_levels - 1)] if n_levels else 1
def deep_type(n_levels):
    import pyarrow
    return pyarrow.list_(deep_type(n_levels - 1)) if n_levels else pyarrow.int64()
def endless_array():
    import numpy
    array = numpy.empty(1, object)
    array[0] = array
    return array
ENDLESS, ENDLESS_MAPPING = [], {}
ENDLESS.append(ENDLESS)
ENDLESS_MAPPING["a"] = ENDLESS_MAPPING
"""


class Names(dict):
    def __missing__(self, name):
        if name == "D":
            return importlib.import_module("decimal").Decimal
        if name in ("Color", "Opaque", "Level", "Point", "Row", "Tensor", "Broken", "Exchanged", "nested", "deep_type",
                    "endless_array", "ENDLESS", "ENDLESS_MAPPING"):
            exec(CLASSES, self)
            return self[name]
        if name in __builtins__ if isinstance(__builtins__, dict) else hasattr(__builtins__, name):
            raise KeyError(name)
        return importlib.import_module(NAMES.get(name, name))


def form(source):
    return eval(source, Names())


def simulate(params, seed):
    return form(SOURCES[params["n"]])
'''


def one(**columns: object) -> dict[str, pa.Table]:
    """One bare table."""
    return {"result": pa.table(columns)}


def model_of(sources: list[str], libraries: str) -> str:
    """Return a model that returns the n-th of these where its parameter `n` says so, and imports libraries at first."""
    return f"{MODEL}\n\nimport {libraries}\nSOURCES = {sources!r}\n"


BIG = 2**60 + 1
DAY, HOUR = dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 5)
UUID = "00000000-0000-0000-0000-000000000005"
S, MS, US, NS = pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns")
TEXTS = pa.list_(pa.string())
I8, I32, F32, U64 = pa.int8(), pa.int32(), pa.float32(), pa.uint64()

FORMS: dict[str, Form] = {
    name: Form(source, expected)
    for name, source, expected in [
        # Masks.
        ("masked array", '{"x": np.ma.masked_array([1.0, -9999.0], [0, 1])}', one(x=[1.0, None])),
        ("masked_all", '{"x": np.ma.masked_all(2), "y": [1, 2]}', one(x=pa.nulls(2, pa.float64()), y=[1, 2])),
        ("masked scalar", '{"x": np.ma.masked, "y": 1}', one(x=[None], y=[1])),
        ("masked in a list", '{"x": [1, np.ma.masked]}', one(x=[1, None])),
        ("masked, bare", "np.ma.masked_array([1, -9], [0, 1])", one(value=[1, None])),
        (
            "masked records",
            'np.ma.array([(1, 2.0), (3, 4.0)], mask=[(0, 1), (1, 0)], dtype=[("a", "i4"), ("b", "f8")])',
            one(a=pa.array([1, None], I32), b=[None, 4.0]),
        ),
        ("masked objects", '{"x": np.ma.array([object(), 2], mask=[1, 0], dtype=object)}', one(x=[None, 2])),
        ("masked text", '{"x": np.ma.array(["a", "b"], mask=[1, 0])}', one(x=[None, "b"])),
        (
            "masked dates",
            '{"x": np.ma.array(np.array(["2020-01-01", "1970-01-01"], "M8[D]"), mask=[0, 1], hard_mask=True)}',
            one(x=[DAY, None]),
        ),
        ("masked in rows", '{"x": [np.ma.masked_array([1, 2], [0, 1]), None]}', one(x=[[1, None], None])),
        (
            "masked in two dimensions",
            '{"x": np.ma.masked_array([[1, 2], [3, 4]], [[0, 1], [0, 0]])}',
            one(x_0=[1, 3], x_1=[None, 4]),
        ),
        ("masked longdouble", '{"x": np.ma.array(np.longdouble(1) / [3, 2], mask=[1, 0])}', one(x=[None, 0.5])),
        # pandas, outside of a series too.
        ("Int64 array", '{"x": pd.array([2**60 + 1, None], "Int64")}', one(x=[BIG, None])),
        ("Int64 values", 'pd.DataFrame({"x": pd.array([2**60 + 1, None], "Int64")})["x"].values', one(value=[BIG, None])),
        ("Int64 index", '{"x": pd.Index([2**60 + 1, None], dtype="Int64")}', one(x=[BIG, None])),
        ("UInt64 array", '{"x": pd.array([2**63 + 1, None], "UInt64")}', one(x=pa.array([2**63 + 1, None], U64))),
        (
            "boolean and string arrays",
            '{"x": pd.array([True, None], "boolean"), "y": pd.array(["a", None], "string")}',
            one(x=[True, None], y=["a", None]),
        ),
        ("Float64 array", '{"x": pd.array([1.5, None], "Float64")}', one(x=[1.5, None])),
        ("categories", '{"x": pd.Categorical(["a", None]), "y": pd.Categorical([2, 1])}', one(x=["a", None], y=[2, 1])),
        (
            "times of a zone",
            '{"x": pd.array(pd.to_datetime(["2020-01-01"]).tz_localize("Europe/Berlin"))}',
            one(x=pa.array([dt.datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))])),
        ),
        ("periods", '{"x": pd.period_range("2020-01", periods=2, freq="M")}', one(x=["2020-01", "2020-02"])),
        ("periods, frame", 'pd.DataFrame({"x": pd.period_range("2020Q1", periods=1, freq="Q")})', one(x=["2020Q1"])),
        ("period, scalar", '{"x": pd.Period("2020-01"), "y": 1}', one(x=["2020-01"], y=[1])),
        ("intervals", 'pd.DataFrame({"x": pd.cut([1, 2], [0, 1, 2])})', one(x=["(0, 1]", "(1, 2]"])),
        ("sparse", 'pd.DataFrame({"x": pd.arrays.SparseArray([0, 1])})', one(x=[0, 1])),
        ("sparse array", '{"x": pd.arrays.SparseArray([0.0, 1.5])}', one(x=[0.0, 1.5])),
        ("Arrow in pandas", '{"x": pd.array([2**60 + 1, None], pd.ArrowDtype(pa.int64()))}', one(x=[BIG, None])),
        ("objects in pandas", '{"x": pd.Series(["a", None, float("nan")], dtype=object)}', one(x=["a", None, None])),
        ("complex in pandas", 'pd.DataFrame({"x": [1j]})', "the real and the imaginary parts"),
        # What is missing.
        (
            "missing scalars",
            '{"a": pd.NaT, "b": pd.NA, "c": None, "d": np.datetime64("NaT"), "e": 1}',
            one(a=[None], b=[None], c=[None], d=[None], e=[1]),
        ),
        (
            "missing in lists",
            '{"a": [pd.NaT, pd.Timestamp("2020")], "b": [pd.NA, 1], "c": ["a", float("nan")], "d": [True, np.nan],'
            ' "e": [np.datetime64("NaT"), np.datetime64("2020-01-01")], "f": [pd.NaT, pd.Timedelta(1, "D")]}',
            one(
                a=pa.array([None, dt.datetime(2020, 1, 1)], US),
                b=[None, 1],
                c=["a", None],
                d=[True, None],
                e=[None, DAY],
                f=[None, dt.timedelta(1)],
            ),
        ),
        ("NaN among numbers", '{"x": [None, 1.5], "y": [1, np.float32(2)]}', one(x=[None, 1.5], y=[1.0, 2.0])),
        # Numbers.
        ("decimals", '{"x": [D("1.5"), D("2.25"), None], "y": [D("1"), 2, 3]}',
            one(x=[D("1.50"), D("2.25"), None], y=[D(1), D(2), D(3)])),
        ("decimal NaN", '{"x": [D("NaN")]}', "row 0: found a Decimal NaN"),
        ("long decimals", '{"x": [D(1), D(10**38)]}', "more than 38 digits"),
        ("integers beside floats", '{"x": [2**53, 1.5]}', one(x=[2.0**53, 1.5])),
        ("large integers beside floats", '{"x": [1.5, 2**53 + 1]}', "row 1: found an integer beside floats"),
        ("unsigned integers", '{"x": [1, 2**64 - 1]}', one(x=pa.array([1, 2**64 - 1], U64))),
        ("unsigned in lists", '{"x": [[1], [2**63]]}', one(x=pa.array([[1], [2**63]], pa.list_(U64)))),
        ("integers of no type", '{"x": [-1, 2**63]}', "which 64 bits do not hold"),
        ("huge integers", '{"x": 10**5000}', "which 64 bits do not hold"),
        ("truth and integers", '{"x": [True, 1]}', "a bool in row 0 and an int in row 1"),
        ("truth and floats", '{"x": [1.5, True]}', "a float in row 0 and a bool in row 1"),
        ("text and bytes", '{"x": ["a", b"b"]}', "text in row 0 and bytes in row 1"),
        ("complex", '{"x": np.array([1j])}', "the real and the imaginary parts"),
        ("complex, scalar", '{"x": 1j, "y": 1}', "column 'x', row 0: found a complex number"),
        ("fractions", '{"x": [__import__("fractions").Fraction(1, 3)]}', "its numerator and denominator"),
        ("half and long floats", '{"x": np.array([1.5], "f2"), "y": np.array([0.5], np.longdouble)}',
            one(x=pa.array([1.5], pa.float16()), y=[0.5])),
        ("long floats beyond", '{"x": np.array([1], np.longdouble) / 3}', "that a float of 64 bits does not hold"),
        ("big-endian", '{"x": np.array([1, 2], ">i4"), "y": np.array([1.5, 2], ">f8"), "z": np.array(["2020-01-01T05", "NaT"], ">M8[ms]")}',
            one(x=pa.array([1, 2], I32), y=[1.5, 2.0], z=pa.array([HOUR, None], MS))),
        ("numpy scalars", '{"x": np.int8(1), "y": np.float32(0.5), "z": np.array(5), "t": np.str_("a"), "b": np.bytes_(b"b")}',
            one(x=pa.array([1], I8), y=pa.array([0.5], F32), z=[5], t=["a"], b=[b"b"])),
        # Dates and times.
        ("dates of NumPy", '{"x": np.array(["2020-01"], "M8[M]"), "y": np.array(["2020-01-01T05"], "M8[h]"),'
            ' "z": np.array(["2020"], "M8[Y]"), "w": np.array(["2020-01-01"], "M8[D]"), "v": np.array(["2020-01-02"], "M8[W]")}',
            one(x=[DAY], y=pa.array([HOUR], MS), z=[DAY], w=[DAY], v=[dt.date(2020, 1, 2)])),
        ("spans of NumPy", '{"x": np.array([1, "NaT"], "m8[D]"), "y": np.array([1, 2], "m8[us]")}',
            one(x=pa.array([86400, None], pa.duration("s")), y=pa.array([1, 2], pa.duration("us")))),
        ("months of NumPy", '{"x": np.array([1], "m8[M]")}', "timedelta64[M], which has no fixed length"),
        ("spans without unit", '{"x": np.array([1], "m8")}', "without a unit"),
        ("picoseconds", '{"x": np.array([2000], "m8[ps]")}', one(x=pa.array([2], pa.duration("ns")))),
        ("odd picoseconds", '{"x": np.array([1], "m8[ps]")}', "that timedelta64[ns] does not hold"),
        ("date scalars of NumPy", '{"x": np.datetime64("2020-01-01"), "y": np.timedelta64(5, "m"), "z": np.datetime64("2020-01-01T05", "ns")}',
            one(x=[DAY], y=pa.array([300], pa.duration("s")), z=pa.array([HOUR], NS))),
        ("dates of two units", '{"x": [np.datetime64("2020-01-01"), np.datetime64("2020-01-01T05", "s")]}',
            one(x=pa.array([dt.datetime(2020, 1, 1), HOUR], MS))),
        ("dates of no unit", '{"x": [np.datetime64("9999-01-01"), np.datetime64(1, "ns")]}', "values of no common type"),
        ("years beyond", '{"x": np.array([20000], "M8[D]").astype("M8[Y]") + 20000}', "the years 1 to 9999"),
        ("nanoseconds", '{"x": [pd.Timestamp(1577836800000000001)], "y": [pd.Timedelta(1, "ns")]}',
            one(x=pa.array([1577836800000000001], NS), y=pa.array([1], pa.duration("ns")))),
        ("year 9999", '{"x": dt.datetime(9999, 12, 31), "y": 1}', one(x=pa.array([dt.datetime(9999, 12, 31)], US), y=[1])),
        ("two zones", '{"x": [dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))), dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)]}',
            one(x=pa.array([dt.datetime(2019, 12, 31, 22, tzinfo=dt.UTC), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)], pa.timestamp("us", "UTC")))),
        ("a zone and none", '{"x": [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)]}', "times with a zone and without"),
        ("date and time", '{"x": [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 5)]}', "a date in row 0 and a datetime in row 1"),
        ("time of a zone", '{"x": [dt.time(1, tzinfo=dt.timezone.utc)]}', "a time of day with a zone"),
        ("times of day", '{"x": dt.time(1, 2), "y": dt.timedelta(seconds=3), "z": dt.date(2020, 1, 1)}',
            one(x=[dt.time(1, 2)], y=[dt.timedelta(seconds=3)], z=[DAY])),
        # Text and other values.
        ("identifiers", '{"p": uuid.UUID(int=5), "x": 1.0}', one(p=[UUID], x=[1.0])),
        ("paths", '{"p": [pathlib.Path("a/b"), None]}', one(p=["a/b", None])),
        ("members", '{"x": Color.RED, "y": Level.LOW, "z": 1.5}', one(x=["red"], y=[1], z=[1.5])),
        ("opaque members", '{"x": Opaque.SELF, "z": 1.5}', "return its name"),
        ("NUL in text", r'{"x": np.array(["a\0b", ""]), "y": np.array([b"a\0b", b""])}', one(x=["a\0b", ""], y=[b"a\0b", b""])),
        ("broken text", r'{"x": "\ud800", "y": 1}', "column 'x', row 0: found text that UTF-8 cannot hold"),
        ("raw bytes", '{"x": bytearray(b"a"), "y": np.void(b"bc")}', one(x=[b"a"], y=[b"bc"])),
        ("an object", '{"x": object(), "y": 1}', "column 'x', row 0: found an object"),
        # Columns of other kinds.
        ("other sequences", '{"x": array.array("d", [1.5, 2]), "y": range(2), "z": {1: 2, 3: 4}.values(),'
            ' "w": collections.deque([1, 2]), "v": (i for i in range(2)), "u": {1: 0, 2: 0}.keys()}',
            one(x=[1.5, 2.0], y=[0, 1], z=[2, 4], w=[1, 2], v=[0, 1], u=[1, 2])),
        ("a set", '{"x": {1, 2}}', "a set, which has no order"),
        ("sets in rows", '{"x": [{1}, {2}]}', "row 0: found a set, which has no order"),
        ("an array of another library", '{"x": Tensor(), "y": [1, 2, 3]}', one(x=[0.0, 1.0, 2.0], y=[1, 2, 3])),
        ("lists", '{"x": [[1], [1.5], None], "y": [[D("1.5")], [D("2.25")], []], "z": [(1, 2), [3], np.array([4])]}',
            one(x=[[1.0], [1.5], None], y=[[D("1.50")], [D("2.25")], []], z=[[1, 2], [3], [4]])),
        ("structs", '{"x": [{"a": 1}, {"b": pd.NA}, None], "y": [1, 2, 3]}',
            one(x=pa.array([{"a": 1}, {"b": None}, None], pa.struct([("a", pa.int64()), ("b", pa.null())])), y=[1, 2, 3])),
        ("a frame in a column", '{"x": [pd.DataFrame({"a": [1]})]}', "a table (pandas.DataFrame) within a column"),
        ("polars objects", '{"x": pl.Series([object()], dtype=pl.Object)}', "of polars' type Object"),
        ("polars objects, frame", 'pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)})', "column 'x': found a column of polars' type Object"),
        ("polars Int128", 'pl.DataFrame({"x": pl.Series([1], dtype=pl.Int128)})', "cast it to Int64"),
        ("polars categories", 'pl.DataFrame({"x": pl.Series([["a"], None], dtype=pl.List(pl.Categorical)), "y": pl.Series(["a", None], dtype=pl.Enum(["a", "b"]))})',
            one(x=pa.array([["a"], None], TEXTS), y=["a", None])),
        ("polars nested", 'pl.DataFrame({"x": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)), "y": pl.Series([{"a": "b"}, None], dtype=pl.Struct({"a": pl.Categorical}))})',
            one(x=[[1, 2], None], y=pa.array([{"a": "b"}, None], pa.struct([("a", pa.string())])))),
        ("polars times", 'pl.DataFrame({"x": [dt.timedelta(1), None], "y": [dt.time(1), None], "z": pl.Series(["1.5", None]).cast(pl.Decimal(10, 2)), "n": [None, None]})',
            one(x=[dt.timedelta(1), None], y=pa.array([dt.time(1), None], pa.time64("ns")), z=pa.array([D("1.50"), None], pa.decimal128(10, 2)), n=[None, None])),
        ("polars Int128 within", 'pl.DataFrame({"x": pl.Series([{"Object": [1]}], dtype=pl.Struct({"Object": pl.List(pl.Int128)}))})', "cast it to Int64"),
        ("polars names", 'pl.DataFrame({"Object": pl.Series([{"Object": 1}])})', {"result": pa.table({"Object": [{"Object": 1}]})}),
        ("lazy", 'pl.LazyFrame({"a": [1]})', "return .collect()"),
        # Types of Arrow.
        ("list views", 'pa.table({"x": pa.array([[1], None], pa.list_view(pa.int64())), "y": pa.array([["a"], []], pa.large_list_view(pa.string_view()))})',
            one(x=[[1], None], y=pa.array([["a"], []], TEXTS))),
        ("views in lists", 'pa.table({"x": pa.array([["a"], None], pa.list_(pa.string_view())), "y": pa.array([{"a": b"b"}, None], pa.struct([("a", pa.binary_view())]))})',
            one(x=pa.array([["a"], None], TEXTS), y=pa.array([{"a": b"b"}, None]))),
        ("maps", 'pa.table({"x": pa.array([[("z", 9)], [("a", 1)], None, []], pa.map_(pa.large_string(), pa.int64())).slice(1)})',
            one(x=pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())))),
        ("maps by structs", 'pa.table({"x": pa.array([[({"a": 1}, 2)]], pa.map_(pa.struct([("a", pa.int64())]), pa.int64()))})',
            one(x=[[{"key": {"a": 1}, "value": 2}]])),
        ("fixed lists", 'pa.table({"x": pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), "y": pa.array([[], None], pa.list_(pa.int64(), 0))})',
            one(x=[[1, 2], None], y=pa.array([[], None], pa.list_(pa.int64())))),
        ("runs", 'pa.table({"x": pa.RunEndEncodedArray.from_arrays([2, 3], pa.array(["a", None]))})', one(x=["a", "a", None])),
        ("dictionaries within", 'pa.table({"x": pa.array([{"a": "b"}, None], pa.struct([("a", pa.dictionary(pa.int8(), pa.large_string()))]))})',
            one(x=[{"a": "b"}, None])),
        ("extensions", 'pa.table({"x": pa.array([uuid.UUID(int=5), None]), "y": pa.array(["{}", None], pa.json_()), "z": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(4).reshape(2, 2))})',
            one(x=[UUID, None], y=["{}", None], z=[[0, 1], [2, 3]])),
        ("unions", 'pa.table({"x": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])})', "no column holds values of several types"),
        ("calendar intervals", 'pa.table({"x": pa.array([None], pa.month_day_nano_interval())})', "months have no fixed length"),
        ("short and long decimals", 'pa.table({"x": pa.array([D("1.5")], pa.decimal32(5, 2)), "y": pa.array([D("1.5")], pa.decimal256(20, 2))})',
            one(x=pa.array([D("1.50")], pa.decimal128(5, 2)), y=pa.array([D("1.50")], pa.decimal128(20, 2)))),
        ("too long decimals", 'pa.table({"x": pa.array([D("1.5")], pa.decimal256(50, 2))})', "38 digits at most"),
        ("other Arrow", 'pa.table({"x": pa.array([[None]], pa.list_(pa.null())), "y": pa.array([b"ab"], pa.binary(2)), "d": pa.array([dt.date(2020, 1, 1)], pa.date64()), "t": pa.array([1577854800], pa.timestamp("s")), "q": pa.array([1], pa.time32("s"))})',
            one(x=pa.array([[None]], pa.list_(pa.null())), y=[b"ab"], d=[DAY], t=pa.array([HOUR], MS), q=pa.array([1000], pa.time32("ms")))),
        ("no fields", 'pa.table({"x": pa.array([{}], pa.struct([]))})', "a struct without fields"),
        # Labels of rows.
        ("frame by date", 'pd.DataFrame({"x": [1.0]}, index=pd.DatetimeIndex(["2020-01-01T05"]))', one(x=[1.0], date=pa.array([HOUR], US))),
        ("frame by span", 'pd.DataFrame({"x": [1.0]}, index=pd.to_timedelta([1], unit="s"))', one(x=[1.0], time=pa.array([1000000], pa.duration("us")))),
        ("described", 'pd.DataFrame({"x": [1.0, 1.0]}).describe().iloc[:2]', one(x=[2.0, 1.0], index=["count", "mean"])),
        ("frame by step", 'pd.DataFrame({"x": [1.0, 2.0]}, index=pd.RangeIndex(2, name="Step"))', one(x=[1.0, 2.0], Step=[0, 1])),
        ("frame of a later range", 'pd.DataFrame({"x": [1.0, 2.0]}, index=pd.RangeIndex(0, 20, 10))', one(x=[1.0, 2.0], index=[0, 10])),
        ("grouped", 'pd.DataFrame({"g": ["a", "a"], "h": [1, 2], "x": [1.0, 2.0]}).groupby(["g", "h"]).agg({"x": ["mean", "sum"]})',
            one(x_mean=[1.0, 2.0], x_sum=[1.0, 2.0], g=["a", "a"], h=[1, 2])),
        ("levels", 'pd.DataFrame({"x": [1.0]}, index=pd.MultiIndex.from_tuples([(1, "b")]))', one(x=[1.0], level_0=[1], level_1=["b"])),
        ("index beside its name", 'pd.DataFrame({"date": [1.0]}, index=pd.DatetimeIndex(["2020-01-01T05"]))', one(date=[1.0], index=pa.array([HOUR], US))),
        ("index beside its column", 'pd.DataFrame({"x": [3.0]}).set_index("x", drop=False)', one(x=[3.0])),
        ("index beside another column", 'pd.DataFrame({"x": [1.0]}, index=pd.Index([3.0], name="x"))', "an index 'x' beside another column"),
        ("index beside all names", 'pd.DataFrame({"index": [1]}, index=[7])', "an index without a name beside a column 'index'"),
        ("series", 'pd.Series([1.0, 2.0], index=["a", "b"], name="v")', one(v=[1.0, 2.0], index=["a", "b"])),
        ("series of one index", '{"S": pd.Series([1, 2], index=["a", "b"]), "I": pd.Series([3, 4], index=["a", "b"])}', one(S=[1, 2], I=[3, 4], index=["a", "b"])),
        ("a series beside a table", '{"s": pd.Series([1.0], index=["a"]), "t": {"n": 1}}',
            {"s": pa.table({"value": [1.0], "index": ["a"]}), "t": pa.table({"n": [1]})}),
        ("a labelled array beside a table", '{"s": xr.DataArray([1.0], dims="day", coords={"day": [3]}), "t": {"n": 1}}',
            {"s": pa.table({"day": [3], "value": [1.0]}), "t": pa.table({"n": [1]})}),
        ("a series with labels beside one without", '{"S": pd.Series([1, 2], index=[1, 0]), "I": pd.Series([3, 4])}', "series with different indexes"),
        ("a series with labels beside a list", '{"S": pd.Series([1, 2], index=["a", "b"]), "I": [3, 4]}', one(S=[1, 2], I=[3, 4], index=["a", "b"])),
        ("series of two", '{"S": pd.Series([1, 2], index=["a", "b"]), "I": pd.Series([3, 4], index=["b", "a"])}', "series with different indexes"),
        # Forms of tables.
        ("rows", '[{"a": 1, "b": "x"}, {"a": 2}]', one(a=[1, 2], b=["x", None])),
        ("rows by name", '{"agents": [{"a": 1}, {"a": 2}], "total": {"n": 2}, "log": []}',
            {"agents": pa.table({"a": [1, 2]}), "total": pa.table({"n": [2]})}),
        ("only rows by name", '{"agents": [{"a": 1}, {"a": 2}]}', {"agents": pa.table({"a": [1, 2]})}),
        ("rows beside columns", '{"id": [1, 2], "at": [{"x": 1}, {"x": 2}]}', one(id=[1, 2], at=[{"x": 1}, {"x": 2}])),
        ("named tuples", '[Row(1, "a"), Row(2, "b")]', one(a=[1, 2], b=["a", "b"])),
        ("a named tuple", "Row(1, 'a')", one(a=[1], b=["a"])),
        ("a dataclass", "Point(1, 2.5)", one(x=[1], y=[2.5])),
        ("dataclasses", "[Point(1, None), Point(3, 4.5)]", one(x=[1, 3], y=[None, 4.5])),
        ("a dataclass of columns", "Point([1, 2], np.array([0.5, 1.5]))", one(x=[1, 2], y=[0.5, 1.5])),
        ("a dataclass of tables", "Point(pd.DataFrame({'a': [1]}), Row(1, 2))", {"x": pa.table({"a": [1]}), "y": pa.table({"a": [1], "b": [2]})}),
        ("records", 'np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])', one(a=pa.array([1], I32), b=[2.0])),
        ("a record", 'np.rec.fromarrays([[1], ["a"]], names="n,s")[0]', one(n=[1], s=["a"])),
        ("records one by one", 'list(np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")]))', one(a=pa.array([1, 3], I32), b=[2.0, 4.0])),
        ("two columns of one name", 'pd.DataFrame([[1, 2]], columns=["a", "a"])', "more than one column 'a'"),
        ("an endless name", '{"t": {("x" * 10000,): 1}, "u": {"x": 1}}', "…; column names must be text"),
        ("an endless key", '{"x": [{("x" * 10000,): 1}], "y": [1]}', "…; keys must be text"),
        ("endless spans", '{"x": np.array([2**62], "m8[s]")}', "more than 999,999,999 days"),
        ("endless spans of Arrow", 'pa.table({"x": pa.array([-(2**62)], pa.duration("ms"))})', "more than 999,999,999 days"),
        ("the longest span", '{"x": [dt.timedelta(days=999_999_999 // 10)], "y": np.array([999_999_999], "m8[D]")}',
            one(x=[dt.timedelta(days=99_999_999)], y=pa.array([86400 * 999_999_999], pa.duration("s")))),
        ("a list within itself", '{"x": ENDLESS, "y": [1]}', "nested more than 32 deep"),
        ("a mapping within itself", '{"x": [1, {"a": [ENDLESS_MAPPING]}]}', "nested more than 32 deep"),
        ("an array within itself", '{"x": [endless_array()]}', "nested more than 32 deep"),
        ("lists too deep", '{"x": [nested(40)]}', "nested more than 32 deep"),
        ("a type too deep", 'pa.table({"x": pa.nulls(1, deep_type(60))})', "nested more than 32 deep"),
        ("deep lists", '{"x": [nested(4)], "y": [[1]]}', one(x=[[[[[1]]]]], y=[[1]])),
        ("a number", "3", one(value=[3])),
        ("a list", "[1, 2]", one(value=[1, 2])),
        ("an array", "np.array([0.5, 1.5])", one(value=[0.5, 1.5])),
        ("a matrix", "np.array([[1, 2], [3, 4]])", one(x_0=[1, 3], x_1=[2, 4])),
        ("a matrix as a column", '{"x": np.array([[1, 2], [3, 4]]), "t": [0, 1]}', one(x_0=[1, 3], x_1=[2, 4], t=[0, 1])),
        ("three dimensions", '{"x": np.ones((2, 2, 2))}', "an array of 3 dimensions"),
        ("a wide matrix", '{"x": np.ones((1, 20000))}', "return it transposed"),
        ("a list of lists", "[[1, 2], [3, 4]]", "output 'result' is a list"),
        ("a tuple", "(1, 2)", "output 'result' is a tuple"),
        ("nothing", "None", "output 'result' is None"),
        ("a mapping within", '{"a": {"x": {"y": 1}}}', "a mapping within a table"),
        ("a polars series", 'pl.Series("s", [1, 2])', one(s=[1, 2])),
        ("an empty frame", "pd.DataFrame()", {}),
        ("a dataset", 'xr.Dataset({"S": (("t", "age"), np.arange(4.0).reshape(2, 2)), "n": ("t", [5, 6])}, coords={"t": [3, 4], "age": ["c", "a"]})',
            one(t=[3, 3, 4, 4], age=["c", "a", "c", "a"], S=[0.0, 1.0, 2.0, 3.0], n=[5, 5, 6, 6])),
        ("a labelled array", 'xr.DataArray([[1], [2]], dims=("t", "age"), coords={"age": ["c"]}, name="S")', one(t=[0, 1], age=["c", "c"], S=[1, 2])),
        ("labelled arrays", '{"S": xr.DataArray([1, 2], dims="t", coords={"t": [3, 4]}), "I": xr.DataArray([5, 6], dims="t", coords={"t": [3, 4]})}',
            one(t=[3, 4], S=[1, 2], I=[5, 6])),
        ("labelled otherwise", '{"S": xr.DataArray([1], dims="t", coords={"t": [3]}), "I": xr.DataArray([5], dims="t", coords={"t": [4]})}', "arrays of different coordinates"),
        ("variables along others", 'xr.Dataset({"a": ("x", [1, 2]), "b": ("y", [1, 2, 3])})', "is not along x"),
        # More of other libraries.
        ("rows of a generator", '({"a": i} for i in range(2))', one(a=[0, 1])),
        ("rows of a generator by name", '{"agents": ({"a": i} for i in range(2)), "n": {"x": 1}}', {"agents": pa.table({"a": [0, 1]}), "n": pa.table({"x": [1]})}),
        ("a subclass", '{"x": np.arange(4).reshape(2, 2).view(np.recarray), "y": np.arange(2).view(np.recarray)}', one(x_0=[0, 2], x_1=[1, 3], y=[0, 1])),
        ("an array that is elsewhere", '{"x": Broken(), "y": [1]}', "cannot be read: it is on another device"),
        ("an array that is exchanged", '{"x": Exchanged(), "y": [1, 2, 3]}', one(x=[0.0, 1.0, 2.0], y=[1, 2, 3])),
        ("times beyond", 'pa.table({"x": pa.array([2**60], pa.timestamp("us"))})', "the years 1 to 9999"),
        ("complex, bare", "1j", "output 'result' is a complex number"),
        ("NUL in rows", r'{"x": [np.array(["a\0b"]), np.array(["c"])]}', one(x=[["a\0b"], ["c"]])),
        ("exact lists", '{"x": [np.array([2**60 + 1]), [1]], "y": [np.array([1, 2]), np.array([0.5])]}', one(x=[[BIG], [1]], y=[[1.0, 2.0], [0.5]])),
        ("inexact lists", '{"x": [np.array([2**60 + 1]), np.array([0.5])]}', "lists of values of no common type"),
        ("series in rows", '{"x": [pl.Series([1, 2]), None], "y": [pd.Series([1, None], dtype="Int64"), None]}', one(x=[[1, 2], None], y=[[1, None], None])),
        ("an index", 'pd.Index(["a", "b"], name="k")', one(k=["a", "b"])),
        ("numbers as names", "pd.DataFrame(np.array([[0.5, 1.5]]))", {"result": pa.table({"0": [0.5], "1": [1.5]})}),
        ("levels of an array", 'xr.DataArray([1, 2], dims="i", coords={"i": pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["p", "q"])}, name="v")',
            one(p=[1, 2], q=["a", "b"], v=[1, 2])),
        ("a labelled column beside another", '{"a": xr.DataArray([1, 2], dims="t", coords={"t": [3, 4], "run": 7}), "b": [5, 6]}',
            one(a=[1, 2], b=[5, 6], t=[3, 4], run=[7, 7])),
        ("a labelled column beside its labels", '{"a": xr.DataArray([1, 2], dims="t", coords={"t": [3, 4]}), "t": [3, 4]}', one(a=[1, 2], t=[3, 4])),
        ("a labelled column beside other labels", '{"a": xr.DataArray([1, 2], dims="t", coords={"t": [3, 4]}), "t": [3, 5]}', "beside another column of that name"),
        ("a labelled scalar beside another", '{"a": xr.DataArray([1.0, 2.0], dims="t").mean(), "n": 7}', one(a=[1.5], n=[7])),
        ("a labelled last value", '{"a": xr.DataArray([1, 2], dims="t", coords={"t": [3, 4]}).isel(t=-1), "n": 7}', one(a=[2], n=[7], t=[4])),
        ("a labelled column", '{"a": xr.DataArray([1, 2], dims="t"), "b": [3, 4]}', one(a=[1, 2], b=[3, 4])),
        ("a scalar coordinate", 'xr.Dataset({"n": ("t", [5, 6])}, coords={"t": ("t", [0.5, 1.5]), "run": 3})', one(t=[0.5, 1.5], run=[3, 3], n=[5, 6])),
    ]
}  # fmt: skip
"""By name; the columns of a table are in this order."""
