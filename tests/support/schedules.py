"""Sessions on one run directory, one storage operation at a time, in an order that a seed decides.

Owns the turns, the weather of the storage and the virtual clocks. What sessions do and what must hold is the test's.

Every session is a thread that runs only while it is its turn, and hands the turn back before each operation on the
storage, and after those that write: it may sleep there while the others do much, or be dead from then on. A
request to an object store that was on its way when its session died may still arrive.
"""

from __future__ import annotations

import functools
import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError
from support.stores import DiedError
from support.world.bucket import Requests
from support.world.world import InPlacePool

from modelops_ray.store import heartbeat as progress
from modelops_ray.store import run_json
from modelops_ray.store import writer as session
from modelops_ray.store.heartbeat import ProcessIdentity
from modelops_ray.store.storage import local as files
from modelops_ray.store.storage import names, objects
from modelops_ray.store.storage.buckets import Bucket
from modelops_ray.store.storage.objects import ObjectFolder

READS = ("stat", "scandir")
WRITES = ("write", "fsync", "link", "replace", "unlink", "mkdir")
COMMIT = re.compile(r"\d{6}\.json")
DECISIVE = ("put", "link", "rename", "replace", "unlink", "delete", "copy")
PATIENCE_S = 60.0
URI = "s3://bucket/runs/run"


class Actor:
    """A session's thread, and what the scheduler knows of it."""

    def __init__(self, world: World, name: str, work: Callable[[Actor], None], skew_s: float) -> None:
        """Prepare it; it runs once it is given its first turn."""
        self.name = name
        self.is_dead = False
        self.is_over = False
        self.error: BaseException | None = None
        self.pending: Callable[[], object] | None = None
        self.asleep_for = 0
        self.is_committing = False
        self._world = world
        self._work = work
        self._skew_s = skew_s
        self._turn = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def clock(self) -> datetime:
        """The time of day as its machine has it."""
        return self._world.now + timedelta(seconds=self._skew_s)

    def go(self) -> None:
        """Let it run to its next operation."""
        if not self._thread.is_alive():
            self._thread.start()
        else:
            self._turn.release()
        assert self._world.back.acquire(timeout=PATIENCE_S), f"{self.name} does not hand back its turn"

    def stop(self, pending: Callable[[], object] | None = None) -> None:
        """Hand back the turn; return when it comes again, or die."""
        if self.is_dead:
            raise DiedError(self.name)
        self.pending = pending
        self._world.back.release()
        self._turn.acquire()
        self.pending = None
        if self.is_dead:
            raise DiedError(self.name)

    def _run(self) -> None:
        self._world.actors[threading.get_ident()] = self
        try:
            self._work(self)
        except DiedError:
            pass
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            self.error = error
        finally:
            self.is_over = True
            self._world.back.release()


class World:
    """Everything that a seed decides."""

    def __init__(self, seed: int) -> None:
        """Begin with an empty place and no session."""
        self.dice = random.Random(seed)
        self.now = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
        self.back = threading.Semaphore(0)
        self.actors: dict[int, Actor] = {}
        self.requests = Requests(self.dice, self.request, lambda: 0.0, lambda *_: None)
        self.requests.kinds = ("refused", "unanswered", "repeated", "conflict")
        self.memory = self.requests.memory
        self.late: list[Callable[[], object]] = []
        self.weather = 0.0
        self.sleepiness = self.dice.choice([0, 0.05, 0.2])
        self.story: list[str] = []

    def me(self) -> Actor | None:
        """The session that is at it, None for the test itself."""
        return self.actors.get(threading.get_ident())

    def step(self, what: str, pending: Callable[[], object] | None = None) -> None:
        """An operation is about to happen, or has just happened."""
        actor = self.me()
        if actor is not None:
            self.story.append(f"{actor.name}: {what}")
            actor.is_committing = what.startswith(("put", "link")) and COMMIT.search(what) is not None
            often = 3.0 if actor.is_committing else 1.0 if what.startswith(DECISIVE) else 0.05
            if self.dice.random() < self.sleepiness * often:
                actor.asleep_for = self.dice.randint(20, 400)
            actor.stop(pending)

    def request(self, what: str, pending: Callable[[], object] | None) -> None:
        """A request is about to be sent, or was answered; those of the test itself meet no fault."""
        self.step(what, pending)
        self.requests.weather = 0.0 if self.me() is None else self.weather

    def run(self, actors: list[Actor], each_step: Callable[[], None]) -> None:
        """Give turns until all sessions are over."""
        favourite = self.dice.choice(actors)
        while living := [actor for actor in actors if not actor.is_over]:
            awake = [actor for actor in living if actor.asleep_for <= 0] or living
            if favourite not in awake or self.dice.random() < 0.1:
                favourite = self.dice.choice(awake)
            for actor in living:
                actor.asleep_for -= 1
            self.now += timedelta(seconds=self.dice.choice([0.01, 0.01, 0.1, 1, 20]))
            each_step()
            if not favourite.is_over:
                favourite.go()
        while self.late:
            self.arrive()

    def kill(self, actor: Actor) -> None:
        """End a session where it is; what it had sent may still arrive."""
        if actor.pending is not None and self.dice.random() < 0.5:
            self.late.append(actor.pending)
        actor.is_dead = True
        self.story.append(f"{actor.name}: killed")
        while not actor.is_over:
            actor.go()

    def arrive(self) -> None:
        """Let a request arrive whose session is dead."""
        self.story.append("a late request arrives")
        with suppress(AlreadyExistsError, PreconditionError, FileNotFoundError):
            self.late.pop(self.dice.randrange(len(self.late)))()


class _Os:
    """`os`, with a turn handed back before each call that touches the storage."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name == "open":
            return functools.partial(self._open, real)
        if name in READS or name in WRITES:
            return functools.partial(self._touch, name, real)
        return real

    def _open(self, real: Callable[..., int], path: str, flags: int, *args: Any, **at: Any) -> int:
        self._world.step(f"open {path}")
        return real(path, flags, *args, **at)

    def _touch(self, name: str, real: Callable[..., Any], *args: Any, **at: Any) -> Any:
        if name == "fsync":
            return None  # nothing here loses power, and a disk takes its time
        self._world.step(f"{name} {args[0] if isinstance(args[0], str) else ''}")
        return real(*args, **at)


@contextmanager
def scheduled(world: World) -> Iterator[None]:
    """Let all storage be that of this world."""

    def sleep(seconds: float) -> None:
        world.now += timedelta(seconds=seconds)
        world.step(f"waits {seconds} s")

    def this() -> ProcessIdentity:
        actor = world.me()
        name = "test" if actor is None else actor.name
        return ProcessIdentity(name, 1, f"boot of {name}", 1)

    def bytes_of(n: int) -> str:
        return world.dice.randbytes(n).hex()

    shim = SimpleNamespace(sleep=sleep)
    with pytest.MonkeyPatch.context() as patch:
        for module in (files, names):
            patch.setattr(module, "os", _Os(world))
        patch.setattr(objects, "obstore", world.requests)
        patch.setattr(objects, "ThreadPoolExecutor", InPlacePool)
        patch.setattr(objects, "time", shim)
        patch.setattr(session, "time", shim)
        patch.setattr(session, "ProcessIdentity", SimpleNamespace(this=this))
        patch.setattr(progress, "ProcessIdentity", SimpleNamespace(this=this))
        patch.setattr(files, "_renamed", functools.partial(_renamed, world, files._renamed))
        for module in (files, objects, run_json, session):
            patch.setattr(module, "secrets", SimpleNamespace(token_hex=bytes_of))
        patch.setattr(ObjectFolder, "at", classmethod(lambda cls, uri: _in_memory(world, uri)))
        yield


def _renamed(world: World, real: Callable[..., Any], *args: Any) -> Any:
    world.step(f"rename {args[0]}")
    return real(*args)


def _in_memory(world: World, uri: str) -> ObjectFolder:
    folder = ObjectFolder(uri, Bucket("s3", "bucket"), uri.removeprefix("s3://bucket/"), world.memory)
    folder._found_out.is_there = True
    return folder
