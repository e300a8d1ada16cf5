"""In which run directory a study goes on that has grown, or that is a part of the study which is there.

Owns the search below `runs/`, the comparison with what is there, and the sentence about it. Changes nothing on disk.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ResultsError, StorageError
from modelops_ray.session.request import RunRequest, default_directory
from modelops_ray.store import commits, extension, run_json
from modelops_ray.store.run_json import RunJson, StudyEntry
from modelops_ray.store.storage.places import Place, open_folder
from modelops_ray.study import schema
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study


def settled(question: RunRequest) -> RunRequest:
    """Return the question as the run directory can answer it.

    Without `--out`, a run below `runs/` whose study is contained in the one that is asked, or contains it, is gone on
    with. Where what is there is larger, it stays the study of the run, and only what is asked is run.
    """
    if question.config.shard is not None:
        return question
    if question.config.out is None and not _is_run(question.out):
        home = _home(question)
        question = replace(question, out=home, whole=home)
    there = None if question.config.fresh else _there(question.out, question)
    return question if there is None else replace(_as_part(question, there.run.study), known=there.log)


def _is_run(place: Place) -> bool:
    return run_json.is_there(open_folder(place).hold())


class _There(NamedTuple):
    """A run with the study that it has grown to, and its log."""

    run: RunJson
    log: commits.Log


def _there(place: Place, question: RunRequest, name: str = "") -> _There | None:
    """The run in a directory, if it is one of the same model and seeds; damage is told when it is opened.

    With a `name` it has to be the default directory of a study of that name and the model that is asked.
    """
    with suppress(ResultsError, StorageError):
        folder = open_folder(place).hold()
        run = run_json.read_run_json(folder)
        if run is None or run.shard is not None or not _is_alike(run, question):
            return None
        if name and default_directory(run.study.digest, question.model, question.config, name).name != Path(place).name:
            return None
        log = commits.read_log(folder, run)
        return _There(run.grown(log.grown), log)
    return None


def _is_alike(run: RunJson, question: RunRequest) -> bool:
    return (run.entrypoint, run.seed_policy) == (question.identity.entrypoint, question.config.seeds)


def _home(question: RunRequest) -> Place:
    """The run of a study of the same name that has most in common with what is asked; the default where there is none.

    The newest one of several.
    """
    default = Path(str(question.out))
    name = default.name.rpartition("-")[0]
    found: list[tuple[int, float, Path]] = []
    for folder in default.parent.iterdir() if default.parent.is_dir() else ():
        there = _there(folder, question, name) if folder.name.rpartition("-")[0] == name else None
        if there is not None and (n_common := _n_common(question, there.run.study)):
            found.append((n_common, folder.stat().st_mtime, folder))
    return max(found)[2] if found else question.out


def _n_common(question: RunRequest, there: StudyEntry) -> int:
    """How many simulations a study has in common with the one asked, if one of them contains the other; else 0."""
    n_asked = len(question.simulations)
    if there.simulations <= n_asked:
        policy = question.config.seeds
        is_contained = extension.find_move(there, question.study, question.simulations, policy) is not None
        return there.simulations if is_contained else 0
    return n_asked if _as_part(question, there) is not question else 0


def _as_part(question: RunRequest, there: StudyEntry) -> RunRequest:
    """Ask for the study that is there, and to run only what is asked of it; the same question where it is no part."""
    if there.simulations <= len(question.simulations):
        return question
    larger = replace(Study.from_dict(there.document, source=run_json.NAME), folder=question.study.folder)
    simulations = Simulations(larger, question.config.seeds)
    asked = StudyEntry(
        digest=question.study.digest, simulations=len(question.simulations), document=question.study.to_dict()
    )
    move = extension.find_move(asked, larger, simulations, question.config.seeds)
    if move is None:
        return question
    chosen = move.position if question.only is None else [move.position[at] for at in question.only]
    n_others = len(simulations) - len(move.position)
    return replace(
        question,
        study=larger,
        simulations=simulations,
        identity=replace(question.identity, parameter_types=schema.parameter_types(larger.parameter_sets)),
        only=Ranges.of(map(int, chosen)),
        note=f"{question.out} is of a larger study: its other {n_others:,} simulations are left alone",
    )
