"""Making the children of a fork server, and clearing away what is left of them.

Owns what each child is given: its channel, output, board and folders, and the list of children on disk that is swept
should the server be killed. Which supervisor has which child is `serving`'s business. Runs in the model's interpreter.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import child as child_side
from .board import BYTES as BOARD_BYTES
from .board import Board
from .child import Room
from .enforcement import TOKEN, UNLIMITED, Child, Enforcer
from .family import Family
from .foreign import ProcessEnds
from .machine import kernel_kills
from .measure import resident_parts
from .mirror import empty, is_as_made
from .pidfd import open_process
from .processes import process
from .protocol import CANNOT_ANSWER
from .segments import Segments

if TYPE_CHECKING:
    from .calling import Model


class Births:
    """Forks a server with `model` in it; without it, forks become new interpreters that load the model."""

    def __init__(self, model: Model | None, folder: Path, enforcer: Enforcer) -> None:
        """Begin in the folder of the server."""
        self._model, self._folder, self._enforcer = model, folder, enforcer
        self._data_bytes = enforcer.most_data_bytes()
        self._names_fd = os.open(folder / "children", os.O_WRONLY | os.O_CREAT, 0o600)
        self._n_born = self._n_workplaces = 0
        self._workplaces: list[str] = []

    def born(self, *, is_only: bool) -> Child:
        """Fork; the child's `kept_fds` are the supervisor's ends of its channel and output, and its board.

        Args:
            is_only: Whether there is no other child, so that what the kernel has killed was not counted lately.

        Raises:
            OSError: There is no process, descriptor or disk left for it; nothing stays behind.
        """
        kills = kernel_kills() if is_only else self._enforcer.kernel_kills
        self._n_born += 1
        folder, token = f"{self._folder}/child-{self._n_born}", f"{os.getpid()}-{self._n_born}"
        with ExitStack() as always, ExitStack() as undo:
            ours, theirs = socket.socketpair()
            ours.settimeout(None)
            theirs.settimeout(None)
            undo.callback(ours.close)
            always.callback(theirs.close)
            read_fd, write_fd = os.pipe()
            undo.callback(os.close, read_fd)
            always.callback(os.close, write_fd)
            board_fd = Board.create(self._folder)
            undo.callback(os.close, board_fd)
            os.mkdir(folder, 0o700)  # noqa: PTH102 (once per child)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            room = Room(theirs.fileno(), write_fd, board_fd, folder, self._workplace(undo), self._data_bytes)
            before, record_fd = self._enforcer.shared_files.names(), os.dup(board_fd)
            undo.callback(os.close, record_fd)
            pid, pidfd = self._fork(room, token)
            undo.pop_all()
        with suppress(PermissionError):
            os.setpgid(pid, pid)
        segments = Segments(record_fd, BOARD_BYTES, before, pids={pid})
        born = process(pid)
        family = Family(pid, born, resident_parts(pid).made_bytes, self._enforcer.server)
        return Child(
            pid, pidfd, Board(board_fd, for_forks=False), UNLIMITED, folder, room.workplace, family, segments, token,
            os.fstat(board_fd).st_ino, 0 if born is None else born.started_ticks, kills,
            kept_fds=(ours.detach(), read_fd, board_fd),
        )  # fmt: skip

    def _workplace(self, undo: ExitStack) -> str:
        """Take a folder that no child works in now: the one that was left last, or a new one."""
        if not self._workplaces:
            self._n_workplaces += 1
            self._workplaces.append(f"{self._folder}/work-{self._n_workplaces}")
            os.mkdir(self._workplaces[-1], 0o700)  # noqa: PTH102 (one for each child at a time)
        workplace = self._workplaces.pop()
        undo.callback(self._workplaces.append, workplace)
        return workplace

    def _fork(self, room: Room, token: str) -> tuple[int, int]:
        """Fork; return the child's number and a descriptor of it."""
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_child(room, token, server)
        return pid, open_process(pid)

    def _be_child(self, room: Room, token: str, server: int) -> None:
        with ProcessEnds(CANNOT_ANSWER):
            os.environ[TOKEN] = token
            if self._model is None:
                child_side.become(room, str(self._folder), server)
            child_side.live(room, self._model, server)

    def bury(self, one: Child) -> int:
        """Wait for a child that has ended or was killed, leave nothing of it, and return its exit code."""
        one.kill_others()
        _, status = os.waitpid(one.pid, 0)
        os.close(one.pidfd)
        one.segments.remove(self._enforcer.shared_files.names())
        os.close(one.segments.record)
        one.board.close()
        one.close_kept()
        try:
            os.rmdir(one.folder)  # noqa: PTH106 (once per child; most leave it empty)
        except OSError:
            shutil.rmtree(one.folder, ignore_errors=True)
        if is_as_made(one.workplace) or empty(one.workplace):
            self._workplaces.append(one.workplace)
        return os.waitstatus_to_exitcode(status)

    def write_names(self, children: Iterable[Child]) -> None:
        """Write down which processes are to be swept away should this one be killed."""
        lines = "".join([f"{one.pid} {one.started_ticks}\n" for one in children]).encode()
        os.pwrite(self._names_fd, lines, 0)
        os.ftruncate(self._names_fd, len(lines))
