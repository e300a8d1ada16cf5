"""A process that runs simulations for one supervisor, one at a time, and is thrown away.

Owns what is set before a model runs in it: its process group, descriptors, folder for temporary files, seeds. The fork
server, which made it, sees how it ends and what it uses. It is forked with the model in it, or becomes a new
interpreter that loads the model itself. Imports nothing of ours that the model's interpreter may lack.
"""

from __future__ import annotations

import builtins
import ctypes
import functools
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ModelError
from . import opened, protocol
from .aftermath import interpreter_state, put_right
from .answers import Packed, Packer
from .board import RESTING, Board
from .boot import command
from .buffers import flush_standard
from .descriptors import high
from .foreign import ProcessEnds
from .generators import seed_shared
from .held import held
from .late_pandas import LatePandas
from .loading import ModelRef, aftermath, load_model, models_folder, reading, where_it_returns
from .measure import peak_meter, private_bytes, resident_parts
from .printing import mark
from .protocol import CANNOT_ANSWER, CannotLoad, Ready, Terms, Work, receive_work
from .raised import storable, told_of
from .segments import record_into
from .stacks import tell_stacks
from .unseen import WholePeak
from .workroom import MAX_PATHS, Workroom

if TYPE_CHECKING:
    from .calling import Model
    from .measure import Meter

NICENESS = 5
FIRST_IN_LINE = 1000
FLUSH_S = 0.1
FLUSH_BYTES = 2**20
ENOUGH_S = 1.0
"""What a child was given together is expected to take a tenth of it; after so long the rest may be another's."""
WORTH_MEASURING_S = 0.5
# Those that `tempfile` finds by itself.
_FOUND_FOLDERS = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108
_PR_SET_PDEATHSIG = 1
_BUILTINS = vars(builtins)
# Found once, in the server: a look-up in every child is pages of its own.
_prctl = ctypes.CDLL(None).prctl


@dataclass(frozen=True)
class Room:
    """What a child is given: descriptors, a folder for its temporary files, one that its simulations work in.

    It may never ask for more than `data_bytes` of memory; 0 for any.
    """

    channel: int
    capture: int
    board: int
    folder: str
    workplace: str
    data_bytes: int

    @property
    def kept(self) -> tuple[int, int]:
        """The descriptors that a child keeps besides the standard ones."""
        return self.channel, self.board


def live(room: Room, model: Model, parent: int) -> None:
    """Be a forked child: serve until the supervisor hangs up."""
    room = _settle(room, parent)
    aftermath().settle()
    record_into(room.board)
    workroom = Workroom(models_folder(), room.workplace, room.folder, reading())
    _serve(_channel(room.channel), Board(room.board), lambda: model, workroom, is_fork=True)


def become(room: Room, server_folder: str, parent: int) -> NoReturn:
    """Be a new interpreter, which loads the model before it serves."""
    room = _settle(room, parent)
    for fd in room.kept:
        os.set_inheritable(fd, True)
    spawned = command("child", server_folder, str(room.channel), str(room.board), room.workplace)
    os.execv(spawned[0], spawned)  # noqa: S606 (ourselves)


def main(server_folder: str, channel_fd: str, board_fd: str, workplace: str) -> None:
    """Serve in a new interpreter."""
    folder = os.environ["TMPDIR"]
    channel = _channel(int(channel_fd))
    for fd in (int(channel_fd), int(board_fd)):
        os.set_inheritable(fd, False)
    record_into(int(board_fd))
    try:
        model = model_of(Path(server_folder))
    except ModelError as error:
        protocol.send(channel, CannotLoad(str(error)))
        return
    aftermath().settle()
    warm_up()
    protocol.send(channel, Ready())
    workroom = Workroom(models_folder(), workplace, folder, reading())

    def current() -> Model:
        """The model, loaded again where a file that this process has read has changed since.

        Another supervisor than before may hear what was read.
        """
        nonlocal model
        if not workroom.reading.is_current():
            model = model_of(Path(server_folder))
            aftermath().settle()
            workroom.reading = reading()
        workroom.reading.tell_again()
        return model

    _serve(channel, Board(int(board_fd)), current, workroom, is_fork=False)


def model_of(server_folder: Path) -> Model:
    """Load the model that a fork server is for; ModelError where that fails."""
    return load_model(ModelRef.from_json(Terms.read(server_folder).model))


def _channel(fd: int) -> socket.socket:
    channel = socket.socket(fileno=fd)
    # A default time limit that the model set for its sockets does not hold for ours.
    channel.settimeout(None)
    return channel


def _settle(room: Room, parent: int) -> Room:
    """Take the room; return it with the numbers that its descriptors have now."""
    with suppress(PermissionError):
        os.setpgid(0, 0)
    _die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # Descriptor 1 is not the protocol's: C code of a model may print to it.
    os.dup2(room.capture, 1)
    os.dup2(room.capture, 2)
    models = aftermath().descriptors
    _close_all_but(models.fds.union(room.kept))
    models.make_own(room.folder)
    room = replace(room, channel=high(room.channel), board=high(room.board))
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        _write("/proc/self/oom_score_adj", str(FIRST_IN_LINE))
    if room.data_bytes:
        _limit_data(room.data_bytes)
    _take_folder(room.folder)
    return room


def _take_folder(folder: str) -> None:
    """Have temporary files made there, unless the import chose another folder for them."""
    before, os.environ["TMPDIR"] = os.environ.get("TMPDIR"), folder
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None and tempfile.tempdir in (before, *_FOUND_FOLDERS):
        tempfile.tempdir = None


def _limit_data(data_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    least = data_bytes if hard == resource.RLIM_INFINITY else min(data_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (least, least))


def _write(path: str, text: str) -> None:
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123 (once per child)
        file.write(text.encode())


def _die_with(parent: int) -> None:
    """Have the kernel end this process with the server, and make sure that it had not ended before that."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _close_all_but(kept: Collection[int]) -> None:
    # Not all there could be: those may be a thousand million, each one a call where the kernel has none for a range.
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 (once per child)
        if fd > 2 and fd not in kept:
            os.closerange(fd, fd + 1)


def _serve(
    channel: socket.socket, board: Board, current: Callable[[], Model], workroom: Workroom, *, is_fork: bool
) -> None:
    capture = _capture()
    tell_stacks(capture)
    # A model can break what this process answers with.
    with ProcessEnds(CANNOT_ANSWER), peak_meter() as meter:
        whole = WholePeak(meter, board, is_fork=is_fork)
        board.set(RESTING)
        while (work := receive_work(channel)) is not None:
            _Batch(work, channel, board, meter, current(), workroom, whole).run(capture)


def _capture() -> int:
    """A descriptor of where what is printed is caught, wherever the model leads its own; of nowhere if that is lost."""
    try:
        return high(os.dup(2))
    except OSError:
        return high(os.open(os.devnull, os.O_WRONLY))


class _Batch:
    """The simulations of one message; what came of them is sent several at a time where they are short."""

    def __init__(
        self, work: Work, channel: socket.socket, board: Board, meter: Meter, model: Model, workroom: Workroom,
        whole: WholePeak,
    ) -> None:  # fmt: skip
        self._work, self._channel, self._board, self._meter, self._model = work, channel, board, meter, model
        self._whole = whole
        self._outputs_of, self._builtins = _at_hand()
        self._own_bytes: int | None = None
        self._pid, self._longest_s = held.pid(), 0.0
        self._packer, self._workroom = Packer(), workroom
        self._wrote: list[tuple[int, str]] = []
        self._read: list[tuple[int, str, str]] = []
        self._interpreter = interpreter_state()
        self._flushed_s = held.monotonic_s()

    def run(self, capture: int) -> None:
        began_s, runs = self._flushed_s, self._work.runs
        for index, (at, seed) in enumerate(runs):
            if self._work.marks:
                mark(capture, index)
            self._board.set(index)
            self._workroom.enter()
            # Every simulation gets its own, or what one does to it would reach the next.
            self._workroom.leave(self._simulate(dict(self._work.params[at]), seed))
            if self._workroom.wrote and len(self._wrote) < MAX_PATHS:
                self._wrote += [(self._packer.n - 1, storable(path)) for path in self._workroom.wrote]
            if fresh := self._workroom.reading.fresh:
                self._read += [(self._packer.n - 1, path, stamp) for path, stamp in fresh]
                fresh.clear()
            now_s = held.monotonic_s()
            if now_s - began_s > ENOUGH_S:
                self._flush(n_left=len(runs) - index - 1)
                break
            if now_s - self._flushed_s > FLUSH_S or self._packer.size_bytes > FLUSH_BYTES:
                self._flush()
        if self._packer.n:
            self._flush()
        # Not before it: an end of this process while answers are sent is the last simulation's doing.
        self._board.set_answered(self._flushed_s)

    def _simulate(self, params: Mapping[str, Any], seed: int) -> float:
        """Run one simulation, and return how many seconds the model took."""
        seed_shared(seed)
        self._meter.begin()
        failure, packed, peak_bytes = None, Packed(), 0
        began_s = held.perf_s()
        try:
            try:
                returned = self._model(params, seed, self._work.scenario)
            finally:
                model_s = held.perf_s() - began_s
                put_right(self._interpreter)
                # A comparison is 2 us; what a model adds stays.
                if self._builtins != _BUILTINS:
                    _BUILTINS.update(self._builtins)
            if held.pid() != self._pid:
                held.end_fork(None)
            peak_bytes = self._meter.peak_bytes()
            packed = self._packer.packed(self._outputs_of(returned, self._work.outputs))
        except BaseException as error:  # noqa: BLE001 - what a model raises, sys.exit() included, is that simulation's failure
            if held.pid() != self._pid:
                held.end_fork(error)
            failure = told_of(error, where_it_returns)
        seconds = held.perf_s() - began_s
        if failure or packed.streams:
            peak_bytes = self._meter.peak_bytes()
        peak_bytes = self._whole.peak_bytes(peak_bytes, seconds)
        self._packer.add(seconds, peak_bytes, failure, packed)
        self._longest_s = max(self._longest_s, seconds)
        return seconds if failure or packed.streams else model_s

    def _flush(self, n_left: int = 0) -> None:
        # What was printed and written arrives before the answers.
        flush_standard()
        aftermath().buffers.flush()
        now_s = held.monotonic_s()
        took_s, self._flushed_s, own_bytes = now_s - self._flushed_s, now_s, 0
        # It takes milliseconds: once where nothing is known yet, and wherever that is nothing beside the simulation.
        if (self._work.measure or self._longest_s > WORTH_MEASURING_S) and self._own_bytes is None:
            self._own_bytes = private_bytes() - self._meter.grown_bytes()
            own_bytes = self._whole.own_bytes(self._own_bytes)
        self._workroom.update_changed()
        changed = list(map(storable, self._workroom.changed))
        answered, blobs = self._packer.message(
            n_left=n_left, took_s=took_s, own_bytes=own_bytes, wrote=self._wrote[:MAX_PATHS], changed=changed,
            read=self._read,
        )  # fmt: skip
        protocol.send(self._channel, answered, blobs)
        self._wrote, self._read = [], []
        self._workroom.changed.clear()


@functools.cache
def _at_hand() -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """What reads outputs, and Python's built-in functions as they are once the model is imported.

    Found once, in the server: each import and each copy in a fork copies pages.
    """
    from .usable import usable_outputs

    return usable_outputs, dict(_BUILTINS)


def warm_up() -> None:
    """Import what every child needs besides the model, once, in the server; much of it is lazy."""
    usable_outputs, _ = _at_hand()
    seed_shared(0)
    resident_parts()
    opened.watch(None)
    with LatePandas():
        Packer().packed(usable_outputs({"columns": {"x": [0.0]}, "row": {"x": 0.0}}))
