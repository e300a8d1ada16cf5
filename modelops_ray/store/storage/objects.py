"""A run directory in an object store: one file is one object, and appears by one request or not at all.

Owns how the promises of `base.Folder` are kept there. The file that decides who writes is made by a conditional PUT
(`If-None-Match: *`), the only thing in an object store that exactly one of several writers is granted. `pyarrow.fs` has
none, so requests go through obstore. A late request always takes effect, because a key is never closed:
what it made is told by its content, and a file is exchanged only for one that is still the same (`If-Match`).
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from modelops_ray.errors import StorageError
from modelops_ray.store.storage.base import Folder, Sink, UncertainError, Written
from modelops_ray.store.storage.buckets import Bucket, Client, bucket_of, connect
from modelops_ray.store.storage.refusals import explain, is_final

AT_ONCE = 8
"""Requests at the same time: one after another, each would take a round trip."""

PATIENT_RETRIES, PATIENT_S = 10, 180.0
"""A run outlives an object store that does not answer for a minute; the start of a run fails at once."""

_QUICK_RETRIES, _QUICK_S = 2, 10.0
_PROBE = ".probe-"
_PROBES = 3
CONFLICT_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0, 5.0)
"""Pauses before a creation is repeated that was answered by a conflict with another one."""


@dataclass(slots=True)
class _FoundOut:
    """What has been found out about a bucket, once per folder: that it is there, and which conditions it knows."""

    is_there: bool = False
    conditions: set[Callable[[Client, str], bool]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ObjectFolder(Folder):
    """All objects below a prefix; `base.Folder` says what its methods promise."""

    uri: str
    _bucket: Bucket
    _prefix: str
    _client: Client
    _found_out: _FoundOut = field(default_factory=_FoundOut)

    @classmethod
    def at(cls, uri: str) -> ObjectFolder:
        """Open the folder of a checked URI with what the environment says; no request is made yet.

        StorageError if what the environment says makes no sense.
        """
        bucket, prefix = bucket_of(uri, os.environ)
        try:
            client = connect(bucket, retries=PATIENT_RETRIES, retry_s=PATIENT_S)
        except BaseError as error:
            raise StorageError(f"{uri}: {explain(str(error), bucket.kind, bucket.name)}") from error
        return cls(uri, bucket, prefix, client)

    def where(self, name: str = "") -> str:
        """Its URI, or that of something in it."""
        return f"{self.uri}/{name}".rstrip("/")

    def inside(self, name: str) -> ObjectFolder:
        """Open a prefix below this one."""
        return replace(self, uri=self.where(name), _prefix=self._key(name))

    def hold(self, *, make: bool = False) -> ObjectFolder:  # noqa: ARG002 (for directories)
        """Return it as it is: nothing can be held there, and nothing need be made."""
        return self

    def is_in_place(self) -> bool:
        """A key leads to itself."""
        return True

    @property
    def renames(self) -> bool:
        """Nothing is renamed there."""
        return False

    def move_aside(self, ending: str, heads: Mapping[str, Hashable], stub: Callable[[], bytes]) -> ObjectFolder:
        """Copy every object, heads last, then exchange the heads: until then what is there stays as it was.

        Nothing is deleted: a request to delete that is late would hit what has the key by then.
        """
        contents = {name: self.read(name) for name in heads}
        with self._reporting(""):
            keys = [meta["path"] for batch in obstore.list(self._client, f"{self._prefix}/") for meta in batch]
        names = {key.removeprefix(f"{self._prefix}/") for key in keys} - heads.keys()
        to = self._free_aside(ending, contents)
        with self._reporting(""), ThreadPoolExecutor(AT_ONCE) as pool:
            deque(pool.map(lambda name: self._copy(name, to), sorted(names)), maxlen=0)
        # Only a session that has exchanged a head removes what belongs to it: until then every copy is whole.
        self._require_alone(is_alone=all(self.mark(name) == mark for name, mark in heads.items()))
        for name, data in contents.items():
            to.replace(name, data or b"")
        self._require_alone(is_alone=all(self.exchange(name, mark, stub()) for name, mark in heads.items()))
        return to

    def read_marked(self, name: str) -> tuple[bytes, Hashable] | None:
        """Return the content of an object and its mark, None if there is no such object."""
        self._require_bucket()
        with self._reporting(name):
            return _get(self._client, self._key(name))

    def mark(self, name: str) -> Hashable | None:
        """Tell an object from any other that later has its key; None if there is no such object."""
        found = self._head(name)
        return None if found is None else _mark(found)

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Read many objects, several at once, in order."""
        ahead: deque[Future[bytes | None]] = deque()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for name in names:
                ahead.append(pool.submit(self.read, name))
                if len(ahead) >= AT_ONCE:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes, None if there is no such object."""
        found = self._head(name)
        return None if found is None else found["size"]

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes in bytes of all objects right below a prefix."""
        return {self._last(meta["path"]): meta["size"] for meta in self._list(folder)["objects"]}

    def names(self, folder: str = "") -> list[str]:
        """List the objects and prefixes right below a prefix, in order."""
        found = self._list(folder)
        paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return [name for name in sorted(map(self._last, paths)) if not name.startswith(_PROBE)]

    def leftovers(self, folder: str = "") -> list[str]:
        """List probes that were not removed; an upload that was cut off is no object."""
        return [name for name in self.sizes(folder) if name.startswith(_PROBE)]

    def replace(self, name: str, data: bytes) -> None:
        """Write a whole object over what was there."""
        with self._reporting(name):
            obstore.put(self._client, self._key(name), data, use_multipart=False)

    def write(self, name: str, fill: Callable[[Sink], object]) -> Written:
        """Let `fill` write a whole object, then put it in place by one request."""
        held = bytearray()
        sink = Sink(held.extend)
        fill(sink)
        sink.flush()
        with self._reporting(name):
            obstore.put(self._client, self._key(name), held, use_multipart=False)
        return sink.written()

    def create(self, name: str, data: bytes) -> bool:
        """Write a whole object unless its name is taken."""
        self._require_condition(_is_created_once)
        with self._reporting(name, changes=True):
            return _put_if(self._client, self._key(name), None, data)

    def exchange(self, name: str, mark: Hashable, data: bytes) -> bool:
        """Write a whole object in place of the one that has this mark."""
        self._require_condition(_is_exchanged_once)
        with self._reporting(name, changes=True):
            return _put_if(self._client, self._key(name), mark, data)

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is fine."""
        with self._reporting(name), suppress(FileNotFoundError):
            obstore.delete(self._client, self._key(name))

    def _require_condition(self, holds: Callable[[Client, str], bool]) -> None:
        """Make sure that the store knows a condition: some servers that speak S3 do not, and let every writer in.

        It is tried several times: a session that starts at the same moment removes what it takes for a leftover.
        """
        if holds in self._found_out.conditions:
            return
        self._require_bucket()
        for _ in range(_PROBES):
            probe = f"{_PROBE}{secrets.token_hex(4)}"
            with self._reporting(probe):
                is_known = holds(self._client, self._key(probe))
            self.remove(probe)
            if is_known:
                self._found_out.conditions.add(holds)
                return
        raise StorageError(
            f"{self.uri}: this object store overwrites what it was told not to, so that two sessions could write "
            "one run; use one with conditional writes (If-None-Match, If-Match), or a file system"
        )

    def _require_bucket(self) -> None:
        """Tell a missing bucket from a missing object, which only a listing does; asked first, with few retries."""
        if self._found_out.is_there:
            return
        client = connect(self._bucket, retries=_QUICK_RETRIES, retry_s=_QUICK_S)
        with self._reporting(""):
            for _ in obstore.list(client, f"{self._prefix}/", chunk_size=1):
                break
        self._found_out.is_there = True

    @contextmanager
    def _reporting(self, name: str, *, changes: bool = False) -> Iterator[None]:
        """Turn what a request raises into a StorageError; UncertainError where a change may have happened."""
        try:
            yield
        except (BaseError, OSError) as error:
            answer = str(error)
            kind = UncertainError if changes and not is_final(answer) else StorageError
            raise kind(f"{self.where(name)}: {explain(answer, self._bucket.kind, self._bucket.name)}") from error

    def _head(self, name: str) -> obstore.ObjectMeta | None:
        self._require_bucket()
        with self._reporting(name):
            try:
                return obstore.head(self._client, self._key(name))
            except FileNotFoundError:
                return None

    def _list(self, folder: str) -> obstore.ListResult[Sequence[obstore.ObjectMeta]]:
        self._require_bucket()
        with self._reporting(folder):
            return obstore.list_with_delimiter(self._client, self._key(folder))

    def _require_alone(self, *, is_alone: bool) -> None:
        if not is_alone:
            raise StorageError(f"{self.uri}: another session started over at the same moment; start again")

    def _free_aside(self, ending: str, contents: Mapping[str, bytes | None]) -> ObjectFolder:
        """A prefix with nothing in it, or the same run: another session may be moving it too, and copies the same."""
        for number in itertools.count(1):
            aside = f"{ending}-{number}" if number > 1 else ending
            to = replace(self, uri=f"{self.uri}{aside}", _prefix=f"{self._prefix}{aside}")
            if not to.names() or (contents and all(to.read(name) == data for name, data in contents.items())):
                return to
        raise AssertionError("unreachable")

    def _copy(self, name: str, to: ObjectFolder) -> None:
        with suppress(FileNotFoundError):  # the session that writes this run has just removed it
            obstore.copy(self._client, self._key(name), to._key(name))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".rstrip("/")

    @staticmethod
    def _last(path: str) -> str:
        return path.rstrip("/").rpartition("/")[2]


def _get(client: Client, key: str) -> tuple[bytes, Hashable] | None:
    try:
        found = obstore.get(client, key)
        return found.bytes().to_bytes(), _mark(found.meta)
    except FileNotFoundError:
        return None


def _put_if(client: Client, key: str, mark: Hashable | None, data: bytes) -> bool:
    """Write an object if it has this mark, or is not there where the mark is None; False if another was faster.

    A request whose answer was lost is repeated, and finds its own object. S3 answers "conflict" where another write is
    under way; that one may fail, and then the object is still as it was.
    """
    mode: Any = "create" if mark is None else dict(mark)  # type: ignore[call-overload]
    refusals = (AlreadyExistsError,) if mark is None else (AlreadyExistsError, PreconditionError, FileNotFoundError)
    for pause_s in (*CONFLICT_PAUSES_S, None):
        try:
            obstore.put(client, key, data, mode=mode, use_multipart=False)
        except refusals:
            found = _get(client, key)
            if mark != (None if found is None else found[1]):
                return found is not None and found[0] == data
            if pause_s is None:
                raise
            time.sleep(pause_s)
        else:
            return True
    raise AssertionError("unreachable")


def _is_created_once(client: Client, key: str) -> bool:
    return _put_if(client, key, None, b"first") and not _put_if(client, key, None, b"second")


def _is_exchanged_once(client: Client, key: str) -> bool:
    first = obstore.put(client, key, b"first", use_multipart=False)
    obstore.put(client, key, b"second", use_multipart=False)
    return not _put_if(client, key, _mark(first), b"third")


def _mark(found: Mapping[str, Any]) -> Hashable:
    """The ETag and the version that a conditional request names; a store has one of them, or both."""
    return tuple((key, found[key]) for key in ("e_tag", "version") if found.get(key) is not None)
