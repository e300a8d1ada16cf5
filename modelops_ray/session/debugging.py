"""Which simulation of a study is run under the debugger, and what is said of it; nothing is kept."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from modelops_ray.runner.debugging import debugged
from modelops_ray.session.request import RunRequest, chunk_context
from modelops_ray.study.identity import task_id


def debug(question: RunRequest, say: Callable[[str], None]) -> bool:
    """Run the first of the simulations that are asked for in this process; return whether it has a result.

    ModelError where the model cannot be loaded.
    """
    simulation = question.simulations[next(iter(question.only)) if question.only is not None else 0]
    identity = question.identity
    name = task_id(identity.bundle_ref, identity.entrypoint, simulation.param_id, simulation.seed)
    shown = ", ".join(f"{key}={value!r}" for key, value in simulation.params.items())
    question = question.inspected()
    say(f"simulation {name}: {shown or 'no parameters'}; replicate {simulation.replicate}, seed {simulation.seed}")
    outputs = debugged(chunk_context(question, 0), simulation, say)
    for output, content in (outputs or {}).items():
        if isinstance(content, pa.Table):
            say(f"{output}: {content.num_rows:,} rows of {', '.join(content.column_names)}")
        else:
            say(f"{output}: {', '.join(f'{key}={value!r}' for key, value in content.items())}")
    return outputs is not None
