"""The command line as tests use it: called in this process, in a folder of the test's own, with small models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from modelops_ray.cli import main

MODEL = '''\
"""A model that is done at once."""


def simulate(params, seed):
    """Return the parameters and the seed, doubled."""
    return {"doubled": {"beta": 2 * params["beta"], "twice_seed": 2 * seed}}
'''


def invoke(*arguments: object) -> Result:
    """Call `modelops-ray` with these arguments; what is not an exit of it is raised here."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="modelops-ray")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def summary_of(result: Result) -> dict[str, Any]:
    """The one JSON object that is all of stdout."""
    assert 1 == result.stdout.count("\n")
    return json.loads(result.stdout)


def write_model(folder: Path, source: str = MODEL, name: str = "model.py") -> Path:
    """Write a model file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return path


def write_study(
    folder: Path,
    sets: Sequence[Mapping[str, object]] = ({"beta": 0.5}, {"beta": 1.5}),
    *,
    name: str = "study.json",
    **keys: object,
) -> Path:
    """Write a study of some parameter sets, of the model in `model.py` beside it; `keys` replace or add others."""
    document = {
        "model": "model.py:simulate",
        "scenario": "baseline",
        "parameter_sets": [{"params": params} for params in sets],
        "n_replicates": 1,
        **keys,
    }
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, every folder with None."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def enter(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Work in a folder of the test's own, with a profile cache in it, a good model and a good study."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_model(folder)
    write_study(folder)
    return folder


def run_locally(*arguments: object, study: object = "study.json") -> Result:
    """Call `run --backend local --json` on a study, in forks unless another isolation is asked for."""
    isolation = () if "--isolation" in arguments else ("--isolation", "fork")
    return invoke("run", study, "--backend", "local", "--json", *isolation, *arguments)
