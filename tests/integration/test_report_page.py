"""The report of a run, as the command line writes it and as a browser shows it."""

import json
import shutil

import pytest
from click.testing import CliRunner
from support.browser import look, needs_browser
from support.pages import outputs, simulations, tables
from support.stores import Clock, failure, grid, open_store, payload

import modelops_ray as mr
from modelops_ray.cli import main
from modelops_ray.report.page.build import page_of
from modelops_ray.report.page.render import render

STUDY = grid(3, 4)
KINDS = {"Bars", "Fan", "HeatMap", "Lines", "Points", "Spans"}


@pytest.fixture
def run_dir(tmp_path):
    """A run that has ended, in which one of twelve simulations failed."""
    store = open_store(tmp_path / "runs" / "sir", STUDY, clock=Clock())
    store.commit([payload(STUDY, [0, *range(2, 12)])], [failure(1)])
    store.close("finished", {})
    return tmp_path / "runs" / "sir"


def said(*arguments):
    """Run the command line; return its exit code, and what it said."""
    ended = CliRunner().invoke(main, list(map(str, arguments)))
    return ended.exit_code, ended.output


def test_the_report_goes_into_the_run_directory(run_dir):
    """And says where it is; the run stays as it was."""
    before = mr.open_run(run_dir).simulations()
    code, text = said("report", run_dir)
    page = (run_dir / "report.html").read_text("utf-8")

    assert (0, True) == (code, text.startswith(f"written to {run_dir}/report.html ("))
    assert "1 of 12 simulations failed" in page
    assert "no luck at 1" in page
    assert before.equals(mr.open_run(run_dir).simulations())


def test_the_report_goes_where_it_is_told_to(run_dir, tmp_path):
    """In place of what was there; the same run has the same bytes."""
    file = tmp_path / "page.html"
    file.write_text("old")
    code, text = said("report", run_dir, "--out", file, "--json")

    assert 0 == code
    assert {"file": str(file), "bytes": file.stat().st_size} == json.loads(text)
    assert file.read_bytes() == mr.open_run(run_dir).report(tmp_path / "again.html").read_bytes()


def test_a_page_that_cannot_be_written_is_one_line(run_dir, tmp_path):
    """A file is where its folder should be."""
    (tmp_path / "file").write_text("")
    code, text = said("report", run_dir, "--out", tmp_path / "file" / "page.html")

    assert (1, 1) == (code, len(text.splitlines()))
    assert f"{tmp_path / 'file' / 'page.html'}: File exists" in text


def test_the_report_of_a_damaged_run_is_one_line(run_dir):
    """Nothing is written: a page without some of the rows would mislead."""
    shutil.rmtree(run_dir / "outputs")
    code, text = said("report", run_dir)

    assert (1, 1) == (code, len(text.splitlines()))
    assert "outputs/incidence" in text
    assert not (run_dir / "report.html").exists()


def test_a_folder_that_is_no_run_has_no_report(tmp_path):
    """One line says that it is none."""
    code, text = said("report", tmp_path)

    assert (1, True) == (code, "not a run directory" in text)


def test_a_run_goes_on_with_its_report_in_its_directory(run_dir):
    """What counts is in the log."""
    said("report", run_dir)
    store = open_store(run_dir, STUDY, clock=Clock(), take_over=True, retry_failed=True)
    store.commit([payload(STUDY, [1], tries={1: 2})], [])

    assert 12 == mr.open_run(run_dir).simulations().num_rows


def test_frames_of_pandas_and_polars_hold_what_the_tables_hold(run_dir):
    """The simulations, or an output by its name."""
    run = mr.open_run(run_dir)

    for of in (run.to_pandas, run.to_polars):
        assert (12, 33) == (len(of()), len(of("incidence")))
        assert run.simulations()["task_id"].to_pylist() == list(of()["task_id"])
        with pytest.raises(mr.UsageError, match="there is no output 'other'"):
            of("other")


def test_a_notebook_shows_the_first_screen(run_dir):
    """In a frame that neither sees the notebook nor is changed by it; where frames are not shown, a line says it."""
    shown = mr.open_run(run_dir)._repr_html_()

    assert shown.startswith(f"<div>{run_dir}: 12 of 12 simulations have ended</div><iframe sandbox=")
    assert "Timeline" not in shown
    assert 1 == shown.count("data-plot=&quot;")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [390, 1440])
def test_a_browser_draws_every_plot(tmp_path, width_px, scheme):
    """Of every kind, without a word on its console, and nothing is wider than the screen."""
    document = render(page_of(tables()))
    seen = look(document, tmp_path, width_px=width_px, scheme=scheme)

    assert not [kind for kind in KINDS if f'"kind":"{kind}"' not in document]
    assert [] == seen.console
    assert document.count("data-plot=") == int(seen.page["drawn"]) == len(seen.page["coloured"])
    assert min(seen.page["coloured"]) > 100
    assert (width_px, width_px) == (seen.page["wide_px"], seen.page["given_px"])
    assert {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 29)"}[scheme] == seen.page["paper"]


@needs_browser
def test_a_reader_chooses_a_parameter_set_and_points_at_a_day(tmp_path):
    """The band of the set is drawn before that of all simulations, and its numbers are told."""
    script = """
      const picked = seen.querySelector("select"), over = () => seen.querySelector("figure .u-over");
      const keys = () => seen.querySelector("figure .keys").innerText, before = keys();
      picked.value = "2";
      picked.dispatchEvent(new Event("change"));
      const box = over().getBoundingClientRect();
      over().dispatchEvent(new (seen.defaultView.MouseEvent)("mousemove",
        {clientX: box.left + box.width / 2, clientY: box.top + 20, bubbles: true, view: seen.defaultView}));
      window.more = {before, options: [...picked.options].map((each) => each.text),
        after: keys()};
    """
    seen = look(render(page_of(tables())), tmp_path, width_px=1440, script=script).page

    assert ["beta", "gamma", "beta 0, gamma 0"] == seen["options"][:3]
    assert "beta 0.75" in seen["before"]
    assert "all simulations" in seen["after"]
    assert "beta 0, gamma 0" in seen["after"]


@needs_browser
@pytest.mark.parametrize(("width_px", "display"), [(390, "flex"), (1440, "table-cell")])
def test_long_messages_have_room_on_a_phone(tmp_path, width_px, display):
    """There the cells of a row stand below each other."""
    rows = simulations(16, 5, {"error_message": ["it does not converge " * 5] * 80})
    script = "window.more = {display: seen.defaultView.getComputedStyle(seen.querySelector('#failures td')).display};"
    document = render(page_of(tables(simulations=rows)))

    assert display == look(document, tmp_path, width_px=width_px, script=script).page["display"]


@needs_browser
def test_the_screen_of_a_notebook_is_drawn(run_dir, tmp_path):
    """In its frame, without a word on the console."""
    shown = mr.open_run(run_dir)._repr_html_()
    script = "seen.querySelector('iframe').removeAttribute('sandbox'); window.more = {frames: 1};"

    assert [] == look(f"<!doctype html><body>{shown}</body>", tmp_path, width_px=900, script=script).console


@needs_browser
def test_pages_of_runs_without_much_to_draw_are_shown(tmp_path):
    """Nothing has ended, there are no outputs, nothing was measured, or nothing varies."""
    no_attempts = tables().attempts.slice(0, 0)
    nothing = tables(simulations=tables().simulations.slice(0, 0), attempts=no_attempts, outputs={})
    unmeasured = simulations(16, 5, {"peak_bytes": [0] * 80, "seconds": [None] * 80})
    alike = simulations(1, 1)

    for made in (
        nothing,
        tables(outputs={}),
        tables(simulations=unmeasured),
        tables(simulations=alike, attempts=no_attempts, outputs=outputs(alike, 1)),
    ):
        seen = look(render(page_of(made)), tmp_path, width_px=390)
        assert [] == seen.console
        assert 390 == seen.page["wide_px"]
