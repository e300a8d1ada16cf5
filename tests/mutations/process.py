"""A worker process as its caller sees it: asked for a verdict, ended where it hangs, begun anew after some inputs."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
MOST_INPUTS = 1000
STARTING_S = 300
HANGING_S = 90


class Worker:
    """A worker; a context, at whose end its process is gone."""

    def __enter__(self) -> Self:
        """Start nothing yet: the first question does."""
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+")
        self._n_asked = 0
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._end()
        self._errors.close()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Have an order carried out; one that ends the process, or has no end, is answered for it."""
        if self._n_asked >= MOST_INPUTS:
            self._end()
        process = self._process or self._start()
        self._n_asked += not order.get("only_draw")
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answer = self._answer(process, HANGING_S)
        if isinstance(answer, dict):
            return answer
        self._end()
        return self._for_it(order, answer)

    def _for_it(self, order: dict[str, Any], wrong: str) -> dict[str, Any]:
        """What is said of an input whose process cannot say anything."""
        asked = order.get("input") or self.ask(**order, only_draw=True)["input"]
        return {"kind": asked["kind"], "exit_code": None, "seconds": HANGING_S, "peak_bytes": 0, "wrong": [wrong],
                "stderr": "", "input": asked}  # fmt: skip

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.mutations.worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT
        )
        self._n_asked = 0
        if self._answer(self._process, STARTING_S) != "ready":
            self._errors.seek(0)
            raise RuntimeError(f"the valid folder is refused: {self._errors.read()[-3000:]}")
        return self._process

    @staticmethod
    def _answer(process: subprocess.Popen[str], patience_s: float) -> Any:
        """The answer as its JSON says; a text in place of one that does not come."""
        if not select.select([process.stdout], [], [], patience_s)[0]:
            return f"did not end within {patience_s:.0f} s"
        line = process.stdout.readline()
        return json.loads(line) if line else f"ended the process with {process.wait()}"

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
