"""A process that runs simulations for one supervisor, one at a time, and is thrown away.

Owns what is set before a model runs in it: its process group, descriptors, folder for temporary files, seeds. Whatever
happens to it is seen by the fork server, which made it. Imports nothing of ours that the model's interpreter may lack.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import random
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from . import wire
from .measure import Meter, peak_meter
from .tables import BadOutputError, outputs_of

if TYPE_CHECKING:
    from .calling import Model

NICENESS = 5
FIRST_IN_LINE = 1000
_PR_SET_PDEATHSIG = 1
_STDERR = 2


@dataclass(frozen=True)
class Room:
    """What a child may use: address space for data (0 for all there is), and a folder of its own."""

    data_bytes: int
    folder: str


def live(channel: socket.socket, capture: int, model: Model, room: Room, parent: int) -> NoReturn:
    """Be a child: serve until the supervisor hangs up."""
    _settle(channel, capture, room, parent)
    with peak_meter() as meter:
        while (message := wire.receive(channel)) is not None:
            _answer(channel, model, meter, message.header)
    os._exit(0)


def _settle(channel: socket.socket, capture: int, room: Room, parent: int) -> None:
    os.setpgid(0, 0)
    _die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # Descriptor 1 is not the protocol's: C code of a model may print to it.
    os.dup2(capture, 1)
    os.dup2(capture, _STDERR)
    _close_all_but(channel.fileno())
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(FIRST_IN_LINE))
    if room.data_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (room.data_bytes, room.data_bytes))
    os.environ["TMPDIR"] = room.folder
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]


def _die_with(parent: int) -> None:
    """Have the kernel end this process with the server, and make sure that it had not ended before that."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _close_all_but(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(kept + 1, max(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


def _answer(channel: socket.socket, model: Model, meter: Meter, asked: Mapping[str, Any]) -> None:
    seed_generators(asked["seed"])
    meter.begin()
    began_s = time.perf_counter()
    answer: dict[str, Any] = {"failure": None}
    blobs: list[bytes] = []
    try:
        outputs = outputs_of(model(asked["params"], asked["seed"], asked["scenario"]), asked["outputs"])
        answer["seconds"] = time.perf_counter() - began_s
        answer["outputs"], blobs = _packed(outputs)
    except BaseException as error:  # noqa: BLE001 - whatever a model raises, sys.exit() included, is that simulation's failure
        answer = {"seconds": time.perf_counter() - began_s, "failure": description_of(error)}
    answer["peak_bytes"] = meter.peak_bytes()
    sys.stdout.flush()
    sys.stderr.flush()
    wire.send(channel, answer, blobs)


def seed_generators(seed: int) -> None:
    """Seed the global generators that a model may use without knowing; NumPy's takes the seed modulo 2**32."""
    random.seed(seed)
    numpy: ModuleType | None = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def warm_up() -> None:
    """Import what every child needs besides the model, once, in the server; much of it is lazy."""
    seed_generators(0)
    _packed(outputs_of({"columns": {"x": [0.0]}, "row": {"x": 0.0}}))


def _packed(outputs: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[bytes]]:
    """Make every output a name, a form and bytes: an Arrow stream, or a pickled mapping of plain scalars."""
    import pyarrow as pa

    contents: list[tuple[str, str]] = []
    blobs: list[bytes] = []
    for name, content in outputs.items():
        if isinstance(content, pa.Table):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, content.schema) as writer:
                writer.write_table(content)
            contents.append((name, "arrow"))
            blobs.append(sink.getvalue().to_pybytes())
        else:
            contents.append((name, "row"))
            blobs.append(pickle.dumps(dict(content)))
    return contents, blobs


def description_of(error: BaseException) -> dict[str, str | None]:
    """What a supervisor is told of an exception; without the frames of ours."""
    if isinstance(error, BadOutputError):
        return {"kind": "bad_output", "type": "BadOutput", "message": str(error), "traceback": None}
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    shown = traceback.TracebackException(type(error), error, frames)
    kind = "out_of_memory" if isinstance(error, MemoryError) else "model_error"
    return {"kind": kind, "type": type(error).__name__, "message": str(shown), "traceback": "".join(shown.format())}
