"""The columns of the tables: names, order and types."""

import json

import pyarrow as pa
import pytest

from modelops_ray.sandbox.arrays import plain_array
from modelops_ray.study.schema import identity_fields, parameter_types, simulations_schema
from modelops_ray.study.study import Study


def types_of(*sets):
    """The parameter columns of a study of these sets."""
    document = {"model": "m.f", "scenario": "baseline", "parameter_sets": [{"params": params} for params in sets]}
    return parameter_types(Study.from_json(json.dumps(document)).parameter_sets)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], pa.int64()),
        ([-(2**63), 2**63 - 1], pa.int64()),
        ([0, 2**63], pa.uint64()),
        ([2**64 - 1], pa.uint64()),
        ([-1, 2**63], pa.float64()),
        ([2**64], pa.float64()),
        ([-(2**64)], pa.float64()),
        ([1, 0.5], pa.float64()),
        ([0.5, 1], pa.float64()),
        ([0.5, 2**63], pa.float64()),
        ([True, False], pa.bool_()),
        (["a", "b"], pa.string()),
    ],
)
def test_one_type_holds_a_parameter_in_all_sets(values, expected):
    """And every value can be put into a column of it."""
    data_type = types_of(*({"x": value} for value in values))["x"]

    assert expected == data_type
    assert values == plain_array(values, data_type).to_pylist()


def test_parameters_are_in_the_order_of_their_names():
    """The order of columns must not depend on which set came first."""
    assert ["a", "b", "c"] == list(types_of({"c": 1, "a": 1}, {"b": 1, "a": 1}))


def test_a_parameter_that_some_sets_lack_is_null_there():
    """It keeps its type; null is no value of another kind."""
    types = types_of({"x": 1}, {"y": 0.5})

    assert {"x": pa.int64(), "y": pa.float64()} == types
    assert [0.5, None] == plain_array([0.5, None], types["y"]).to_pylist()


def test_an_integer_too_long_for_a_float_is_rounded_in_the_column_only():
    """Arrow would refuse it."""
    assert [float(2**53 + 1)] == plain_array([2**53 + 1], pa.float64()).to_pylist()


def test_the_columns_of_simulations():
    """Names, order and types are what users' queries rely on."""
    expected = [
        ("task_id", "string"),
        ("param_id", "string"),
        ("replicate", "int32"),
        ("seed", "uint64"),
        ("scenario", "string"),
        ("status", "string"),
        ("cause", "string"),
        ("error_type", "string"),
        ("error_message", "string"),
        ("traceback", "string"),
        ("attempts", "int16"),
        ("seconds", "double"),
        ("peak_bytes", "int64"),
        ("request_bytes", "int64"),
        ("node", "string"),
        ("started_at", "timestamp[us, tz=UTC]"),
        ("ended_at", "timestamp[us, tz=UTC]"),
        ("param_beta", "double"),
        ("param_n", "int64"),
    ]

    assert expected == [(f.name, str(f.type)) for f in simulations_schema(types_of({"n": 1, "beta": 0.1}))]


def test_the_columns_before_those_of_the_model():
    """Every output begins with the identity and the parameters of the simulation."""
    assert ["task_id", "param_id", "replicate", "seed", "param_beta"] == identity_fields(types_of({"beta": 0.1})).names
