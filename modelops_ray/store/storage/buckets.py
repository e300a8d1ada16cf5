"""From a URI and the environment to a client of its bucket.

Owns which variables count and how patient requests are. The client library reads the others of its own: see its
`AWS_*`, `AZURE_*` and `GOOGLE_*` settings. What is kept in a bucket is `objects`' business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import AzureStore, GCSStore, S3Store

from modelops_ray.errors import UsageError

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, RetryConfig, S3Config

Client = S3Store | GCSStore | AzureStore

REQUEST_S = 300
"""A part of 64 MiB passes through a line of 2 Mbit/s in that time."""

_URL = re.compile(r"https?://[\w.\-]+(:\d+)?(/\S*)?|https?://\[[0-9a-fA-F:.]+\](:\d+)?(/\S*)?")
_KINDS = {"s3": "s3", "gs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
_OF_CONNECTION = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}
_OF_AZURE_CLI = {"AZURE_STORAGE_ACCOUNT": "account_name", "AZURE_STORAGE_KEY": "account_key"}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where a bucket or container is; `settings` are what the client library does not find by itself."""

    kind: str
    name: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_plain_http(self) -> bool:
        """Whether it is reached without encryption, as servers on one's own machine are."""
        return self.settings.get("endpoint", "").startswith("http://")


def bucket_of(uri: str, environ: Mapping[str, str]) -> tuple[Bucket, str]:
    """Split a checked URI into its bucket and the folder in it.

    UsageError if the environment names an endpoint that is no URL.
    """
    scheme, _, rest = uri.partition("://")
    authority, _, folder = rest.partition("/")
    kind = _KINDS[scheme]
    name, _, host = authority.partition("@")
    settings = {"s3": _s3_settings, "gs": lambda _: {}, "az": _azure_settings}[kind](environ)
    if host:
        settings["account_name"] = host.partition(".")[0]
    if "endpoint" in settings and not _URL.fullmatch(settings["endpoint"]):
        raise UsageError(
            f"{uri}: the endpoint that the environment names is {settings['endpoint']!r}, which is no URL; "
            "write it as https://HOST or http://HOST:PORT"
        )
    return Bucket(kind, name, settings), folder


def _s3_settings(environ: Mapping[str, str]) -> dict[str, str]:
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or environ.get("AWS_ENDPOINT")
    return {"endpoint": endpoint} if endpoint else {}


def _azure_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What the tools of Azure read and the client library does not."""
    settings = {ours: environ[theirs] for theirs, ours in _OF_AZURE_CLI.items() if theirs in environ}
    if "AZURE_STORAGE_ENDPOINT" in environ:
        settings["endpoint"] = environ["AZURE_STORAGE_ENDPOINT"]
    pairs = (pair.partition("=") for pair in environ.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";"))
    settings |= {_OF_CONNECTION[name]: value for name, _, value in pairs if name in _OF_CONNECTION and value}
    if "endpoint" in settings:
        settings["endpoint"] = settings["endpoint"].rstrip("/")
    return settings


def connect(bucket: Bucket, *, retries: int, retry_s: float) -> Client:
    """Make a client that repeats a request at most `retries` times, and not after `retry_s`; it makes none yet."""
    client: ClientConfig = {"allow_http": bucket.is_plain_http, "timeout": timedelta(seconds=REQUEST_S)}
    retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=retry_s)}
    if bucket.kind == "s3":
        s3: S3Config = {**bucket.settings}  # type: ignore[typeddict-item]
        return S3Store(bucket.name, config=s3, client_options=client, retry_config=retry)
    if bucket.kind == "gs":
        return GCSStore(bucket.name, client_options=client, retry_config=retry)
    azure: AzureConfig = {**bucket.settings}  # type: ignore[typeddict-item]
    return AzureStore(bucket.name, config=azure, client_options=client, retry_config=retry)
