"""Memory that was asked for and not used, once every parameter set has been seen: ours, an oracle's, one fixed size's.

Two studies: `tail` (one parameter set in twenty needs eight times the median) and `starsim` (populations from 1,000 to
30,000). Byte-seconds count: what a simulation asks for, for as long as it runs. What its worker and its process own is
used, and so is its peak; the rest is waste. The oracle knows every peak and asks for just that; the fixed size is the
smallest that nothing overruns, and the one that a percent overruns.
`python -m benchmarks.waste [tail|starsim] ...`
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import modelops_ray as mr
from benchmarks.records import keep

MIB = 2**20
CPUS = 4
SEED = 7


def need(params: Mapping[str, float], seed: int) -> dict[str, float]:
    """Hold about `mib` MiB for about `seconds`; replicates differ by a few percent, as those of real models do."""
    rng = np.random.default_rng(seed)
    held = np.ones(int(params["mib"] * rng.uniform(0.95, 1.05) * MIB / 8))
    time.sleep(params["seconds"] * rng.uniform(0.8, 1.2))
    return {"held": float(held.nbytes)}


def tail() -> mr.Study:
    """100 parameter sets of about 64 MiB, five of them eight times as large."""
    rng = random.Random(SEED)
    sizes = [64.0 * rng.lognormvariate(0, 0.2) * (8 if index % 20 == 7 else 1) for index in range(100)]
    sets = [{"params": {"mib": size, "seconds": 0.3}} for size in sizes]
    return mr.Study.from_dict({"scenario": "tail", "parameter_sets": sets, "n_replicates": 8}, source="tail")


def starsim() -> mr.Study:
    """Epidemics in populations of very different size."""
    sets: dict[str, list[Any]] = {"beta": [0.03, 0.1], "dur_inf": [4.0], "n_agents": [1000, 3000, 10_000, 30_000]}
    return mr.Study.grid(sets, replicates=20)


STUDIES = {
    "tail": (tail, "benchmarks.waste:need"),
    "starsim": (starsim, str(Path(__file__).parents[1] / "modelops_ray/examples/starsim_sir.py:simulate")),
}


def measure(name: str) -> dict[str, Any]:
    """Run one study and say what was wasted of it."""
    from modelops_ray.store.profiles import Profile

    study, model = STUDIES[name][0](), STUDIES[name][1]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        run = mr.run(study, model=model, out=f"{folder}/run", limit_cpus=CPUS, limit_memory="12Gi")
        (kept,) = Path(folder).glob("modelops-ray/profiles/*.json")
        base_bytes = Profile.model_validate_json(kept.read_text()).base_bytes
        rows = [row for row in run.simulations().to_pylist() if row["status"] == "completed"]
    # One replicate of every set runs before any other of any.
    later = [row for row in rows if row["replicate"] > 0]
    needs = np.array([base_bytes + row["peak_bytes"] for row in later], dtype=float)
    asked = np.array([row["request_bytes"] for row in later], dtype=float)
    seconds = np.array([row["seconds"] for row in later])
    fixed, nearly = needs.max(), np.quantile(needs, 0.99)
    return {
        "study": name,
        "simulations": len(rows),
        "counted": len(later),
        "base_bytes": base_bytes,
        "request_sizes": len(set(asked)),
        "unused_share": _unused(asked, needs, seconds),
        "first_of_set_unused_share": _unused(*_first(rows, base_bytes)),
        "repeated_share": sum(row["attempts"] > 1 for row in later) / len(later),
        "over_request_share": float(np.mean(needs > asked)),
        "oracle_unused_share": 0.0,
        "fixed_unused_share": _unused(np.full_like(needs, fixed), needs, seconds),
        "fixed_for_99_percent_unused_share": _unused(np.full_like(needs, nearly), np.minimum(needs, nearly), seconds),
        "density_over_fixed": float((fixed * seconds).sum() / (asked * seconds).sum()),
        "density_of_oracle": float((fixed * seconds).sum() / (needs * seconds).sum()),
    }


def _first(rows: list[dict[str, Any]], base_bytes: int) -> tuple[Any, Any, Any]:
    first = [row for row in rows if row["replicate"] == 0]
    return (
        np.array([row["request_bytes"] for row in first], dtype=float),
        np.array([base_bytes + row["peak_bytes"] for row in first], dtype=float),
        np.array([row["seconds"] for row in first]),
    )


def _unused(asked: Any, needs: Any, seconds: Any) -> float:
    """The share of byte-seconds that were asked for and not used."""
    return float((np.maximum(0.0, asked - needs) * seconds).sum() / (asked * seconds).sum())


if __name__ == "__main__":
    for wanted in sys.argv[1:] or STUDIES:
        keep("waste", measure(wanted))
