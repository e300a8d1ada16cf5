"""The page is one small file that refers to nothing, says what is in the tables, and cannot be broken by them."""

import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from support.pages import attempts, outputs, simulations, tables
from support.stores import grid, run_json_of

from modelops_ray.report.page.build import page_of
from modelops_ray.report.page.render import render

MOST_BYTES = 2_000_000
EVIL = '</script><img src="https://example.org/x.png" onerror="boom()"><!--body--> & \x1b[31m'


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, document):
        super().__init__()
        self.found = []
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        """Keep one."""
        self.found.append((tag, dict(attrs)))


def page(made):
    """The page of these tables as HTML."""
    return render(page_of(made))


def test_the_page_of_twelve_thousand_simulations_is_small():
    """With 60 days of two columns, single values, failures and retries."""
    assert len(page(tables(400, 30, 60)).encode()) < MOST_BYTES


def test_the_page_of_values_with_many_digits_is_small():
    """Six columns over time and six single ones, the smallest and the most negative of numbers."""
    daily, summary = outputs(simulations(400, 2), 100).values()
    wide = {f"column {at}": -np.random.default_rng(at).random(daily.num_rows) * 1e-200 for at in range(8)}
    high = {f"value {at}": -np.random.default_rng(at).random(summary.num_rows) * 1e-200 for at in range(8)}
    returned = {
        "daily": pa.table({"task_id": daily["task_id"], "day": daily["day"]} | wide),
        "more": pa.table({"task_id": daily["task_id"], "day": daily["day"]} | wide),
        "summary": pa.table({"task_id": summary["task_id"]} | high),
    }
    assert len(page(tables(400, 2, outputs=returned)).encode()) < MOST_BYTES


def test_the_page_refers_to_nothing_outside():
    """No element has an address but those within the page, and a browser is told to load nothing."""
    document = page(tables())
    addresses = [
        value
        for _, attributes in Elements(document).found
        for name, value in attributes.items()
        if name in {"src", "href"}
    ]

    assert addresses
    assert not [address for address in addresses if not address.startswith("#")]
    assert "http" not in document.replace("http-equiv", "")
    assert "url(" not in document
    assert "default-src 'none'" in document


def test_the_licence_of_the_plots_is_in_the_page():
    """As the MIT licence asks for."""
    document = page(tables())

    assert "Leon Sorokin" in document
    assert "The above copyright notice and this permission notice shall be included" in document


def test_text_of_others_stays_text():
    """Names of runs, outputs, columns and parameters, messages and versions."""
    evil = EVIL * 3
    rows = simulations(16, 5, {"error_message": [evil] * 80, "node": [evil] * 80})
    rows = rows.rename_columns([EVIL if name == "param_beta" else name for name in rows.column_names])
    rows = rows.rename_columns([f"param_{name}" if name == EVIL else name for name in rows.column_names])
    returned = {EVIL: outputs(simulations(16, 5), 20)["daily"].rename_columns(["task_id", "day", EVIL, "x"])}
    run = run_json_of(grid(), model_label=EVIL, versions={EVIL: EVIL})
    document = page(tables(name=EVIL, simulations=rows, attempts=attempts(rows), outputs=returned, run=run))

    assert document.count("</script>") == 3
    assert not [element for element in Elements(document).found if element[0] == "img"]
    assert document.count('<section id="outputs">') == 1
    assert "\x1b" not in document


def test_the_same_run_gives_the_same_bytes():
    """No clock, and no order of threads, is in it."""
    assert page(tables()) == page(tables())


def test_a_run_in_which_nothing_has_ended_has_a_page():
    """It says so, and what is being run."""
    nothing = tables().simulations.slice(0, 0)
    document = page(tables(simulations=nothing, attempts=tables().attempts.slice(0, 0), outputs={}))

    assert "No simulation has a result or a failure yet." in document
    assert "What was run" in document


def test_a_run_in_which_everything_failed_has_a_page():
    """Its failures are shown, and no outputs."""
    rows = simulations(16, 5, {"status": ["failed"] * 80, "cause": ["model_error"] * 80})
    document = page(tables(simulations=rows, attempts=attempts(rows), outputs={}))

    assert "80 of 80 simulations failed (100.00%)." in document
    assert "No simulation has returned numbers." in document


def test_rows_without_times_and_memory_have_a_page():
    """As an older version left them, or a crash."""
    nothing = {
        name: [None] * 80 for name in ("started_at", "ended_at", "seconds", "peak_bytes", "request_bytes", "node")
    }
    document = page(tables(simulations=simulations(16, 5, nothing), attempts=tables().attempts.slice(0, 0)))

    assert "Timeline" not in document


@pytest.mark.parametrize(
    "columns",
    [{"param_beta": [0.1] * 80, "param_gamma": [0.2] * 80}, {"param_gamma": [None] * 80}, {"node": ["a", "b"] * 40}],
)
def test_designs_of_any_kind_have_a_page(columns):
    """Nothing varies, a parameter is missing everywhere, or there are several nodes."""
    assert "Time and memory" in page(tables(simulations=simulations(16, 5, columns)))


def test_each_plot_has_its_figure():
    """As many as are told to the script."""
    document = page(tables())
    numbers = [int(each) for each in re.findall(r'data-plot="(\d+)"', document)]

    assert list(range(len(numbers))) == numbers
    assert len(numbers) == document.count('{"kind":"') - document.count('{"kind":"Axis"') - document.count(
        '{"kind":"Band"'
    ) - document.count('{"kind":"View"') - document.count('{"kind":"Line"') - document.count('{"kind":"Stack"')
