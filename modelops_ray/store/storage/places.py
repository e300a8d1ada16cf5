"""Where a run directory is: a path, or the URI of a folder in an object store; and how it is opened.

Owns which URIs there are. What a place can do is said in `base`, and done in `local` and `objects`.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from modelops_ray.errors import UsageError
from modelops_ray.store.storage.base import Folder
from modelops_ray.store.storage.local import LocalFolder

Place = Path | str
"""A path is a directory of a file system; a text is the URI of a folder in an object store."""

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def place_of(text: str | Path) -> Place:
    """Read a path, or a URI such as `s3://bucket/runs/sir` or `file:///data/runs/sir`.

    UsageError for a URI of another kind, or one that names no folder in a bucket.
    """
    if text == "" or "\0" in str(text):
        raise UsageError("the run directory has no name; give a path or a URI")
    match = None if isinstance(text, Path) else _URI.fullmatch(text)
    if match is None:
        return Path(text)
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        return _local(str(text), rest)
    if scheme not in SCHEMES:
        ours = ", ".join(f"{each}://" for each in (*SCHEMES, "file"))
        raise UsageError(f"{text}: no storage is reached by {scheme}://; give a path, or a URI that begins with {ours}")
    bucket, _, folder = rest.rstrip("/").partition("/")
    if not bucket or not folder:
        raise UsageError(f"{text}: names no folder in a bucket; write it as {scheme}://BUCKET/FOLDER")
    if {"", ".", ".."} & set(folder.split("/")):
        raise UsageError(f"{text}: a folder is called '', '.' or '..'; an object store has no such folders")
    return f"{scheme}://{bucket}/{folder}"


def _local(text: str, rest: str) -> Path:
    path = Path(unquote(rest.removeprefix("localhost")))
    if not path.is_absolute():
        raise UsageError(f"{text}: not the URI of a file of this machine; write it as file:///PATH, or just as a path")
    return path


def inside(place: Place, name: str) -> Place:
    """The place of a folder in another one; `/` between the parts of its name."""
    return place / name if isinstance(place, Path) else f"{place}/{name}"


def open_folder(place: Place) -> Folder:
    """Open a place; nothing is looked at yet. A path leads where it does now, wherever a model goes later."""
    if isinstance(place, Path):
        return LocalFolder(place.absolute(), place)
    from modelops_ray.store.storage.objects import ObjectFolder

    return ObjectFolder.at(place)
