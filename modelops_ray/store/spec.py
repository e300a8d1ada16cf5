"""`RunSpec`: what a session is asked to answer, as the store needs to know it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from modelops_ray.core.ranges import Ranges
from modelops_ray.store.batch import TableSchemas
from modelops_ray.store.run_json import RunJson
from modelops_ray.study.rows import RunIdentity
from modelops_ray.study.schema import identity_fields, simulations_schema
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study


@dataclass(frozen=True)
class RunSpec:
    """What a session is asked to answer; `scope` are the positions of a shard."""

    asked: RunJson
    study: Study
    simulations: Simulations
    identity: RunIdentity
    scope: Ranges | None = None

    @cached_property
    def schemas(self) -> TableSchemas:
        """The columns that follow from it: those of the whole study also for a shard."""
        types = self.identity.parameter_types
        return TableSchemas(simulations_schema(types), identity_fields(types))
