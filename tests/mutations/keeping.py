"""What stays of an input that went wrong: the folder as the command found it, and the command line."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from tests.mutations.inputs import Input
from tests.mutations.valid import Valid


def kept(asked: Input, valid: Valid, folder: Path) -> str:
    """Leave the folder with the changes made, and return a script for bash; the valid folder stays as it is."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(valid.work, folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path, change in asked.changes.items():
        change.make(folder / path)
    (folder / "stdin").write_bytes(asked.stdin)
    environ = [f"{name}={value.replace(str(valid.work), '.')}" for name, value in valid.environ.items()]
    words = ["env", *environ, "modelops-ray", *asked.arguments]
    return f"cd {shlex.quote(str(folder))} && {' '.join(map(_quoted, words))} < stdin"


def _quoted(text: str) -> str:
    """A word of bash, whatever bytes it has."""
    if text.isascii() and text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(text)) + "'"
