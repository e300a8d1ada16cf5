"""Object stores that run on this machine: moto's server for S3, Azurite for Azure Blob; each a process of its own.

Owns starting and ending them, and the environment in which a client finds them. Buckets are new for every test.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pyarrow.fs as pafs

STARTING_S = 60.0
# Public: the account that every Azurite has.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
# One request at a time: moto looks whether an object is there and then writes it, with nothing that keeps others out.
MOTO = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

application = DomainDispatcherApplication(create_backend_app)
make_server("127.0.0.1", int(sys.argv[1]), application, threaded=False).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class ObjectServer:
    """A server that answers; `environ` is what a client needs to find it and to be let in."""

    scheme: str
    port: int
    environ: Mapping[str, str]
    process: subprocess.Popen[bytes]

    def environ_through(self, meddler: Meddler) -> dict[str, str]:
        """The same for a client that is to go through a proxy."""
        own = f"http://127.0.0.1:{self.port}"
        return {name: value.replace(own, meddler.url) for name, value in self.environ.items()}

    def new_bucket(self) -> str:
        """Make an empty bucket and return its URI."""
        name = f"runs-{uuid.uuid4().hex[:12]}"
        self.file_system().create_dir(name)
        return f"{self.scheme}://{name}"

    def file_system(self) -> pafs.FileSystem:
        """The same as another library sees it."""
        if self.scheme == "s3":
            return pafs.S3FileSystem(
                access_key=self.environ["AWS_ACCESS_KEY_ID"],
                secret_key=self.environ["AWS_SECRET_ACCESS_KEY"],
                endpoint_override=f"127.0.0.1:{self.port}",
                scheme="http",
                region=self.environ["AWS_REGION"],
                allow_bucket_creation=True,
            )
        authority = f"127.0.0.1:{self.port}"
        return pafs.AzureFileSystem(
            account_name=AZURE_ACCOUNT,
            account_key=AZURE_KEY,
            blob_storage_authority=authority,
            dfs_storage_authority=authority,
            blob_storage_scheme="http",
            dfs_storage_scheme="http",
        )


@contextmanager
def s3_server() -> Iterator[ObjectServer]:
    """Run moto's server."""
    port = _free_port()
    environ = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    with _process([sys.executable, "-c", MOTO, str(port)], port) as process:
        yield ObjectServer("s3", port, environ, process)


@contextmanager
def azure_server() -> Iterator[ObjectServer]:
    """Run Azurite."""
    port = _free_port()
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT};"
    )
    azurite = azurite_command()
    assert azurite is not None, why_no_azurite()
    command = [azurite, "--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry",
               "--blobHost", "127.0.0.1", "--blobPort", str(port)]  # fmt: skip
    with _process(command, port) as process:
        yield ObjectServer("az", port, {"AZURE_STORAGE_CONNECTION_STRING": connection}, process)


def azurite_command() -> str | None:
    """Where Azurite is, None if it is not installed."""
    return shutil.which("azurite-blob", path=os.pathsep.join([str(_modules() / ".bin"), os.environ.get("PATH", "")]))


def why_no_azurite() -> str:
    """What to do about it."""
    return f"Azurite is not installed; npm install --prefix {_modules().parent} azurite@3"


def _modules() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "modelops-ray-tests" / "node_modules"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _process(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_answers(process, port)
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + STARTING_S
    while not _answers(port):
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        assert time.monotonic() < deadline_s, f"{process.args!r} does not answer"
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


_REFUSALS = {
    "refuse": (403, "AccessDenied"),
    "conflict": (409, "ConditionalRequestConflict"),
    "throttle": (429, "TooManyRequests"),
    "break": (500, "InternalError"),
    "slow down": (503, "SlowDown"),
}


class Meddler:
    """A proxy in front of an object store that spoils the requests it is told to; the others go through untouched.

    Attributes:
        spoil: Is asked for every request, by method, path and headers: "pass" lets it through, "ignore condition"
            takes the condition away, "lose answer" lets it through and hangs up, "refuse" answers 403, "break" 500,
            "conflict" 409, "throttle" 429 and "slow down" 503 as S3 does,
            "cut" lets half of it through and then nothing until the client is gone.
        has_cut: Set once a request was cut.
        seen: Method and path of all requests so far.
    """

    def __init__(self, port: int) -> None:
        """Stand in front of the server on this port."""
        self.spoil: Callable[[str, str, Mapping[str, str]], str] = lambda *_: "pass"
        self.has_cut = threading.Event()
        self.seen: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Meddling, self, port))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Meddling(BaseHTTPRequestHandler):
    def __init__(self, meddler: Meddler, port: int, *args: Any) -> None:
        self._meddler = meddler
        self._port = port
        super().__init__(*args)

    def _handle(self) -> None:
        how = self._meddler.spoil(self.command, self.path, self.headers)
        self._meddler.seen.append((self.command, self.path))
        if how == "cut":
            self._cut()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if how in _REFUSALS:
            status, code = _REFUSALS[how]
            self._answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
            return
        headers = {key: value for key, value in self.headers.items() if key.lower() != "if-none-match" or how == "pass"}
        if how == "lose answer":
            headers = dict(self.headers.items())
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request(self.command, self.path, body, headers)
        with connection.getresponse() as response:
            answer = response.read()
        connection.close()
        if how != "lose answer":
            self._answer(response.status, dict(response.getheaders()), answer)

    def _cut(self) -> None:
        half = self.rfile.read(int(self.headers["Content-Length"]) // 2)
        lines = [f"{self.command} {self.path} HTTP/1.1", *(f"{key}: {value}" for key, value in self.headers.items())]
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            server.sendall("\r\n".join([*lines, "", ""]).encode() + half)
            self._meddler.has_cut.set()
            with suppress(ConnectionError):
                self.rfile.read()
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 (http.server's names)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"connection", "transfer-encoding"}:
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
