"""The process in which an engine's own client runs, so that a stuck one can be killed with all it started.

`python -m benchmarks.client ENGINE FOLDER [ADDRESS]`; the case is in FOLDER. Owns nothing but that.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from benchmarks.engines import ENGINES
from benchmarks.job import Job


def main(engine: str, folder: Path, address: str | None) -> None:
    """Run the case."""
    case, layout = pickle.loads((folder / "case").read_bytes())
    job = Job(case, layout, folder, address)
    try:
        ENGINES[engine].work(job)
    finally:
        job.say()
    job.end()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if sys.argv[3:] else None)
