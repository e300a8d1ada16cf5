"""Records on disk, and rounds."""

import pytest
from pydantic import ValidationError
from support.records import record

from benchmarks import records, rounds
from benchmarks.compare import rows
from benchmarks.measure import Ended, Ran, outcome_of
from benchmarks.rounds import order, run_round, with_efficiency
from benchmarks.scenarios import SCENARIOS


def test_records_come_back_as_they_were_kept(tmp_path):
    """One line each."""
    kept = [record("pool"), record("dask-incident", outcome="stuck", done=0)]
    records.append(tmp_path / "need_sweep.jsonl", kept)
    assert kept == records.read(tmp_path)
    assert [] == records.read(tmp_path, ["noop"])
    records.append(tmp_path / "noop.jsonl", [])
    assert not (tmp_path / "noop.jsonl").exists()


def test_a_record_with_an_unknown_field_is_refused(tmp_path):
    """Figures that are not read would rot."""
    text = record("pool").model_dump_json()[:-1] + ', "speed": 1}'
    (tmp_path / "x.jsonl").write_text(text + "\n")
    with pytest.raises(ValidationError):
        records.read(tmp_path)


def test_committed_records_can_be_read():
    """Their form does not drift away from the program that reads them."""
    assert all(one.done <= one.simulations for one in records.read(records.RECORDS))


def test_the_pool_runs_first_and_last_and_the_others_take_turns():
    """Drift hits everybody, and the pool is compared with itself before anything is."""
    engines = ["pool", "a", "b", "c"]
    assert ["pool", "a", "b", "c", "pool"] == order(engines, 0)
    assert ["pool", "b", "c", "a", "pool"] == order(engines, 1)
    assert ["c", "a", "b"] == order(engines, 2, against_pool=False)


@pytest.mark.parametrize(("need_mib", "share"), [(1300, 0.5), (300, 1.0)])
def test_efficiency_is_over_the_pools_of_the_same_round(need_mib, share):
    """Pods that hold twice as many at once count as twice the machine; what has no rate has no efficiency."""
    found = with_efficiency(
        [
            record("pool", per_second=9.0),
            record("modelops-ray", per_second=9.5),
            record("dask-8gi", per_second=10.0, pod_bytes=8192 * 2**20),
            record("dask-incident", per_second=None),
            record("pool", per_second=11.0),
            record("pool", per_second=3.0, outcome="incomplete"),
        ],
        need_mib * 2**20,
    )
    assert [0.9, 0.95, share, None, 1.1, 0.3] == [one.efficiency for one in found]


def test_repeats_become_one_row_with_the_worst_outcome():
    """A row is complete only where every repeat was; how much was done is that of one with this outcome."""
    [row] = rows([record("pool"), record("pool", outcome="stuck", done=3), record("pool")])
    assert ("stuck", 3, 40, 3) == (row.outcome, row.repeats, row.simulations, row.done)


@pytest.mark.parametrize(("facts", "outcome"), [({}, "complete"), ({"missing": 2}, "failed"), ({"wrong": 1}, "failed")])
def test_results_that_are_missing_or_wrong_are_a_failure(facts, outcome):
    """An engine's own word that all is done is not enough."""
    case = SCENARIOS["noop"].cases("small")[0]
    ended = Ended(0.0, 1.0, is_stuck=False, code=0, losses=0, held_bytes=None)
    progress = [(1.0, case.simulations, case.simulations, 0)]
    assert outcome == outcome_of(case, Ran(0.0, ended, progress, facts, None, [], 0, ""))[0]


def test_a_row_has_the_most_kills_of_its_runs_and_the_rates_of_complete_ones():
    """One killed process in three runs is told; what a run did until it was stuck is no rate."""
    [row] = rows(
        [
            record("pool", per_second=9.0, kernel_kills=2),
            record("pool", per_second=8.0),
            record("pool", done=3, outcome="stuck", engine_kills=7),
        ]
    )
    assert (2, 7) == (row.kernel_kills, row.engine_kills)
    assert (8.0, 9.0) == (row.rate.low, row.rate.high)


def test_what_was_measured_is_kept_however_a_round_ends(monkeypatch):
    """The third engine is interrupted: the first two have their records, with what they are compared with."""
    left = [record("pool", per_second=8.0), record("ray-plain", per_second=4.0)]

    def measured(*_):
        if not left:
            raise KeyboardInterrupt
        return left.pop(0)

    kept = []
    monkeypatch.setattr(rounds, "measure", measured)
    with pytest.raises(KeyboardInterrupt):
        run_round(
            SCENARIOS["noop"].cases("small")[0], ["pool", "ray-plain", "modelops-ray"], 0, lambda _: None, kept.extend
        )

    assert [("pool", 1.0), ("ray-plain", 0.5)] == [(one.engine, one.efficiency) for one in kept]
