"""The identifiers and derived seeds of ModelOps, equal to the bit; owns no study and no file.

Values keep the spelling of the study file: `1`, `1.0` and `true` are three different parameter sets, as are `0.0` and
`-0.0`, because ids are hashes of text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b

from modelops_ray.study.chunk import Scalar

MAX_SEED = 2**64 - 1

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_text(params: Mapping[str, Scalar]) -> str:
    """Write parameters as the one JSON text that stands for them: names sorted, no blanks, Python's float spelling."""
    return _ENCODER.encode(params)


def param_id(params: Mapping[str, Scalar]) -> str:
    """Hash finite, flat parameters to 64 hex digits."""
    return blake2b(f"contracts:param:v1|{canonical_text(params)}".encode(), digest_size=32).hexdigest()


def derived_seed(param_id: str, index: int) -> int:
    """Derive the seed, below 2**32, of replicate `index` (from 0) of a parameter set that names no seed."""
    return int.from_bytes(blake2b(f"{param_id}:{index}".encode(), digest_size=8).digest(), "big") % 2**32


def task_id(bundle_ref: str, entrypoint: str, param_id: str, seed: int) -> str:
    """Hash the full identity of a simulation, with the seed that is really run, to 32 hex digits.

    `bundle_ref` is `sha256:<hex>` of the bundle, or else of the model's content; `entrypoint` is `<model>/<scenario>`.
    """
    return blake2b(f"sim:v1|{bundle_ref}|{entrypoint}|{param_id}|{seed}".encode(), digest_size=16).hexdigest()
