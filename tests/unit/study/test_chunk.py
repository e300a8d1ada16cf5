"""What travels between driver and worker arrives as it was sent."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from modelops_ray.study.chunk import OutputTable, Payload

_COLUMNS = {
    "text": pa.array(["a", None, "ä"]),
    "encoded": pa.array(["a", "b", "a"]).dictionary_encode(),
    "nested": pa.array([[{"x": 1}], None, []]),
    "time": pa.array([1, 2, None], pa.timestamp("ns", "UTC")),
    "nothing": pa.nulls(3),
}


@pytest.mark.parametrize("n_rows", [0, 3])
def test_tables_of_any_type_arrive_as_they_were(n_rows):
    """Also without a row."""
    table = pa.table(_COLUMNS).slice(0, n_rows)
    sent = Payload((4, 5), table, {"r": (OutputTable((4,), (n_rows,), table),)})
    assert sent == pickle.loads(pickle.dumps(sent))
