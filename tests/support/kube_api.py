"""An API server of Kubernetes over real HTTP that plays back recorded lives of pods and RayJobs.

Owns lists with versions, watches that follow them, and the misfortunes a test asks for. Knows no schema.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Object = dict[str, Any]
POLL_S = 0.02


@dataclass
class KubeApi:
    """What there is, what happened, and what goes wrong next; by plural, `metrics` being those of pods.

    `refused` maps a plural to the status that its requests get. `gone` makes the next watch of a plural fail with 410
    after something has happened; `dropping` breaks the connection of each watch of a plural after this many events.
    `asked` keeps requests.
    """

    objects: dict[str, dict[str, Object]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    gone: dict[str, Callable[[], None]] = field(default_factory=dict)
    dropping: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)
    version: int = 100
    _log: list[tuple[int, str, str, Object]] = field(default_factory=list)

    def put(self, plural: str, found: Mapping[str, Any]) -> None:
        """Add or modify an object: a list sees it, and every watch is told."""
        with self.lock:
            known = self.objects.setdefault(plural, {})
            name = found["metadata"]["name"]
            self._happened(plural, "MODIFIED" if name in known else "ADDED", found)
            known[name] = self._log[-1][3]

    def delete(self, plural: str, found: Mapping[str, Any]) -> None:
        """Delete an object in this last state, which may never have been seen before."""
        with self.lock:
            self.objects.setdefault(plural, {}).pop(found["metadata"]["name"], None)
            self._happened(plural, "DELETED", found)

    def forget(self, plural: str, name: str) -> None:
        """Delete an object without telling any watch: what happens while no watch is on."""
        with self.lock:
            self.version += 1
            del self.objects[plural][name]

    def n_watches(self, plural: str) -> int:
        """How often a watch of a plural was asked for."""
        return sum(f"/{plural}?" in one and "watch=true" in one.lower() for one in self.asked)

    def since(self, plural: str, version: int) -> list[tuple[int, str, Object]]:
        """What happened to a plural after a version."""
        with self.lock:
            return [(at, kind, found) for at, kind, of, found in self._log if of == plural and at > version]

    def _happened(self, plural: str, kind: str, found: Mapping[str, Any]) -> None:
        self.version += 1
        copied = json.loads(json.dumps(found))
        copied["metadata"]["resourceVersion"] = str(self.version)
        self._log.append((self.version, kind, plural, copied))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: KubeApi

    def log_message(self, *args: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        """List or watch."""
        url = urlsplit(self.path)
        plural, query = url.path.rsplit("/", 1)[-1], parse_qs(url.query)
        if "metrics.k8s.io" in url.path:
            plural = "metrics"
        with self.api.lock:
            self.api.asked.append(f"{url.path}?{url.query}")
        if status := self.api.refused.get(plural):
            self._answer(status, {"kind": "Status", "code": status, "message": f"{plural} is forbidden to nobody"})
        elif found := self.api.objects.get("rayclusters", {}).get(plural):
            self._answer(200, found)
        elif "/rayclusters/" in url.path:
            self._answer(404, {"kind": "Status", "code": 404, "message": f"rayclusters {plural} not found"})
        elif "watch" in query:
            self._watch(plural, int(query["resourceVersion"][0]), query)
        else:
            with self.api.lock:
                items = [one for one in self.api.objects.get(plural, {}).values() if _is_selected(one, query)]
                self._answer(200, {"items": items, "metadata": {"resourceVersion": str(self.api.version)}})

    def _answer(self, status: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, plural: str, version: int, query: Mapping[str, list[str]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if plural in self.api.gone:
            self.api.gone.pop(plural)()
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            self._chunk({"type": "ERROR", "object": status})
            self.wfile.write(b"0\r\n\r\n")
            return
        with contextlib.suppress(OSError):
            self._play(plural, version, query)

    def _play(self, plural: str, version: int, query: Mapping[str, list[str]]) -> None:
        n_told = 0
        while not self.api.closing.wait(POLL_S):
            for at, kind, found in self.api.since(plural, version):
                version = at
                if not _is_selected(found, query):
                    continue
                self._chunk({"type": kind, "object": found})
                n_told += 1
                if n_told == self.api.dropping.get(plural):
                    # In the middle of a chunked answer, as a proxy that is restarted would.
                    self.close_connection = True
                    return

    def _chunk(self, event: Object) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")


def _is_selected(found: Mapping[str, Any], query: Mapping[str, list[str]]) -> bool:
    metadata = found["metadata"]
    values = {f"metadata.{key}": value for key, value in metadata.items()}
    values |= {f"involvedObject.{key}": value for key, value in found.get("involvedObject", {}).items()}
    fields = (values, query.get("fieldSelector", []))
    labels = (metadata.get("labels", {}), query.get("labelSelector", []))
    for known, selectors in (fields, labels):
        for selector in selectors:
            key, _, wanted = selector.partition("=")
            if known.get(key) != wanted:
                return False
    return True


def secure(server: ThreadingHTTPServer, folder: Path) -> None:
    """Let a server speak TLS, and write its certificate to `ca.crt` of a folder, as Kubernetes does in every pod."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.crt").write_bytes(certificate.public_bytes(pem))
    (folder / "tls.key").write_bytes(key.private_bytes(pem, *plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)


@contextlib.contextmanager
def kube_api(account: Path | None = None) -> Iterator[tuple[KubeApi, str]]:
    """An API server and its URL, for as long as the context lasts; with TLS where a pod's account is to find it."""
    api = KubeApi()
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if account is not None:
        secure(server, account)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield api, f"http{'' if account is None else 's'}://127.0.0.1:{server.server_port}"
    finally:
        api.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(path: Path, url: str, namespace: str = "studies") -> Path:
    """Write a kubeconfig for it."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
                "current-context": "x",
            }
        )
    )
    return path
