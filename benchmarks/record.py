"""What every record says beside its figures: versions and machine; and the file it is kept in."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"


def keep(name: str, figures: dict[str, Any]) -> None:
    """Print figures and append them, with what they were measured on, to `records/<name>.jsonl`."""
    record = {
        "benchmark": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "ray": version("ray"),
        "pyarrow": version("pyarrow"),
        "modelops_ray": version("modelops-ray"),
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        **figures,
    }
    RECORDS.mkdir(exist_ok=True)
    with (RECORDS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    print(json.dumps(record, indent=1))
