"""Finds the Ray to run on: an address, the one of this process, RAY_ADDRESS, or one of our own.

Owns that order and what is refused. Does not start anything itself and knows nothing about chunks.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from modelops_ray.backends.ray.embedded import embedded_addresses, embedded_ray
from modelops_ray.backends.ray.errors import refused
from modelops_ray.backends.ray.quiet import calm_ray, job_config, quiet
from modelops_ray.errors import BackendError, UsageError, first_line

PROBE_TIMEOUT_S = 5.0
UNIDENTIFIED = "InvalidAuthToken"
"""The GCS's word for a missing or wrong token; for other refusals it, and other servers of Ray, have the same code."""

_WORDS = {None, "auto", "local"}
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray this process is connected to.

    `owned` says that it was started here and ends with the context; `start_s` is what starting or joining took.
    """

    address: str
    owned: bool
    start_s: float
    memory_bytes: int = 0


@contextmanager
def connect(
    address: str | None,
    *,
    environ: Mapping[str, str],
    limit_memory_bytes: int | None = None,
    limit_cpus: int | None = None,
) -> Iterator[Cluster]:
    """Join or start a Ray for as long as the context lasts: `address`, this process's, RAY_ADDRESS, or an own one.

    Raises:
        UsageError: The address is one that only `submit` takes, or a limit is given for a Ray that is not ours.
        BackendError: No Ray is there, or it does not start.
    """
    started_s = time.monotonic()
    wanted = _wanted(address, environ)
    _refuse(wanted, "--address" if address else "RAY_ADDRESS")
    if would_start(address, environ):
        with embedded_ray(limit_memory_bytes, limit_cpus) as chosen:
            yield Cluster(_gcs_address(), True, time.monotonic() - started_s, chosen.memory_bytes)
        return
    if limit_memory_bytes is not None or limit_cpus is not None:
        raise UsageError("--limit-memory and --limit-cpus are for an embedded Ray, not for one that runs already")
    with _joined(wanted):
        yield Cluster(_gcs_address(), owned=False, start_s=time.monotonic() - started_s)


def would_start(address: str | None, environ: Mapping[str, str]) -> bool:
    """Whether `connect` would start a Ray of its own."""
    import ray

    return _wanted(address, environ) in {None, "local"} and not ray.is_initialized()


def _wanted(address: str | None, environ: Mapping[str, str]) -> str | None:
    """The address to join or to start a Ray at; None is the Ray of this process, or an own one."""
    import ray

    return address or (None if ray.is_initialized() else environ.get("RAY_ADDRESS") or None)


def _refuse(address: str | None, option: str) -> None:
    """Refuse addresses at which the driver would be far from the cluster, and what is none."""
    scheme, _, rest = (address or "").partition("://")
    if rest and scheme in {"ray", "http", "https"}:
        host = rest.split("/")[0].rsplit(":", 1)[0] or "HOST"
        raise UsageError(
            f"{option} {address} is not of a machine of the cluster; "
            f"use modelops-ray submit STUDY --address http://{host}:8265"
        )
    match = None if address in _WORDS else _HOST_PORT.fullmatch(str(address))
    if address not in _WORDS and (match is None or not 1 <= int(match[1]) <= _LAST_PORT):
        raise UsageError(f"{option} {address} is neither auto nor HOST:PORT, as in 10.0.0.5:6379")


@contextmanager
def _joined(address: str | None) -> Iterator[None]:
    """Connect this process for as long as the context lasts; a connection that was there before stays."""
    import ray

    if ray.is_initialized():
        _check_same(address)
        yield
        return
    gcs_address = _find(address or "auto")
    shown = gcs_address if address in {None, "auto"} else str(address)
    if gcs_address in embedded_addresses():
        raise BackendError(
            f"the Ray at {shown} is one that another modelops-ray run started for itself, and ends with it; "
            "give no address, or start one with `ray start --head`"
        )
    wants_token = _wants_token(gcs_address, shown)
    remedy = "; it wants a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN where ~/.ray/auth_token is not the one"
    if wants_token and address not in {None, "auto"} and os.environ.get("RAY_AUTH_MODE") != "token":
        raise BackendError(f"the Ray at {shown} refused the connection{remedy}")
    with calm_ray(), quiet(), refused(f"cannot join the Ray at {shown}", remedy if wants_token else ""):
        # By `auto` Ray finds the same one and uses this user's token by itself; by an address it does not.
        ray.init(address=address or "auto", log_to_driver=False, configure_logging=False, job_config=job_config())
    try:
        yield
    finally:
        ray.shutdown()


def _check_same(address: str | None) -> None:
    if address in {None, "auto", _gcs_address()}:
        return
    raise UsageError(
        f"--address {address}: this process is connected to the Ray at {_gcs_address()} already; "
        "call ray.shutdown() first, or give no address"
    )


def _find(address: str) -> str:
    """Turn `auto` or HOST:PORT into the address of a GCS."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        with calm_ray():
            return str(canonicalize_bootstrap_address_or_die(address))
    except ConnectionError as error:
        others = " but those that other runs of modelops-ray started for themselves" if embedded_addresses() else ""
        why = f"no Ray runs on this machine{others}"
        remedy = "start one with `ray start --head`, or give no address"
        raise BackendError(f"--address auto: {why}; {remedy}") from error
    except (OSError, ValueError) as error:
        raise BackendError(f"--address {address} is not HOST:PORT of a Ray: {first_line(error)}") from error


def _wants_token(gcs_address: str, shown: str) -> bool:
    """Ask the GCS there, which was named as `shown`, whether it wants a token; BackendError if it does not answer.

    Ray itself would try for two minutes and then end the process.
    """
    import grpc  # type: ignore[import-untyped]
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    with grpc.insecure_channel(gcs_address) as channel:
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            stub.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=PROBE_TIMEOUT_S)
        except grpc.RpcError as error:
            details = error.details() or ""
            if UNIDENTIFIED in details:
                return True
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise BackendError(f"what answers at {shown} refuses ({details}); is it the GCS port?") from error
            raise BackendError(f"no Ray answers at {shown}; is its head running, and is it the GCS port?") from error
    return False


def _gcs_address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)
