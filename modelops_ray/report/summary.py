"""What is printed when a command ends: the summary of a run and a first look at its results; `plan`, `status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.console import Console
from rich.table import Table

from modelops_ray.core.forecast import Forecast
from modelops_ray.foresight import Profiled
from modelops_ray.report.text import count, duration, format_size, rate
from modelops_ray.store.reader import Status

PARAM = "param_"
_IDENTITY = ("task_id", "param_id", "replicate", "seed")
_MAX_ROWS = 12
_MAX_COLUMNS = 4


def facts(console: Console, rows: Sequence[tuple[str, str]]) -> None:
    """Print pairs of name and value, aligned."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.print(f"{name:<{width}}  {value}", highlight=False, markup=False, soft_wrap=True)


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Print how a run ended."""
    repeats = f"{summary['oom_retries']:,} for memory, {summary['infrastructure_retries']:,} after losses"
    rows = [
        ("results", f"{summary['completed']:,} of {count(summary['simulations'], 'simulation')}"),
        ("failed", f"{summary['failed']:,}"),
        ("run directory", str(summary["run_dir"])),
    ]
    if summary["resumed"]:
        rows.insert(2, ("already there", f"{summary['resumed']:,}"))
    if summary["attempts"]:
        rows += [
            ("time", f"{duration(summary['wall_seconds'])}, {rate(summary['simulations_per_second'])}"),
            ("repeated", repeats),
            ("memory", _memory(summary)),
        ]
    if summary["spilled_bytes"]:
        rows.append(("spilled", format_size(summary["spilled_bytes"])))
    facts(console, rows)


def _memory(summary: Mapping[str, Any]) -> str:
    peak, request = format_size(summary["peak_bytes_max"]), format_size(summary["request_bytes_max"])
    driver = format_size(summary["driver_peak_rss_bytes"])
    return f"largest simulation {peak}, largest request {request}, driver {driver}"


def print_failures(console: Console, simulations: pa.Table, run_dir: str) -> None:
    """Print why simulations failed, most frequent first, with one message each."""
    failed = simulations.filter(pc.equal(simulations["status"], "failed"))
    if not failed.num_rows:
        return
    kinds: dict[tuple[str, str], list[str]] = {}
    for row in failed.select(["cause", "error_type", "error_message"]).to_pylist():
        kinds.setdefault((row["cause"], row["error_type"] or ""), []).append(row["error_message"] or "")
    for (cause, error_type), messages in sorted(kinds.items(), key=lambda item: -len(item[1]))[:5]:
        console.print(f"  {len(messages):,} x {cause} ({error_type}): {messages[0]}", highlight=False, markup=False)
    console.print(
        f"repeat them with --retry-failed; rows: modelops-ray results {run_dir}", highlight=False, markup=False
    )


def print_first_look(console: Console, outputs: Mapping[str, pa.Table]) -> None:
    """Print means over replicates of an output that has one row per simulation, else what outputs there are."""
    for name, table in outputs.items():
        keys = [column for column in table.column_names if column.startswith(PARAM) and column not in _IDENTITY]
        values = _numbers(table, keys)
        if values and table.num_rows and len(table["task_id"].unique()) == table.num_rows:
            _print_means(console, name, table, keys, values)
            return
    shown = Table("output", "rows", "columns", box=box.SIMPLE_HEAD, show_edge=False)
    for name, table in outputs.items():
        own = [column for column in table.column_names if column not in _IDENTITY and not column.startswith(PARAM)]
        shown.add_row(name, f"{table.num_rows:,}", ", ".join(own))
    console.print(shown)


def _numbers(table: pa.Table, keys: Sequence[str]) -> list[str]:
    own = [field for field in table.schema if field.name not in _IDENTITY and field.name not in keys]
    return [f.name for f in own if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)][:_MAX_COLUMNS]


def _print_means(console: Console, name: str, table: pa.Table, keys: list[str], values: list[str]) -> None:
    # Group by the parameter set, not by its values: a float key would depend on how it is rounded.
    wanted = [(column, "mean") for column in values] + [(key, "first") for key in keys]
    means = table.group_by("param_id", use_threads=False).aggregate([*wanted, ("task_id", "count")])
    varied = [key for key in keys if len(table[key].unique()) > 1][:_MAX_COLUMNS] or keys[:1]
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, title=f"{name}: mean over replicates", title_justify="left")
    for key in varied:
        shown.add_column(key.removeprefix(PARAM), justify="right", style="cyan")
    for column in ["replicates", *values]:
        shown.add_column(column, justify="right")
    for row in means.slice(0, _MAX_ROWS).to_pylist():
        cells = [row[f"{key}_first"] for key in varied]
        cells += [row["task_id_count"], *(row[f"{column}_mean"] for column in values)]
        shown.add_row(*(_cell(value) for value in cells))
    console.print(shown)
    if means.num_rows > _MAX_ROWS:
        console.print(f"and {means.num_rows - _MAX_ROWS:,} more parameter sets", highlight=False)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_plan(console: Console, expected: Forecast, warnings: Sequence[str]) -> None:
    """Print what a study would take."""
    unknown = "not known yet"
    sets = count(expected.parameter_sets, "parameter set")
    rows = [
        ("simulations", f"{expected.simulations:,} of {sets}"),
        ("memory each", unknown if expected.request_bytes is None else format_size(expected.request_bytes)),
        (
            "time each",
            unknown if expected.seconds_per_simulation is None else duration(expected.seconds_per_simulation),
        ),
        ("at a time", unknown if expected.concurrency is None else f"{expected.concurrency:,}"),
        ("duration", unknown if expected.wall_seconds is None else f"about {duration(expected.wall_seconds)}"),
        ("outputs", unknown if expected.output_bytes is None else f"about {format_size(expected.output_bytes)}"),
    ]
    facts(console, rows)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)


def print_profile(console: Console, measured: Profiled) -> None:
    """Print what a few simulations took, and of what their peak is made."""
    rows = [
        ("simulations", f"{measured.simulations:,} measured, {measured.failed:,} failed"),
        ("worker", f"{format_size(measured.worker_bytes)} for the interpreter and its libraries"),
        ("model", f"{format_size(measured.model_bytes)} for importing the model"),
        (
            "simulation",
            f"{format_size(measured.peak_bytes_median)} (median), {format_size(measured.peak_bytes_max)} (largest)",
        ),
        ("time each", duration(measured.seconds)),
    ]
    facts(console, rows)


def status_values(state: Status) -> dict[str, Any]:
    """The state of a run as JSON values."""
    return {
        "simulations": state.total,
        "completed": state.completed,
        "failed": state.failed,
        "running": state.running,
        "ending": state.ending,
        "heartbeat_age_seconds": state.heartbeat_age_s,
        "host": state.host,
        "pid": state.pid,
        "causes": dict(state.causes),
        "counters": dict(state.counters),
    }


def print_status(console: Console, state: Status) -> None:
    """Print how far a run is."""
    done = state.completed + state.failed
    share = done / state.total if state.total else 1.0
    if state.running:
        life = f"running on {state.host} (process {state.pid}), heartbeat {duration(state.heartbeat_age_s or 0)} ago"
    elif done == state.total:
        life = "finished"
    else:
        life = f"not running ({state.ending or 'it was killed, or its machine is gone'}); run the study again to go on"
    rows = [
        ("done", f"{done:,} of {count(state.total, 'simulation')} ({share:.0%}) committed"),
        ("failed", f"{state.failed:,}" + _causes(state.causes)),
        ("state", life),
    ]
    facts(console, rows)


def _causes(causes: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{n:,} {cause}' for cause, n in causes.items())})" if causes else ""


def print_table(console: Console, table: pa.Table, output_names: Sequence[str]) -> None:
    """Print the head of a table, as many columns as fit, and what else there is."""
    names = [name for name in table.column_names if name not in {"task_id", "param_id", "traceback", "scenario"}]
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False)
    fitting = names[: max(3, console.width // 13)]
    for name in fitting:
        shown.add_column(name, no_wrap=True, overflow="ellipsis", max_width=18)
    for row in table.select(fitting).slice(0, 20).to_pylist():
        shown.add_row(*(_cell(row[name]) for name in fitting))
    console.print(shown)
    more = f"{table.num_rows:,} rows, {len(table.column_names)} columns; outputs: {', '.join(output_names) or 'none'}"
    console.print(
        f"{more}\nexport with --to FILE.parquet, .csv or .arrow", highlight=False, markup=False, soft_wrap=True
    )
