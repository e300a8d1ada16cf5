"""From what the user named to a study and its name: a study, a study file, or a model with a table of parameter sets.

Owns the choice, and what is put in the place of the study's own. What a run does with the study is in `request`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from modelops_ray.errors import UsageError
from modelops_ray.session.request import RunRequest, ask
from modelops_ray.session.run_config import RunConfig
from modelops_ray.study.study import Study
from modelops_ray.study.values import refuse

_A_MODEL = re.compile(r".+:[^\W\d][\w.]*")


def ask_about(given: Study | str | Path, model: str | Callable[..., object] | None, config: RunConfig) -> RunRequest:
    """Check what was asked, see `request.ask`; the run directory is named after the file of the study or the model."""
    if isinstance(given, Study):
        if config.params is not None:
            raise UsageError("--params: the study has parameter sets already; use Study.table in its place")
        study, name, path = given, "study", ""
    else:
        study, name, path = _read(Path(given), model, config), Path(given).stem, str(given)
    if config.replicates is not None and config.params is None:
        study = study.with_replicates(config.replicates)
    return replace(ask(study, model, config, name), study_path=path)


def _read(given: Path, model: object, config: RunConfig) -> Study:
    is_model = _A_MODEL.fullmatch(str(given)) is not None and not given.exists()
    if config.params is None:
        if is_model:
            raise UsageError(f"{given} is a model; give its parameter sets, as in --params sets.csv, or a study file")
        study = Study.load(given)
        if study.model is None and model is None and config.model is None:
            raise refuse(f"{given}: /model", "nothing", "the model, such as sir.py:simulate, here or by --model")
        return study
    if not is_model:
        raise UsageError(f"--params goes with a model, as in model.py:simulate; {given} is none")
    if model is not None or config.model is not None:
        raise UsageError(f"{given} is the model already; leave out --model")
    return Study.table(Path(config.params), replicates=config.replicates, model=str(given))
