"""Whether one simulation comes out the same in two processes: a copy of it runs before it, and is compared with it.

Owns the comparison, not the copy: nothing of that is kept. It runs first, so that no result waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from modelops_ray.core.report import Failure
from modelops_ray.runner.executor import Attempt
from modelops_ray.sandbox.outputs import Scalars, row_table
from modelops_ray.study.sameness import first_place

_Outputs = Mapping[str, Scalars | pa.Table]


def difference(twin: Attempt, attempt: Attempt) -> str:
    """Say where two attempts of one simulation differ; "" where they do not, or one has no result."""
    one, other = twin.outcome, attempt.outcome
    if isinstance(one, Failure) or isinstance(other, Failure):
        return ""
    if one.keys() != other.keys():
        return f"output {min(one.keys() ^ other.keys())!r}"
    return next(filter(None, (first_place(name, _table(one[name]), _table(other[name])) for name in sorted(one))), "")


def _table(content: Scalars | pa.Table) -> pa.Table:
    return content if isinstance(content, pa.Table) else row_table([content])
