"""A run directory in an object store: one file is one object, and appears by one request or not at all.

Owns how the promises of `folder.Folder` are kept there. The file that decides who writes is made by a conditional PUT
(`If-None-Match: *`), the only thing in an object store that exactly one of several writers is granted. `pyarrow.fs` has
none, so requests go through obstore.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from modelops_ray.errors import StorageError
from modelops_ray.store.buckets import Bucket, Client, bucket_of, connect
from modelops_ray.store.folder import Sink, UncertainError, Written
from modelops_ray.store.refusals import explain, is_final

AT_ONCE = 8
"""Requests that wait for each other's answers would take a round trip each."""

PATIENT_RETRIES, PATIENT_S = 10, 180.0
"""A run outlives an object store that is away for a minute; whoever starts one is told at once."""

_QUICK_RETRIES, _QUICK_S = 2, 10.0
_PROBE = ".probe-"
_FIRST_COMMIT = "_commits/000001.json"


@dataclass(slots=True)
class _Proofs:
    """What has been found out about a bucket, once per folder."""

    is_there: bool = False
    refuses_to_overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ObjectFolder:
    """All objects below a prefix; `folder.Folder` says what its methods promise."""

    uri: str
    _bucket: Bucket
    _prefix: str
    _client: Client
    _proofs: _Proofs = field(default_factory=_Proofs)

    @classmethod
    def at(cls, uri: str) -> ObjectFolder:
        """Open the folder of a checked URI with what the environment says; no request is made yet.

        Raises:
            StorageError: What the environment says makes no sense.
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

    def identity(self) -> str | None:
        """The mark of the first commit, which is made once and never changes; None before there is one."""
        found = self._head(_FIRST_COMMIT)
        return None if found is None else f"{found['e_tag']} {found['last_modified']}"

    def move_aside(self, ending: str) -> None:
        """Copy every object, then remove them, `run.json` last: what is there stays a run that can be moved again."""
        with self._reporting(""):
            keys = [meta["path"] for batch in obstore.list(self._client, f"{self._prefix}/") for meta in batch]
            batches = [[key for key in keys if key.endswith("/run.json") == is_last] for is_last in (False, True)]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for batch in batches:
                    deque(pool.map(lambda key: self._copy(key, ending), batch), maxlen=0)
            for batch in filter(None, batches):
                obstore.delete(self._client, batch)

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, None if there is no such object."""
        self._require_bucket()
        with self._reporting(name):
            try:
                return obstore.get(self._client, self._key(name)).bytes().to_bytes()
            except FileNotFoundError:
                return None

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

    def write(self, name: str, fill: Callable[[Sink], None]) -> Written:
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
        self._require_refusal_to_overwrite()
        with self._reporting(name, changes=True):
            return self._put_new(name, data)

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is fine."""
        with self._reporting(name), suppress(FileNotFoundError):
            obstore.delete(self._client, self._key(name))

    def _put_new(self, name: str, data: bytes) -> bool:
        try:
            obstore.put(self._client, self._key(name), data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            # A request whose answer was lost is repeated, and finds its own object.
            return obstore.get(self._client, self._key(name)).bytes().to_bytes() == data
        return True

    def _require_refusal_to_overwrite(self) -> None:
        """Some servers that speak S3 do not know the condition, and let every writer in."""
        if self._proofs.refuses_to_overwrite:
            return
        self._require_bucket()
        probe = f"{_PROBE}{secrets.token_hex(4)}"
        with self._reporting(probe):
            refused = self._put_new(probe, b"first") and not self._put_new(probe, b"second")
        self.remove(probe)
        if not refused:
            raise StorageError(
                f"{self.uri}: this object store overwrites what it was told not to, so that two sessions could write "
                "one run; use one with conditional writes (If-None-Match), or a file system"
            )
        self._proofs.refuses_to_overwrite = True

    def _require_bucket(self) -> None:
        """Only a listing tells an object that is missing from a bucket that is; asked first, with little patience."""
        if self._proofs.is_there:
            return
        client = connect(self._bucket, retries=_QUICK_RETRIES, retry_s=_QUICK_S)
        with self._reporting(""):
            for _ in obstore.list(client, f"{self._prefix}/", chunk_size=1):
                break
        self._proofs.is_there = True

    @contextmanager
    def _reporting(self, name: str, *, changes: bool = False) -> Iterator[None]:
        """Turn an answer that is none into a StorageError; UncertainError where a change may have happened."""
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

    def _copy(self, key: str, ending: str) -> None:
        obstore.copy(self._client, key, f"{self._prefix}{ending}{key.removeprefix(self._prefix)}")

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".rstrip("/")

    @staticmethod
    def _last(path: str) -> str:
        return path.rstrip("/").rpartition("/")[2]
