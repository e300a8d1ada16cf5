"""The shards of a run: run directories of their own in `shards/<i>-of-<n>/` of the run directory of the whole.

Owns where they are, and that no simulation can be in two places: a run is in shards, all of one split, or it is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from modelops_ray.config import Shard
from modelops_ray.core.policy import count
from modelops_ray.errors import ResultsError
from modelops_ray.store import commits, extension, files_read, run_json
from modelops_ray.store.found import RunSpec
from modelops_ray.store.run_json import RunJson
from modelops_ray.store.storage.base import Folder

FOLDER = "shards"
_NAME = re.compile(r"([1-9]\d*)-of-([1-9]\d*)")


def found_in(whole: Folder) -> dict[Shard, Folder]:
    """The shards that have begun, in order; {} where a run is in none."""
    shards = sorted((int(match[2]), int(match[1])) for match in filter(None, map(_NAME.fullmatch, whole.names(FOLDER))))
    folders = {Shard(number, of): whole.inside(f"{FOLDER}/{number}-of-{of}") for of, number in shards}
    return {shard: folder for shard, folder in folders.items() if run_json.is_there(folder)}


def require_one_split(whole: Folder) -> dict[Shard, Folder]:
    """Make sure that every simulation has one place only, and return the shards; {} where there are none.

    ResultsError if there are shards of two splits, or shards beside a run that is in none.
    """
    shards = found_in(whole)
    if not shards:
        return {}
    first, *others = shards
    other = next((shard for shard in others if shard.of != first.of), None)
    if other is not None:
        raise ResultsError(f"{_at(whole, first)}: beside {other.name}; {_move_away(whole)}")
    if run_json.is_there(whole):
        raise ResultsError(f"{_at(whole, first)}: beside a run of the whole study; {_move_away(whole)}")
    return shards


def require_one_run(whole: Folder, runs: Mapping[Shard, RunJson]) -> None:
    """Make sure that shards are parts of one run: the question, the study, and each the part that its name says.

    ResultsError if they are not; positions are comparable within one study only.
    """
    for shard, run in runs.items():
        if run.shard is None or (run.shard.number, run.shard.of) != (shard.number, shard.of):
            says = run_json.part_of(run)
            raise ResultsError(f"{_at(whole, shard)}: its {run_json.NAME} says that it is {says}; {_move_away(whole)}")
    (first, run), *others = runs.items()
    for shard, other in others:
        what = run_json.difference(other, run)
        if what is not None:
            what = what.replace("this is", f"{first.name} is")
            raise ResultsError(f"{_at(whole, shard)}: {what}; move the shards of one of them elsewhere")
        if other.study.digest != run.study.digest or other.previous or run.previous:
            raise ResultsError(
                f"{_at(whole, shard)}: of study {other.study.digest[:12]}, {first.name} is of {run.study.digest[:12]}; "
                "run every shard with the same study, then they are read as one"
            )


def require_fit(whole: Folder, spec: RunSpec, *, fresh: bool) -> None:
    """Make sure that what is asked is a part of what is there, so that no simulation is run in two places.

    ResultsError if the run is in shards and this is none of them, or the other way round, or another question.
    """
    asked, there = spec.asked.shard, found_in(whole)
    if asked is None:
        if there and not fresh:
            n = next(iter(there)).of
            raise ResultsError(
                f"{whole.where()}: run in {count(n, 'shard')}; go on with --shard 1/{n} to {n}/{n}, give another "
                "--out, or --fresh to start over"
            )
        return
    if run_json.is_there(whole):
        raise ResultsError(f"{whole.where()}: run without shards; go on without --shard, or give another --out")
    others = [name for name in whole.names() if name != FOLDER]
    if others and run_json.NAME not in others:
        raise ResultsError(f"{whole.where()}: not a run directory, it holds {others[0]}; give another --out")
    other = next((shard for shard in there if shard.of != asked.of), None)
    if other is not None:
        raise ResultsError(
            f"{whole.where()}: run in {count(other.of, 'shard')}, this is one of {asked.of}; go on with --shard "
            f"I/{other.of}, or give another --out"
        )
    neighbour = next((shard for shard in there if shard.number != asked.number), None)
    if neighbour is not None:
        _require_same_run(_at(whole, neighbour), there[neighbour], spec)


def _require_same_run(where: str, neighbour: Folder, spec: RunSpec) -> None:
    found = run_json.read_run_json(neighbour)
    if found is None:
        return  # it was moved aside in between
    log = commits.read_log(neighbour, found)
    found = found.grown(log.grown)
    if not spec.accepts_changes and (changed := files_read.changed_since(log, spec.model)):
        raise files_read.refusal(where, changed, log.files)
    what = run_json.difference(found, spec.asked)
    if what is None and not files_read.is_former(log, found.model_digest, spec.model):
        what = run_json.other_model(found, spec.asked)
    if what is None and not _is_contained(found, spec):
        what = f"run with study {found.study.digest[:12]}, which study {spec.asked.study.digest[:12]} does not contain"
    if what is not None:
        raise ResultsError(f"{where}: {what}; all shards of a run answer one question, give another --out")


def _is_contained(found: RunJson, spec: RunSpec) -> bool:
    if found.study.digest == spec.asked.study.digest:
        return True
    return extension.find_move(found.study, spec.study, spec.simulations, spec.asked.seed_policy) is not None


def _at(whole: Folder, shard: Shard) -> str:
    return whole.where(f"{FOLDER}/{shard.name}")


def _move_away(whole: Folder) -> str:
    return f"a simulation may be in both, so that {whole.where()} is not read; move one of them elsewhere"
