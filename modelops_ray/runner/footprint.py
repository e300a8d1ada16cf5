"""What loading a model costs, measured in a process of its own; run as `python -m modelops_ray.runner.footprint`.

Reads a pickled `ModelRef` from stdin and prints two numbers: private bytes before and after the model was loaded.
"""

from __future__ import annotations

import pickle
import subprocess
import sys

from modelops_ray.errors import ModelError
from modelops_ray.runner.loading import ModelRef, load_model
from modelops_ray.runner.measure import private_bytes


def loading_bytes(ref: ModelRef) -> int:
    """Memory that importing a model and what it imports adds to a bare worker, in bytes.

    Raises:
        ModelError: It cannot be loaded in a fresh process.
    """
    command = [sys.executable, "-m", "modelops_ray.runner.footprint"]
    done = subprocess.run(command, input=pickle.dumps(ref), capture_output=True, check=False)  # noqa: S603 (ourselves)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise ModelError(f"model {ref.label} cannot be loaded in a fresh process: {lines[-1]}")
    before, after = done.stdout.split()[-2:]
    return max(0, int(after) - int(before))


if __name__ == "__main__":
    reference = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 (from the process that started this one)
    bare_bytes = private_bytes()
    load_model(reference)
    sys.stdout.write(f"{bare_bytes} {private_bytes()}\n")
