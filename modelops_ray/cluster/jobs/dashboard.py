"""The jobs of a Ray cluster, through the HTTP API of its dashboard: submit, look, follow, stop.

Owns the connection and its errors. What a job is made of is `package`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from modelops_ray.cluster.jobs.package import METADATA, exit_code, is_over
from modelops_ray.errors import BackendError, UsageError, last_line
from modelops_ray.version import __version__

CONNECT_TIMEOUT_S = 5.0
LOOK_TIMEOUT_S = 120.0
POLL_S = 0.5
QUIET_S = 5.0
LOST_S = 60.0
"""How long a dashboard may be away while a job is waited for: port forwards and heads restart."""

_FOUND = "modelops-ray found "
_LOOK = (
    "import importlib.metadata as m, json, platform; "
    'pairs = [(d.metadata["Name"], d.version) for d in m.distributions()]; '
    'found = {"python": platform.python_version(), "versions": {n.lower(): v for n, v in pairs if n}}; '
    f'print("{_FOUND}" + json.dumps(found))'
)
# Ray writes the command into the log, before or after what it prints.
_ECHO = "Running entrypoint for job "
_OF_RAY = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
_CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
_END = ""


class Installed(BaseModel):
    """The Python that jobs run on, and the versions of its distributions by lower-case name."""

    model_config = ConfigDict(frozen=True)

    python: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as the dashboard knows it; times in seconds since 1970; `exit_code` of `run`, None before the end."""

    id: str
    status: str
    study: str
    run_dir: str
    version: str
    started_s: float | None
    ended_s: float | None
    exit_code: int | None
    message: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return is_over(self.status)


class Dashboard:
    """A dashboard of Ray at a URL.

    Every method raises BackendError where no dashboard answers or it wants another token; UsageError for no such job.
    """

    def __init__(self, address: str) -> None:
        """Connect; `address` is http://HOST:PORT."""
        self.address = address
        _require_listener(address)
        with self._speaking(), _unset(_OF_RAY):
            from ray.job_submission import JobSubmissionClient

            for name in _CHATTY:
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = JobSubmissionClient(address, verify=_trusted())

    def look(self) -> Installed:
        """Ask the Python that jobs run on what it has, by a job that takes a second or two."""
        job = f"modelops-ray-look-{secrets.token_hex(4)}"
        with self._speaking():
            self._client.submit_job(entrypoint=f"exec python -c '{_LOOK}'", submission_id=job)
        deadline_s = time.monotonic() + LOOK_TIMEOUT_S
        while not (state := self.state(job)).is_over:
            if time.monotonic() > deadline_s:
                self.stop(job)
                raise BackendError(
                    f"the cluster at {self.address} has not started a job within {LOOK_TIMEOUT_S:g} s; "
                    f"`ray job list --address {self.address}` shows what it says about {job}"
                )
            time.sleep(POLL_S / 5)
        log = self.log(job)
        if state.status != "SUCCEEDED":
            said = _printed_last(log)
            raise BackendError(f"`python` does not work on the head of {self.address}: {said}; use an image of Ray's")
        with self._speaking():
            self._client.delete_job(job)
        return _read_installed(log, self.address)

    def submit(self, job: str, command: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Upload what the runtime environment names and start a job."""
        about = {METADATA: __version__, **metadata}
        with self._speaking():
            self._client.submit_job(
                entrypoint=command, submission_id=job, runtime_env=dict(runtime_env), metadata=about
            )

    def state(self, job: str) -> JobState:
        """The state of a job."""
        with self._speaking(job):
            return _state(self._client.get_job_info(job))

    def states(self) -> list[JobState]:
        """All jobs of this program, the youngest first."""
        with self._speaking():
            jobs = self._client.list_jobs()
        ours = [_state(each) for each in jobs if each.submission_id and METADATA in (each.metadata or {})]
        return sorted(ours, key=lambda each: -(each.started_s or 0))

    def log(self, job: str) -> str:
        """What a job has printed so far."""
        with self._speaking(job):
            return str(self._client.get_job_logs(job))

    def stop(self, job: str) -> bool:
        """Tell a job to end; returns whether it was running."""
        with self._speaking(job):
            return bool(self._client.stop_job(job))

    def wait(self, job: str, timeout_s: float | None = None) -> JobState:
        """Wait until a job has ended, or `timeout_s` has passed, and return its state."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not (state := self._patiently(job)).is_over and (deadline_s is None or time.monotonic() < deadline_s):
            time.sleep(POLL_S)
        return state

    def follow(self, job: str) -> Iterator[str]:
        """Yield what a job prints, from its beginning to its end; a connection that breaks is made anew."""
        shown, is_last = 0, False
        while not is_last:
            is_last = self._patiently(job).is_over
            seen = 0
            for text in [self.log(job)] if is_last else self._stream(job):
                seen += len(text)
                if seen > shown:
                    yield text[len(text) - (seen - shown) :]
                    shown = seen

    def _stream(self, job: str) -> Iterator[str]:
        """Yield from one connection until it ends, or until the job has ended and nothing more comes."""
        # A thread, because a notebook has an event loop of its own, and because the wait must hear Ctrl-C.
        texts: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=lambda: asyncio.run(self._pump(job, texts)), daemon=True).start()
        while True:
            try:
                text = texts.get(timeout=QUIET_S)
            except queue.Empty:
                if self._patiently(job).is_over:
                    return
                continue
            if text == _END:
                time.sleep(POLL_S)
                return
            yield text

    async def _pump(self, job: str, texts: queue.SimpleQueue[str]) -> None:
        from aiohttp import ClientError

        try:
            async for text in self._client.tail_job_logs(job):
                if text:
                    texts.put(text)
        except (ClientError, OSError, RuntimeError):
            pass  # the reader of the queue looks at the job then, and asks again
        finally:
            texts.put(_END)

    def _patiently(self, job: str) -> JobState:
        """The state of a job; a dashboard that does not answer is asked again for up to a minute."""
        deadline_s = time.monotonic() + LOST_S
        while True:
            try:
                return self.state(job)
            except BackendError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(POLL_S)

    @contextmanager
    def _speaking(self, job: str = "") -> Iterator[None]:
        """Turn errors of the connection and of Ray's client into one line."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise BackendError(
                f"the dashboard at {self.address} wants another token; "
                "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
            ) from error
        except OSError as error:
            raise _unanswered(self.address) from error
        except (RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())
            if job and "status code 404" in text:
                raise UsageError(
                    f"there is no job {job} at {self.address}; modelops-ray jobs list names all"
                ) from error
            if "Version check returned 404" in text:
                raise _unanswered(self.address) from error
            raise BackendError(f"the dashboard at {self.address} says: {text[:300]}") from error


def _require_listener(address: str) -> None:
    """See within seconds that a server listens; Ray's client would wait for minutes."""
    url = urlsplit(address)
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise _unanswered(address) from error


def _trusted() -> str:
    """The certificates that Ray's requests trust, also for its web sockets, which do not read REQUESTS_CA_BUNDLE."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    return os.environ.get("REQUESTS_CA_BUNDLE") or str(DEFAULT_CA_BUNDLE_PATH)


def _unanswered(address: str) -> BackendError:
    return BackendError(
        f"no dashboard of Ray answers at {address}; is the head running, and is that its dashboard's port (8265)?"
    )


@contextmanager
def _unset(names: tuple[str, ...]) -> Iterator[None]:
    """Hide variables from Ray, which prefers them to the address it is given."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _state(details: Any) -> JobState:
    about = details.metadata or {}
    status = str(details.status)
    return JobState(
        id=str(details.submission_id),
        status=status,
        study=about.get("study", ""),
        run_dir=about.get("run_dir", ""),
        version=about.get(METADATA, ""),
        started_s=None if details.start_time is None else details.start_time / 1000,
        ended_s=details.end_time / 1000 if details.end_time else None,
        exit_code=exit_code(status, details.driver_exit_code) if is_over(status) else None,
        message=details.message or "",
    )


def _read_installed(log: str, address: str) -> Installed:
    for line in log.splitlines():
        if line.startswith(_FOUND):
            with suppress(ValidationError):
                return Installed.model_validate_json(line.removeprefix(_FOUND))
    raise BackendError(f"the cluster at {address} did not say what it has installed; it said: {_printed_last(log)}")


def _printed_last(log: str) -> str:
    return last_line("\n".join(line for line in log.splitlines() if _ECHO not in line)) or "nothing"
