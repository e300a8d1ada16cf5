"""Of a large run the outputs of some parameter sets are read; what is left out is said."""

import numpy as np
import pytest
from support.pages import outputs, simulations, tables
from support.stores import Clock, grid, open_store, payload

from modelops_ray.report.page import build
from modelops_ray.report.page.build import page_of, read_run
from modelops_ray.store.commits import FileUse
from modelops_ray.store.reader import RunReader

STUDY = grid(6, 2)


@pytest.fixture
def reader(tmp_path):
    """A run of six parameter sets with two simulations each."""
    store = open_store(tmp_path / "run", STUDY, clock=Clock())
    store.commit([payload(STUDY, range(12))], [])
    return RunReader(tmp_path / "run")


def test_of_a_small_run_all_outputs_are_read(reader):
    """All rows of them."""
    made = read_run(reader, "run")

    assert (36, None) == (made.outputs[0].table.num_rows, made.sampled)


def test_of_a_large_run_the_outputs_of_some_sets_are_read(reader, monkeypatch):
    """All simulations of each, so that the bands of a set are whole."""
    monkeypatch.setattr(build, "MOST_SAMPLED", 5)
    made = read_run(reader, "run")
    simulations = np.unique(made.outputs[0].simulation)

    assert 4 == made.sampled
    assert [2, 2] == np.unique(simulations // 2, return_counts=True)[1].tolist()
    assert "From 4 simulations, of parameter sets that were drawn at random." in page_of(made).sections[0].sentences


def test_outputs_that_are_not_drawn_are_named():
    """Whichever reason there is."""
    returned = outputs(simulations(16, 5), 20)
    returned["agents"] = returned["daily"].select(["task_id", "cases"])
    sentences = page_of(tables(outputs=returned, n_outputs=20)).sections[0].sentences

    assert "Not drawn: agents (no column of it is a time)." in sentences
    assert "17 more outputs of the model not looked at." in sentences


def test_files_that_results_used_are_listed():
    """The first few at once, the others behind a lid."""
    files = {f"data/{at:02}.csv": FileUse("ab" * 32 if at else None, 70 - at) for at in range(25)}
    (section,) = [each for each in page_of(tables(files=files)).sections if each.id == "files"]

    assert ("data/00.csv", "70", "gone, which was accepted") == section.tables[0].rows[0]
    assert ("data/01.csv", "69", "abababababab") == section.tables[0].rows[1]
    assert (20, 5, "5 more") == (len(section.tables[0].rows), len(section.tables[1].rows), section.tables[1].lid)


def test_what_is_still_to_run_is_a_fact():
    """A page of a run that goes on."""
    facts = {fact.name: fact.value for fact in page_of(tables(total=100)).facts}

    assert {"results": "70", "failed": "10", "not run yet": "20"} == {
        name: facts[name] for name in ("results", "failed", "not run yet")
    }
