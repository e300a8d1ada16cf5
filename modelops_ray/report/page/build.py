"""The page of a run: which sections it has, in which order, and the facts above them.

`page_of` is pure: tables to a page. `read_run` reads the tables, of a large run those of a sample of parameter sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.report.page.design import Design, design_of
from modelops_ray.report.page.failures import failures, retries
from modelops_ray.report.page.figures import Fact, Figure, Page, Section, Table
from modelops_ray.report.page.memory import POINTS, costs, requests
from modelops_ray.report.page.numbers import floats
from modelops_ray.report.page.outputs import Output, fans, is_single, numbered, output_of, singles
from modelops_ray.report.page.timeline import timeline
from modelops_ray.report.text import count, duration, format_size, number
from modelops_ray.store.commits import FileUse
from modelops_ray.store.reader import RunReader
from modelops_ray.store.run_json import RunJson

MOST_FANS = 6
MOST_FANS_OF_OUTPUT = 4
MOST_SINGLES = 6
MOST_OUTPUTS = 12
MOST_SAMPLED = 20_000
MOST_FILES = 20
_LISTED = 8
_MAIN_PACKAGES = {"modelops-ray", "numpy", "pandas", "polars", "pyarrow", "python", "ray", "scipy", "sciris", "starsim"}


@dataclass(frozen=True, slots=True)
class Tables:
    """What a page is made of: `sampled` are how many simulations the outputs are of, all where None."""

    name: str
    run: RunJson
    total: int
    simulations: pa.Table
    attempts: pa.Table
    outputs: tuple[Output, ...] = ()
    n_outputs: int = 0
    sampled: int | None = None
    files: Mapping[str, FileUse] = field(default_factory=dict)


def read_run(reader: RunReader, name: str, most_outputs: int = MOST_OUTPUTS) -> Tables:
    """Read what the page of a run shows, of its outputs the first few.

    ResultsError where the directory is damaged.
    """
    simulations, names = reader.simulations(), reader.output_names()
    chosen = _sample(simulations)
    task_ids = simulations["task_id"].combine_chunks()
    if chosen is not None:
        # Not known any more: null is no row's id.
        task_ids = pc.if_else(pa.array(chosen), task_ids, None)
    outputs = (
        output_of(each, reader.output_parts(each, lambda table: numbered(table, task_ids)))
        for each in names[:most_outputs]
    )
    return Tables(
        name, reader.run, reader.status().total, simulations, reader.attempts(), tuple(outputs), len(names),
        None if chosen is None else int(np.count_nonzero(chosen)), reader.files(),
    )  # fmt: skip


def _sample(simulations: pa.Table) -> npt.NDArray[np.bool_] | None:
    """Choose parameter sets at random, with all of their simulations; None where there are few enough for all."""
    if simulations.num_rows <= MOST_SAMPLED:
        return None
    design = design_of(simulations)
    sets = np.random.default_rng(0).permutation(design.n_sets)
    n_before = np.cumsum(np.bincount(design.set_of_row)[sets])
    is_chosen = np.zeros(design.n_sets, np.bool_)
    is_chosen[sets[: max(1, int(np.searchsorted(n_before, MOST_SAMPLED, side="right")))]] = True
    return is_chosen[design.set_of_row]


def page_of(tables: Tables) -> Page:
    """Make the page of a run."""
    simulations = tables.simulations
    design = design_of(simulations)
    sections: list[Section | None] = []
    if simulations.num_rows:
        began_s = float(np.nanmin(floats(simulations["started_at"]), initial=np.inf))
        sections = [
            *_outputs(tables, design),
            failures(simulations, design, tables.run.model_label),
            costs(simulations, design),
            requests(simulations, began_s),
            timeline(simulations, tables.attempts),
            retries(simulations, tables.attempts),
        ]
    else:
        sections = [Section("outputs", "Outputs", ("No simulation has a result or a failure yet.",))]
    sections += [_files(tables.files), _about(tables, design)]
    present = tuple(section for section in sections if section is not None and _says_something(section))
    return Page(tables.name, _subtitle(tables), tuple(_facts(tables)), present)


def first_screen(tables: Tables) -> Page:
    """Make what is seen of a page at first: the facts, and the first output."""
    sections = _outputs(tables, design_of(tables.simulations)) if tables.simulations.num_rows else []
    figures = tuple(figure for section in sections for figure in section.figures)[:1]
    shown = (Section("outputs", "", figures=figures),) if figures else ()
    return Page(tables.name, _subtitle(tables), tuple(_facts(tables)), shown)


def _says_something(section: Section) -> bool:
    return bool(section.sentences or section.tables or section.figures)


def _subtitle(tables: Tables) -> str:
    part = "" if tables.run.shard is None else f" (shard {tables.run.shard.number} of {tables.run.shard.of})"
    return f"{tables.run.model_label}, begun {tables.run.created:%Y-%m-%d %H:%M} UTC{part}"


def _facts(tables: Tables) -> list[Fact]:
    simulations = tables.simulations
    n_failed = pc.sum(pc.equal(simulations["status"], "failed")).as_py() or 0
    n_done = simulations.num_rows - n_failed
    facts = [Fact("results", f"{n_done:,}", f"of {count(tables.total, 'simulation')}")]
    facts.append(Fact("failed", f"{n_failed:,}", f"{n_failed / max(1, tables.total):.2%}", is_bad=n_failed > 0))
    if left := tables.total - simulations.num_rows:
        facts.append(Fact("not run yet", f"{left:,}"))
    started, ended = pc.min(simulations["started_at"]).as_py(), pc.max(simulations["ended_at"]).as_py()
    if started is not None and ended is not None:
        facts.append(Fact("from first to last", duration((ended - started).total_seconds())))
    if (median := pc.approximate_median(simulations["seconds"]).as_py()) is not None:
        largest = pc.max(simulations["seconds"]).as_py()
        facts.append(Fact("median time", duration(median), f"up to {duration(largest)}"))
    if peak := pc.max(simulations["peak_bytes"]).as_py():
        facts.append(Fact("largest peak", format_size(peak), "of memory"))
    facts.append(Fact("retries", f"{_n_retries(tables.attempts):,}"))
    return facts


def _n_retries(attempts: pa.Table) -> int:
    return int(pc.sum(pc.not_equal(attempts["follows"], "failed")).as_py() or 0)


def _outputs(tables: Tables, design: Design) -> list[Section]:
    """Draw outputs over time, and those of one value per simulation; say what is not drawn."""
    over_time: list[Figure] = []
    single: list[Figure] = []
    left_out: list[str] = []
    n_single = 0
    for output in tables.outputs:
        if not len(output.simulation):
            continue
        if is_single(output):
            found, more = singles(output, design, MOST_SINGLES - n_single)
            n_single += len(output.numbers) - len(more)
            single += found
        else:
            found, more = fans(output, design, min(MOST_FANS_OF_OUTPUT, MOST_FANS - len(over_time)))
            over_time += found
            if not found and not more:
                more = [f"{output.name} (no column of it is a time)"]
        left_out += more
    sentences = []
    if tables.sampled is not None:
        sentences.append(f"From {tables.sampled:,} simulations, of parameter sets that were drawn at random.")
    if left_out:
        rest = f" and {len(left_out) - _LISTED} more" if len(left_out) > _LISTED else ""
        sentences.append(f"Not drawn: {', '.join(left_out[:_LISTED])}{rest}.")
    if tables.n_outputs > len(tables.outputs):
        sentences.append(f"{count(tables.n_outputs - len(tables.outputs), 'more output')} of the model not looked at.")
    if not over_time and not single and not left_out:
        sentences.append("No simulation has returned numbers.")
    if design.parameters:
        title, points = "Outputs over the parameters", (POINTS,)
    else:
        title, points = "Single outputs", ("How many simulations have which value.",)
    return [
        Section("outputs", "Outputs", tuple(sentences), figures=tuple(over_time), columns=2),
        Section("values", title, points if single else (), figures=tuple(single)),
    ]


def _files(files: Mapping[str, FileUse]) -> Section | None:
    """Say which files results depend on; None where nothing is told of files."""
    if not files:
        return None
    rows = [
        (path, f"{use.results:,}", "gone, which was accepted" if use.sha256 is None else use.sha256[:12])
        for path, use in files.items()
    ]
    head = "file, from the model's folder", "results that used it", "SHA-256"
    shown = [Table(head, tuple(rows[:MOST_FILES]), frozenset({1}))]
    if len(rows) > MOST_FILES:
        shown.append(Table(head, tuple(rows[MOST_FILES:]), frozenset({1}), lid=f"{len(rows) - MOST_FILES:,} more"))
    sentence = "A change in one of these files makes the results that used it stale."
    return Section("files", "What was read", (sentence,), tuple(shown))


def _option(name: str, value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format_size(int(value)) if name.endswith("memory") else number(value)
    return str(value)


def _about(tables: Tables, design: Design) -> Section:
    """Say what was run: the model, the options, the versions."""
    run = tables.run
    given = [
        ("model", run.entrypoint), ("model digest", run.model_digest), ("study digest", run.study.digest),
        ("seeds", run.seed_policy), ("run", run.id),
        *((f"parameter {name}", f"{value} in every set") for name, value in design.constants),
    ]  # fmt: skip
    options = [
        (name, _option(name, value)) for name, value in sorted(run.config.items()) if value not in (None, False, "")
    ]
    versions = sorted(run.versions.items())
    main = [(name, version) for name, version in versions if name in _MAIN_PACKAGES]
    shown = [Table(("what", ""), tuple(given)), Table(("option", "value"), tuple(options))]
    shown.append(Table(("package", "version"), tuple(main)))
    if len(versions) > len(main):
        lid = f"all {count(len(versions), 'package')} that were installed"
        shown.append(Table(("package", "version"), tuple(versions), lid=lid))
    return Section("about", "What was run", (), tuple(each for each in shown if each.rows))
