"""Values of replicates that differ in type and labels, from the model to the reader."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from support.studies import rows

from modelops_ray.store.reader import RunReader

pytest.importorskip("pandas")

MODEL = """
import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd


def simulate(params, seed):
    i = params["i"]
    if i == 11:
        return {"amounts": {"when": [dt.datetime(9999, 1, 1)], "price": [Decimal("1")], "id": [1]}}
    frame = pd.DataFrame({"day": [1.0, 2.0, 3.0], "n": [i, np.nan if i % 3 == 0 else 5, 7]})
    return {
        "left": frame.dropna(),
        "amounts": {
            "when": [dt.datetime(2020, 1, 1)] if i % 2 else np.array(["2020-01-01T00:00:00.000000001"], "M8[ns]"),
            "price": [Decimal(1) / 2**i],
            "id": [2**64 - 1 - i if i % 2 else i],
        },
    }
"""


def test_a_study_keeps_what_each_replicate_returned(place, tmp_path):
    """Times of two units, decimals of many, identifiers of 64 bits, and frames that lost rows or did not."""
    (place.folder / "model.py").write_text(MODEL)
    ended = place.run(
        place.study([{"i": i} for i in range(12)], 1), tmp_path / "run", "--backend", "local", "--chunk", "4"
    )
    reader = RunReader(tmp_path / "run")
    amounts, left = reader.output("amounts"), reader.output("left")
    (failed,) = (row for row in rows(tmp_path / "run") if row["status"] == "failed")

    assert 3 == ended.code, ended.stderr
    assert (11, "bad_output") == (failed["param_i"], failed["cause"])
    assert "column 'when': found timestamp[us]" in failed["error_message"]
    assert [pa.timestamp("ns"), pa.uint64()] == [amounts.schema.field(name).type for name in ("when", "id")]
    assert [Decimal(1) / 2**i for i in range(11)] == amounts["price"].to_pylist()
    assert [2**64 - 1 - i if i % 2 else i for i in range(11)] == amounts["id"].to_pylist()
    assert [0 if i % 2 else 1 for i in range(11)] == [value.nanosecond for value in amounts["when"].to_pylist()]
    assert {dt.date(2020, 1, 1)} == {value.date() for value in amounts["when"].to_pylist()}
    expected = [index for i in range(11) for index in ([0, 2] if i % 3 == 0 else [0, 1, 2])]
    assert expected == left["index"].to_pylist()
