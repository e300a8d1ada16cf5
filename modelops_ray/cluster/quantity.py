"""Quantities as Kubernetes writes them, exactly. Reads by its client's code; writes bytes so that a person sees a size.

`config.parse_size` reads what users type for sizes; here also CPUs (`500m`) and exponents are read.
"""

from __future__ import annotations

from decimal import Decimal

GIB, MIB = 2**30, 2**20


def amount(quantity: str | float | None) -> Decimal | None:
    """Read a quantity; None where it is missing or malformed."""
    from kubernetes.utils.quantity import parse_quantity

    if quantity is None:
        return None
    try:
        value = parse_quantity(quantity)
    except ValueError:
        return None
    return value if isinstance(value, Decimal) else Decimal(value)


def as_bytes(quantity: str | float | None) -> int | None:
    """Read a quantity of bytes, rounded down."""
    value = amount(quantity)
    return None if value is None else int(value)


def write_bytes(n_bytes: int) -> str:
    """Write bytes as `25Gi`, `2828Mi`, or plain where they are neither."""
    for unit_bytes, unit in ((GIB, "Gi"), (MIB, "Mi")):
        if n_bytes and n_bytes % unit_bytes == 0:
            return f"{n_bytes // unit_bytes}{unit}"
    return str(n_bytes)


def whole(n_bytes: int) -> str:
    """Write bytes rounded up to whole GiB, or MiB below 16 GiB."""
    unit_bytes = GIB if n_bytes >= 16 * GIB else MIB
    return write_bytes(-(-n_bytes // unit_bytes) * unit_bytes)


def write_gib(n_bytes: float) -> str:
    """Write bytes for a sum: `3.2Gi`, `500Mi`."""
    if n_bytes < GIB:
        return f"{n_bytes / MIB:.4g}Mi"
    return f"{n_bytes / GIB:.4g}Gi"
