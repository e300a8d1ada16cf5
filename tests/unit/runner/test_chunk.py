"""Chunks from end to end in this process: what comes back, and what does not reach the next simulation."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import platform
import random
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.models import chunk_of, context_of, write

from modelops_ray.core.report import Cause
from modelops_ray.errors import ModelError
from modelops_ray.runner.chunk import run_chunk
from modelops_ray.sandbox.column_types import is_numbered
from modelops_ray.study.identity import task_id
from modelops_ray.study.schema import identity_fields, simulations_schema

MIB = 2**20
ROUNDED = timedelta(microseconds=2)


@pytest.fixture
def run(tmp_path):
    """Run parameter sets through a model given as source; return report and payload."""

    def run(source, params=({"beta": 0.5, "n": 2},), **options):
        path = write(tmp_path / "sir.py", source)
        return run_chunk(context_of(path, **options), chunk_of(params))

    return run


def only_failure(report):
    """Return the one failure of a chunk."""
    (failure,) = report.failures
    return failure


def test_a_chunk_returns_a_report_and_its_tables(run):
    """Identity on every row, in the columns of the run."""
    report, payload = run(
        """
        def simulate(params, seed, scenario):
            return {"cases": {"day": list(range(params["n"])), "size": [seed] * params["n"]},
                    "summary": {"beta": params["beta"], "scenario": scenario}}
        """,
        [{"beta": 0.5, "n": 2}, {"beta": 1.0, "n": 0}, {"beta": 2.5, "n": 1}],
    )
    (cases,), (summary,) = payload.outputs["cases"], payload.outputs["summary"]

    assert (10, 11, 12) == payload.positions == tuple(done.position for done in report.completed)
    assert ((10, 11, 12), (2, 0, 1)) == (cases.positions, cases.row_counts)
    assert [*identity_fields({}).names, "param_beta", "param_n", "day", "size"] == cases.table.column_names
    assert [1000, 1000, 1002] == cases.table.column("seed").to_pylist() == cases.table.column("size").to_pylist()
    assert [0.5, 0.5, 2.5] == cases.table.column("param_beta").to_pylist()
    assert [0.5, 1.0, 2.5] == summary.table.column("beta").to_pylist()
    assert ["baseline"] * 3 == summary.table.column("scenario").to_pylist()


@pytest.mark.parametrize("collected_after", [(700, 10, 10), (0, 10, 10), (100_000, 5, 5)])
def test_a_chunk_leaves_the_search_for_garbage_as_it_was(run, collected_after):
    """The process may be a user's own, who has switched it off or tuned it."""
    before = gc.get_threshold()
    gc.set_threshold(*collected_after)
    try:
        report, _ = run("def simulate(params, seed): return {'x': 1}")
        assert ((), collected_after) == (report.failures, gc.get_threshold())
    finally:
        gc.set_threshold(*before)


def test_the_rows_of_simulations_say_how_it_went(tmp_path):
    """One row per completed simulation, with exactly the columns of the run."""
    context = context_of(write(tmp_path / "sir.py", "def simulate(p, s): return {'x': 1}"))
    chunk = chunk_of([{"beta": 0.5, "n": 1}, {"beta": 1, "n": 2}])

    before = datetime.now(UTC)
    report, payload = run_chunk(context, chunk)
    first, second = payload.simulations.to_pylist()
    started_at, ended_at = first.pop("started_at"), first.pop("ended_at")

    assert simulations_schema(context.run.parameter_types) == payload.simulations.schema
    assert {
        "task_id": task_id(context.run.bundle_ref, "sir.simulate/baseline", "0" * 64, 1000),
        "param_id": "0" * 64, "replicate": 0, "seed": 1000, "scenario": "baseline", "status": "completed",
        "cause": None, "error_type": None, "error_message": None, "traceback": None, "attempts": 1,
        "seconds": report.completed[0].seconds, "peak_bytes": report.completed[0].peak_bytes,
        "request_bytes": 500 * MIB, "node": platform.node(), "param_beta": 0.5, "param_n": 1,
    } == first  # fmt: skip
    assert before < started_at <= ended_at <= second["ended_at"] < datetime.now(UTC)
    assert timedelta(seconds=report.completed[0].seconds) == pytest.approx(ended_at - started_at, abs=ROUNDED)
    assert (platform.node(), True) == (report.node, report.base_bytes > MIB)
    assert report.payload_bytes >= payload.simulations.nbytes


def test_a_partial_with_the_context_pickles_and_runs(tmp_path):
    """This is how a backend gets it."""
    context = context_of(write(tmp_path / "sir.py", "def simulate(p, s): return {'x': 1}"))
    sent = pickle.loads(pickle.dumps(functools.partial(run_chunk, context)))

    report, _ = sent(chunk_of([{"beta": 1, "n": 1}]))

    assert [10] == [done.position for done in report.completed]


def test_rows_and_tables_of_an_output_share_one_table_while_columns_agree(run):
    """Null goes with anything; another type or column starts a table of its own, in order."""
    _, payload = run(
        """
        RETURNS = [{"x": 1}, {"x": None}, {"x": [2, 3]}, {"x": 2.5}, {"x": 4.5, "y": 1}]
        def simulate(params, seed):
            return RETURNS[params["n"]]
        """,
        [{"beta": 1, "n": n} for n in (0, 1, 2, 1, 3, 4, 4)],
    )
    outputs = payload.outputs["result"]

    assert [(10, 11, 12, 13), (14,), (15, 16)] == [output.positions for output in outputs]
    assert [(1, 1, 2, 1), (1,), (1, 1)] == [output.row_counts for output in outputs]
    assert [1, None, 2, 3, None] == outputs[0].table.column("x").to_pylist()


@pytest.mark.parametrize(("ns", "is_all"), [((0, 0), True), ((0, 1), False), ((1, 0), False)])
def test_rows_are_noted_to_have_no_labels_where_all_are_of_frames(run, ns, is_all):
    """Those of a mapping of columns might have forgotten theirs."""
    pytest.importorskip("pandas")
    _, payload = run(
        """
        import pandas as pd

        RETURNS = [pd.DataFrame({"x": [1, 2]}), {"x": [1, 2]}]
        def simulate(params, seed):
            return RETURNS[params["n"]]
        """,
        [{"beta": 1, "n": n} for n in ns],
    )
    (output,) = payload.outputs["result"]

    assert is_all == is_numbered(output.table.schema)
    assert [1, 2, 1, 2] == output.table["x"].to_pylist()


def test_a_mapping_that_is_filled_again_is_kept_as_it_was(run):
    """A model may return the same object each time."""
    _, payload = run(
        """
        ROW = {}
        def simulate(params, seed):
            ROW["x"] = seed
            return ROW
        """,
        [{"beta": 1, "n": 1}] * 3,
    )

    assert [1000, 1001, 1002] == payload.outputs["result"][0].table.column("x").to_pylist()


def test_parameters_are_the_models_own_copy(run):
    """What a model does to them does not reach the tables."""
    _, payload = run("def simulate(params, seed):\n params['beta'] = 99\n return {'x': 1}")

    assert [0.5] == payload.simulations.column("param_beta").to_pylist()


def test_outputs_that_are_not_wanted_are_left_out(run):
    """The filter of the study."""
    _, payload = run("def simulate(p, s): return {'a': {'x': 1}, 'b': {'x': 1}}", outputs=("b",))

    assert ["b"] == list(payload.outputs)


def test_the_global_generators_are_seeded_from_the_seed(run):
    """A model that forgot its seed still gives replicates that differ, and the same again."""
    source = """
        import random
        import numpy as np
        def simulate(params, seed):
            return {"python": random.random(), "numpy": np.random.random()}
    """
    twice = [run(source, [{"beta": 1, "n": 1}] * 2)[1].outputs["result"][0].table.to_pylist() for _ in range(2)]
    random.seed(1001)
    np.random.seed(1001)  # noqa: NPY002

    assert twice[0] == twice[1]
    assert (random.random(), np.random.random()) == (twice[0][1]["python"], twice[0][1]["numpy"])  # noqa: NPY002


def test_a_seed_of_64_bits_is_taken(tmp_path):
    """NumPy's global generator takes it modulo 2**32."""
    context = context_of(write(tmp_path / "sir.py", "def simulate(p, s): return {'seen': s}"))

    _, payload = run_chunk(context, chunk_of([{"beta": 1, "n": 1}], seed=2**64 - 1))

    table = payload.outputs["result"][0].table
    assert [2**64 - 1] == table.column("seen").to_pylist() == table.column("seed").to_pylist()


def test_a_chunk_ends_early_when_its_outputs_are_large(run):
    """Positions it did not reach are absent from report and payload."""
    report, payload = run(
        "import numpy as np\ndef simulate(p, s): return {'x': np.zeros(1000)}",
        [{"beta": 1, "n": 1}] * 10,
        target_payload_bytes=40_000,
    )

    assert (10, 11, 12) == payload.positions == tuple(done.position for done in report.completed)
    assert ((), None) == (report.failures, report.fatal)


def test_a_chunk_ends_early_when_much_is_told_of_its_failures(run):
    """It takes memory on the way and in the driver, as outputs do."""
    source = "def simulate(p, s): raise ValueError('x' * 1000)"
    report, _ = run(source, [{"beta": 1, "n": 1}] * 10, target_payload_bytes=5000)

    assert 2 <= len(report.failures) <= 3


def test_a_chunk_ends_early_when_its_simulations_take_long(run):
    """Although more was planned: what has finished is not kept from being committed."""
    report, payload = run("def simulate(p, s): return {'x': 1}", [{"beta": 1, "n": 1}] * 10, target_s=0.0)

    assert (10,) == payload.positions == tuple(done.position for done in report.completed)


def test_a_chunk_ends_early_when_it_takes_longer_than_it_was_planned_for(tmp_path):
    """The others are back in line before their slots are idle."""
    path = write(tmp_path / "sir.py", "def simulate(p, s): return {'x': 1}")
    chunk = replace(chunk_of([{"beta": 1, "n": 1}] * 10), enough_s=0.0)

    assert (10,) == run_chunk(context_of(path), chunk)[1].positions


def test_the_models_own_exception_is_its_failure(run):
    """Class, message and the model's frames, and none of ours; the next simulation runs."""
    report, payload = run(
        """
        def deep(n):
            raise ValueError(f"n is {n}")
        def simulate(params, seed):
            return {"x": 1} if params["n"] else deep(params["n"])
        """,
        [{"beta": 1, "n": 0}, {"beta": 1, "n": 1}],
    )
    failure = only_failure(report)

    assert (10, Cause.MODEL_ERROR, "ValueError", "n is 0") == (
        failure.position, failure.cause, failure.error_type, failure.message,
    )  # fmt: skip
    assert (1, 500 * MIB, platform.node()) == (failure.attempts, failure.request_bytes, failure.node)
    assert failure.seconds > 0
    assert 2 == failure.traceback.count("sir.py")
    assert "modelops_ray/runner" not in failure.traceback
    assert (11,) == payload.positions


@pytest.mark.parametrize(
    ("statement", "cause", "error_type", "message"),
    [
        ("import sys; sys.exit('enough')", Cause.MODEL_ERROR, "SystemExit", "enough"),
        ("raise KeyboardInterrupt", Cause.MODEL_ERROR, "KeyboardInterrupt", ""),
        ("import asyncio; raise asyncio.CancelledError", Cause.MODEL_ERROR, "CancelledError", ""),
        ("raise MemoryError('3 GiB')", Cause.OUT_OF_MEMORY, "MemoryError", "3 GiB"),
        ("import numpy; numpy.ones(2**50)", Cause.OUT_OF_MEMORY, "MemoryError", "Unable to allocate 8.00 PiB"),
        ("return 3, 4", Cause.BAD_OUTPUT, "BadOutput", "output 'result' is a tuple; "),
        (
            "return {'x': [1, 'a']}",
            Cause.BAD_OUTPUT,
            "BadOutput",
            "output 'result', column 'x': found values of no common type",
        ),
        ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})", Cause.MODEL_ERROR, "Odd", "<exception"),
        (r"raise ValueError('\ud800')", Cause.MODEL_ERROR, "ValueError", r"\ud800"),
        ("simulate(params, seed)", Cause.MODEL_ERROR, "RecursionError", "maximum recursion depth"),
        ("raise ValueError('x' * 10**6)", Cause.MODEL_ERROR, "ValueError", "xxx"),
        ("while True: pass", Cause.TIMEOUT, "Timeout", "it took longer than 0.2 s; raise --timeout"),
    ],
)
def test_each_end_of_a_simulation_has_its_cause(run, statement, cause, error_type, message):
    """Nothing a model does in Python ends the chunk, and what is told fits a row."""
    report, _ = run(f"def simulate(params, seed):\n    {statement}", timeout_s=0.2)
    failure = only_failure(report)

    assert (cause, error_type) == (failure.cause, failure.error_type)
    assert failure.message.startswith(message)
    assert len(failure.message) <= 4096
    assert len(failure.traceback or "") <= 16 * 1024
    pa.array([failure.message, failure.traceback])


def test_running_out_of_memory_tells_how_much_was_reached(run):
    """The peak up to the MemoryError is measured."""
    report, _ = run(
        """
        import numpy as np
        def simulate(params, seed):
            held = np.ones(50 * 2**20, dtype=np.uint8)
            raise MemoryError(len(held))
        """
    )

    assert pytest.approx(50 * MIB, abs=2 * MIB) == only_failure(report).peak_bytes


def test_peaks_are_each_simulations_own(run):
    """Small after large is small, and what came before is not added."""
    report, _ = run(
        """
        import numpy as np
        def simulate(params, seed):
            return {"x": int(np.ones(params["n"] * 2**20, dtype=np.uint8)[-1])}
        """,
        [{"beta": 1, "n": n} for n in (40, 1, 40, 1)],
    )
    peaks_mib = [done.peak_bytes / MIB for done in report.completed]

    assert [pytest.approx(40, abs=2), pytest.approx(1, abs=2)] * 2 == peaks_mib


@pytest.mark.parametrize(
    ("output", "column"),
    [
        ("{'task_id': 'x'}", "task_id"),
        ("{'param_beta': 1, 'x': 1}", "param_beta"),
        ("{'seed': 5}", "seed"),
        ("{'seed': [seed, 5]}", "seed"),
        ("{'seed': ['a']}", "seed"),
        ("{'seed': seed, 'replicate': 1}", "replicate"),
    ],
)
def test_a_column_like_one_of_ours_ends_the_run(run, output, column):
    """One sentence names it, and nothing of that simulation is kept."""
    report, payload = run(f"def simulate(params, seed): return {{'cases': {output}}}", [{"beta": 1, "n": 1}] * 3)

    assert f"the model's output 'cases' has a column {column!r}, which every output already has; " in report.fatal
    assert ((), (), ()) == (payload.positions, report.completed, report.failures)


@pytest.mark.parametrize(
    "output", ["{'seed': seed, 'x': 1}", "{'seed': [seed] * 2, 'x': [1, 1]}", "{'seed': [], 'x': []}"]
)
def test_a_seed_column_that_is_the_seed_is_ours(run, output):
    """It is there once."""
    report, payload = run(f"def simulate(params, seed): return {output}")
    names = payload.outputs["result"][0].table.column_names

    assert (None, 1, "x") == (report.fatal, names.count("seed"), names[-1])


@pytest.mark.parametrize("prints", ["print('hello')", "os.system('echo hello')", "os.write(1, b'hello\\n')"])
def test_what_a_model_prints_stays_off_stdout(run, capfd, prints):
    """It goes to stderr, with the log, printed by Python or C, also at import; what is there afterwards is stdout."""
    run(f"import os\n{prints}\ndef simulate(params, seed):\n {prints}\n return {{'x': 1}}")
    os.write(1, b"ours")

    printed = capfd.readouterr()
    assert ("ours", {"hello"}) == (printed.out, set(printed.err.split()))


@pytest.fixture
def interruptible():
    """A process that Ctrl-C interrupts, which one started in the background of a shell is not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_from_outside_is_no_failure(tmp_path):
    """Ctrl-C ends the chunk and is not booked on the simulation that was running."""
    source = "import os, signal\ndef simulate(p, s):\n os.kill(os.getpid(), signal.SIGINT)\n while True: pass"
    context = context_of(write(tmp_path / "sir.py", source), timeout_s=20.0)
    handler = signal.getsignal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_chunk(context, chunk_of([{"beta": 1, "n": 1}]))

    assert handler is signal.getsignal(signal.SIGINT)


def test_a_model_that_does_not_load_is_no_failure_of_a_simulation(tmp_path):
    """It ends the run once, and not once per chunk."""
    path = write(tmp_path / "sir.py", "def simulate(p, s): return {'x': 1}")
    context = context_of(path)
    context_of(write(path, "def simulate(p, s): return {'x': 2}"))

    with pytest.raises(ModelError, match="changed while the run was on"):
        run_chunk(context, chunk_of([{"beta": 1, "n": 1}]))


def test_a_chunk_leaves_no_file_open(run):
    """A worker runs thousands."""
    run("def simulate(p, s): return {'x': 1}")
    before = len(list(Path("/proc/self/fd").iterdir()))

    run("def simulate(p, s): return {'x': 1}")

    assert before == len(list(Path("/proc/self/fd").iterdir()))
