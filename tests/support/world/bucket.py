"""An object store that is slow and loses requests and answers: `obstore` as the program sees it, over one in memory.

Owns the faults of requests. A request may be refused, take effect without an answer, take effect twice because the
client library repeats it, take effect long after it was given up or after its process has died, or meet another
conditional write. A listing may be one of some seconds ago.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError
from obstore.store import MemoryStore

REFUSALS = ("refused", "throttled", "unanswered", "repeated", "delayed")


class Requests:
    """Stands in the place of the module `obstore`.

    Attributes:
        memory: What the store holds.
        weather: The share of changes that meet a fault.
        kinds: Which faults there are.
        late: Requests whose process has died; they arrive when they are called.
        met: How often each fault happened.
    """

    def __init__(
        self,
        dice: random.Random,
        step: Callable[[str, Callable[[], object] | None], None],
        clock: Callable[[], float],
        at: Callable[[float, Callable[[], None]], None],
    ) -> None:
        """Begin with an empty store; `step` is told before each request, with its effect where it changes something."""
        self.memory = MemoryStore()
        self.weather = 0.0
        self.kinds: tuple[str, ...] = ()
        self.late: list[Callable[[], object]] = []
        self.met: Counter[str] = Counter()
        self._dice, self._step, self._clock, self._at = dice, step, clock, at
        self._written_s: dict[str, float] = {}

    def get(self, _client: object, key: str) -> Any:
        """Ask for an object."""
        return self._ask("get", key)

    def head(self, _client: object, key: str) -> Any:
        """Ask for what is known of an object."""
        return self._ask("head", key)

    def list(self, _client: object, prefix: str, **options: Any) -> Any:
        """Ask for all objects below a prefix."""
        return self._ask("list", prefix, **options)

    def list_with_delimiter(self, _client: object, prefix: str) -> Any:
        """Ask for what is right below a prefix."""
        return self._ask("list_with_delimiter", prefix)

    def copy(self, _client: object, key: str, to: str) -> None:
        """Copy an object."""
        self._change("copy", key, to)

    def delete(self, _client: object, key: str) -> None:
        """Remove an object."""
        self._change("delete", key)

    def put(self, _client: object, key: str, data: bytes, *, mode: Any = None, use_multipart: bool) -> Any:
        """Write an object."""
        assert not use_multipart
        return self._change("put", key, bytes(data), **({} if mode is None else {"mode": mode}))

    def arrive(self) -> None:
        """Let one request arrive whose process has died."""
        self.met["late_request"] += 1
        _arrive(self.late.pop(self._dice.randrange(len(self.late))))

    @contextmanager
    def in_good_weather(self) -> Iterator[None]:
        """No request meets a fault meanwhile."""
        weather, self.weather = self.weather, 0.0
        yield
        self.weather = weather

    def _ask(self, name: str, *args: Any, **options: Any) -> Any:
        self._step(f"{name} {args[0]}", None)
        if "refused_read" in self.kinds and self._dice.random() < self.weather / 4:
            self.met["refused_read"] += 1
            raise GenericError("Server returned error response, status code: 503 <Code>SlowDown</Code>")
        found = getattr(obstore, name)(self.memory, *args, **options)
        found = list(found) if name == "list" else found
        if name == "list_with_delimiter" and "old_listing" in self.kinds and self._dice.random() < 4 * self.weather:
            return self._as_it_was(found)
        return found

    def _as_it_was(self, found: Any) -> Any:
        """Leave out of a listing what was written in the last seconds."""
        since_s = self._clock() - self._dice.choice([1.0, 5.0, 30.0])
        old = [each for each in found["objects"] if self._written_s.get(each["path"], 0.0) <= since_s]
        self.met["old_listing"] += len(old) < len(found["objects"])
        return {**found, "objects": old}

    def _change(self, name: str, *args: Any, **options: Any) -> Any:
        effect = functools.partial(getattr(obstore, name), self.memory, *args, **options)
        self._step(f"{name} {args[0]} {options.get('mode', '')}", effect)
        fault = self._fault(is_conditional=name == "put" and "mode" in options)
        self.met[fault] += bool(fault)
        if fault == "conflict":
            raise AlreadyExistsError("status code: 409 <Code>ConditionalRequestConflict</Code>")
        if fault == "refused":
            raise GenericError("Server returned error response, status code: 503 <Code>SlowDown</Code>")
        if fault == "throttled":
            raise GenericError("Server returned error response, status code: 429 Too Many Requests")
        if fault == "delayed":
            self._at(self._clock() + self._dice.choice([0.1, 5.0, 50.0]), lambda: _arrive(effect))
            raise GenericError("HTTP error: operation timed out")
        answer = effect()
        if name != "delete":
            self._written_s[str(args[-1] if name == "copy" else args[0])] = self._clock()
        self._step(f"{name} {args[0]} is done", None)
        if fault == "repeated":
            answer = effect()
        if fault == "unanswered":
            raise GenericError("HTTP error: no answer")
        return answer

    def _fault(self, *, is_conditional: bool) -> str:
        # What is written under a condition decides: faults are sought there.
        if self._dice.random() >= self.weather * (4 if is_conditional else 1):
            return ""
        kinds = [kind for kind in self.kinds if kind in REFUSALS or (kind == "conflict" and is_conditional)]
        return self._dice.choice(kinds) if kinds else ""


def _arrive(effect: Callable[[], object]) -> None:
    """Let a request take effect that has not been waited for."""
    with suppress(AlreadyExistsError, PreconditionError, FileNotFoundError):
        effect()
