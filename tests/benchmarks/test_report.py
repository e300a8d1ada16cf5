"""The answer and the tables, from records."""

from pathlib import Path

import pytest
from support.records import record

from benchmarks import records
from benchmarks.compare import rows
from benchmarks.report import readme
from benchmarks.report.answer import answer, density_slope, growth_slope, holds_up_to

SWEEP = [
    record("modelops-ray", point=0.7, efficiency=0.95),
    record("modelops-ray", point=1.3, efficiency=0.91),
    record("pool", point=0.7, efficiency=1.0),
    record("pool", point=1.3, efficiency=1.0),
    record("dask-incident", point=0.7, efficiency=0.8),
    record("dask-incident", point=1.3, outcome="stuck", done=0, lost=3, engine_kills=50, wasted_s=99.6),
    record("dask-8gi", point=0.7, efficiency=0.8),
    record("dask-8gi", point=1.3, efficiency=0.7),
    record("dask-batches", point=0.7, efficiency=0.6),
    record("dask-batches", point=1.3, outcome="failed", done=0),
]


def test_an_engine_holds_up_to_the_last_need_at_which_everything_was_complete():
    """A need at which it failed ends that, also where it did more beyond."""
    found = rows([*SWEEP, record("dask-incident", point=2.0)])
    assert (1.3, 0.7, None) == tuple(holds_up_to(found, one) for one in ("dask-8gi", "dask-incident", "ray-plain"))


def test_the_answer_names_what_is_worth_taking_and_what_changes_nothing():
    """Each with its figures."""
    said = answer(rows(SWEEP))
    worth = next(one for one in said if one.startswith("Worth taking today"))
    assert worth.startswith("Worth taking today: dask-8gi (pods twice as large; mended: so are the limits")
    assert worth.endswith("), up to 1.3 times a process's share.")
    assert any(
        one.startswith("dask-batches (100 at a time")
        and ") does not help: it holds up to 0.7, the incident's own setting up to 0.7" in one
        for one in said
    )
    failing = "dask-incident fails at 1.3 times a process's share: stuck with 0 of 40 after 20 s, 3 lost, "
    assert failing + "50 kills by its own watch, 100 s of work thrown away." in said
    assert "modelops-ray completes 2 of 2 points of need_sweep, with no kernel kills: 0.7: 0.95 of the pool" in said[0]


def test_the_answer_names_the_engine_that_holds_where_no_proposal_does():
    """Ours as well only if it did, and what completes again later is not left out."""
    needs = (0.7, 1.3, 2.0)
    fails = {("dask-8gi", 2.0), ("dask-incident", 1.3), ("modelops-ray", 2.0)}
    found = [
        record(engine, point=need, outcome="stuck" if (engine, need) in fails else "complete", pod_bytes=size)
        for engine, size in (("modelops-ray", 4), ("dask-8gi", 8), ("dask-incident", 4), ("dask-tuned", 4))
        for need in needs
    ]
    said = answer(rows(found))

    assert "up to 1.3 times a process's share on more memory; at 2 stuck" in " ".join(said)
    assert (
        "From 2 times a process's share on no single proposal of the report holds (two together were not run); "
        in " ".join(said)
    )
    assert any(one.endswith("up to 2 dask-tuned does.") for one in said)
    assert any(one.startswith("dask-incident fails at 1.3") and "it completes 2 all the same" in one for one in said)


def test_the_answer_says_where_ours_falls_short_and_why_where_it_knows():
    """Why is known where a pod holds fewer of what was declared than the pool runs in it, and only there."""
    declared = [("512", 0.8), ("1100", 0.8), ("1100", 0.95)]
    found = [
        record("modelops-ray", point=0.25 + i / 1000, efficiency=efficiency, facts={"request_mib": {mib: 40}})
        for i, (mib, efficiency) in enumerate(declared)
    ]
    said = answer(rows([*found, record("modelops-ray", scenario="large_outputs", point=None, outcome="stuck", done=7)]))

    assert ["Why not more at 0.251"] == [one.partition(":")[0] for one in said if one.startswith("Why")]
    assert "modelops-ray is not complete in large_outputs: stuck with 7 of 40 after 20 s." in said


@pytest.mark.parametrize(
    ("outcome", "kernel_kills", "says"),
    [
        ("incomplete", 0, "does not stop what it is for: at 1.3"),
        ("incomplete", 2, "does not stop"),
        ("failed", 2, "stops at 1.3"),
    ],
)
def test_the_answer_says_whether_stopping_at_a_kill_stops(outcome, kernel_kills, says):
    """Dask's own watch kills before the kernel has to, and that is not looked at."""
    failed = record("dask-abort", point=1.3, outcome=outcome, done=3, engine_kills=9, kernel_kills=kernel_kills)
    assert any(one.startswith(f"dask-abort {says}") for one in answer(rows([*SWEEP, failed])))


def test_the_answer_names_the_fastest_of_the_others_and_no_rate_of_what_did_not_complete():
    """Also where that is not to our advantage."""
    found = [
        record("modelops-ray", scenario="many_tiny", per_second=8.0, efficiency=0.8),
        record("dask-tuned", scenario="many_tiny", per_second=9.0),
        record("dask-incident", scenario="many_tiny", per_second=4.0, outcome="stuck", done=30),
        record("modelops-ray", scenario="noop", per_second=8.0),
        record("dask-incident", scenario="noop", per_second=2.0),
        record("ray-plain", scenario="noop", per_second=3.0),
    ]
    tiny, noop = answer(rows(found))
    rate = "modelops-ray 8 simulations per second"
    assert noop == f"noop: {rate}, 4 times dask-incident's 2; the fastest of the others is ray-plain with 3."
    assert tiny.startswith(f"many_tiny: {rate}, 0.80 of the pool; dask-incident stuck with 30 of 40; ")
    assert tiny.endswith("the fastest of the others is dask-tuned with 9.")


@pytest.mark.parametrize(("run_id", "says"), [("a", "setting: "), ("b", "setting, not in one round: ")])
def test_the_answer_says_what_the_incident_took_and_whether_both_ran_side_by_side(run_id, says):
    """Rows of two rounds compare less than they seem to."""
    found = [
        record("modelops-ray", scenario="incident", point=None, wall_s=1092.0),
        record("dask-incident", scenario="incident", point=None, wall_s=1071.0, run_id=run_id),
    ]
    first, second = answer(rows(found))
    assert first.startswith(f"The incident's 12,000 simulations with its own {says}modelops-ray complete with 40 of 40")
    assert "dask-incident complete with 40 of 40, 1 s to start, 1,071 s to run, 10 s of CPU." in first
    assert second.startswith("So Dask holds at")


def test_the_readme_table_has_a_row_per_engine_and_a_column_per_need():
    """Failures are cells, not gaps."""
    table = readme.table(SWEEP)
    assert "| need of a simulation, in shares | 0.7 | 1.3 |" in table
    assert "| dask-incident | 0.80 | stuck 0/40 |" in table


def test_the_readme_says_what_the_committed_records_say():
    """Figures are not typed; `python -m benchmarks report` writes them."""
    found = [one for one in records.read(records.RECORDS) if one.size == "full"]
    assert readme.table(found) in (Path(__file__).parents[2] / "README.md").read_text()


def test_slopes_come_from_what_was_weighed_and_completed():
    """A size that was not reached does not count."""
    held = [record("pool", scenario="density", point=n, held_bytes=1000 + 50 * n) for n in (4, 8, 16)]
    assert 50.0 == pytest.approx(density_slope(rows(held), "pool"))
    grown = [record("pool", scenario="driver_growth", point=n, driver_own_bytes=10**6 + 3 * n) for n in (10, 1000)]
    stuck = record("pool", scenario="driver_growth", point=10**6, outcome="stuck", driver_own_bytes=10**9)
    assert 3.0 == pytest.approx(growth_slope(rows([*grown, stuck]), "pool"))


def test_the_page_is_one_file_with_every_row_and_plot():
    """Nothing is loaded from anywhere."""
    pytest.importorskip("matplotlib")
    from benchmarks.report import page

    more = [record("modelops-ray", scenario="ten_ms", point=None, efficiency=0.9)]
    weighed = [record("pool", scenario="density", point=n, held_bytes=n * 2**30) for n in (4, 8)]
    html = page.render([*SWEEP, *more, *weighed])
    assert (5, 13) == (html.count("<svg"), html.count("<tr>") - 1)
    assert "src=" not in html
    assert "<title>" in html
