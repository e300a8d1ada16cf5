"""What travels between driver and worker arrives as it was sent."""

from __future__ import annotations

import io
import pickle

import pyarrow as pa
import pytest

from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured
from modelops_ray.study.chunk import Chunk, OutputTable, Payload, Simulation

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


class Asking(pickle.Pickler):
    """Asks Python about every object that is no plain value, as Ray's pickler does."""

    asked = 0

    def reducer_override(self, obj):
        """Count, and leave it to the object."""
        self.asked += 1
        return NotImplemented


def chunk_of(n):
    """A chunk of two parameter sets."""
    sets = [({"beta": 0.1, "name": "a"}, "p"), ({"beta": 0.2}, "q")]
    return Chunk(7, tuple(Simulation(10 + i, i % 2, *sets[i % 2], i, 2**64 - 1 - i) for i in range(n)), (2,) * n, 5, 4)


def report_of(n):
    """A report with a failure."""
    failures = (Failure(99, Cause.TIMEOUT, "Timeout", "late"),)
    return ChunkReport(tuple(Measured(i, 0.5 * i, i) for i in range(n)), failures, base_bytes=3, notice="careful")


@pytest.mark.parametrize("make", [chunk_of, report_of])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_a_thousand_simulations_arrive_as_they_were_at_the_price_of_a_few(make, n):
    """Python is asked about the whole, not about each of them: that would cost more than they take."""
    sent, stream = make(n), io.BytesIO()
    pickler = Asking(stream, protocol=5)
    pickler.dump(sent)
    arrived = pickle.loads(stream.getvalue())
    assert sent == arrived
    assert kinds_of(sent) == kinds_of(arrived)
    assert pickler.asked < 10


def test_parameters_that_simulations_share_are_one_object_where_they_arrive():
    """A set may be large, and has many replicates."""
    first, _, third = pickle.loads(pickle.dumps(chunk_of(3))).simulations
    assert first.params is third.params


def kinds_of(parcel):
    """The types of what is in it: a named tuple is equal to a plain one."""
    return list(map(type, parcel.simulations if isinstance(parcel, Chunk) else parcel.completed))
