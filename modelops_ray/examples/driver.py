"""Run a grid of epidemics from Python: as `python driver.py`, or as `ray job submit -- python driver.py`."""

import numpy as np
from sir import simulate  # type: ignore[import-not-found]

import modelops_ray as mr

if __name__ == "__main__":
    study = mr.Study.grid({"beta": np.linspace(0.02, 0.08, 4), "gamma": [0.1, 0.2]}, replicates=5)
    run = mr.run(study, model=simulate, out="runs/sir")
    print(run.summary)
    print(run.output("incidence"))
