"""The first look shows means of a small output with one row per simulation, and reads nothing else."""

import io

import numpy as np
import pyarrow as pa
import pytest

from modelops_ray.report.screen import Screen
from modelops_ray.report.tables import print_first_look, print_table
from modelops_ray.store.directory import OutputSize


def output(**columns):
    """Two parameter sets of two replicates each, one row per simulation."""
    identity = {"task_id": list("abcd"), "param_id": list("xxyy"), "replicate": [0, 1] * 2, "seed": [1, 2, 3, 4]}
    return pa.table(identity | {"param_beta": [0.5, 0.5, 1.5, 1.5]} | columns)


def looked(table):
    """What is printed of one output called `summary`."""
    text = io.StringIO()
    sizes = {"summary": OutputSize(table.num_rows, 1000)}
    print_first_look(Screen(file=text, width=80), sizes, 4, lambda _name: table)
    return text.getvalue()


def test_an_output_of_one_row_per_simulation_is_shown_as_means():
    """Over the replicates of each parameter set."""
    lines = looked(output(size=[1, 2, 3, 4])).splitlines()

    assert "summary: mean over replicates" == lines[0]
    assert ["beta", "replicates", "size"] == lines[1].split()
    assert [["0.5", "2", "1.5"], ["1.5", "2", "3.5"]] == [line.split() for line in lines[3:5]]


def test_an_output_of_more_rows_than_simulations_is_not_read():
    """Millions of rows can be a few megabytes on disk."""

    def read(name):
        pytest.fail(f"{name} was read")

    print_first_look(Screen(file=io.StringIO()), {"daily": OutputSize(5, 1000)}, 4, read)


def test_columns_that_arrow_has_no_means_of_are_left_out():
    """Half precision; what else there is has its means."""
    lines = looked(output(half=np.array([1, 2, 3, 4], np.float16), size=[1, 2, 3, 4])).splitlines()

    assert ["beta", "replicates", "size"] == lines[1].split()


def test_a_column_that_is_called_like_a_size_and_holds_text_is_shown_as_it_is():
    """A model names its columns as it likes."""
    text = io.StringIO()
    print_table(Screen(file=text, width=80), output(raw_bytes=["few", "many", None, "none"], n_bytes=[2**20] * 4), ())

    assert "raw_bytes" in text.getvalue()
    assert "many" in text.getvalue()
    assert "1.0 MiB" in text.getvalue()
