"""The page of a run as a document, and as a file: the edge of this folder, which reads run directories and writes.

Owns where the file goes by default.
"""

from __future__ import annotations

from pathlib import Path

from modelops_ray.report.page.build import first_screen, page_of, read_run
from modelops_ray.report.page.render import framed, render
from modelops_ray.report.text import count
from modelops_ray.store.reader import RunReader
from modelops_ray.store.storage.local import LocalFolder
from modelops_ray.store.storage.places import place_of

NAME = "report.html"
_SCREEN_PX = 690


def document_of(reader: RunReader, run_dir: str | Path) -> str:
    """Write the page of a run as HTML; ResultsError where its directory is damaged."""
    return render(page_of(read_run(reader, _name(run_dir))))


def first_screen_of(reader: RunReader, run_dir: str | Path) -> str:
    """Write the first screen of a page for a notebook."""
    tables = read_run(reader, _name(run_dir), most_outputs=1)
    said = f"{run_dir}: {tables.simulations.num_rows:,} of {count(tables.total, 'simulation')} have ended"
    return framed(render(first_screen(tables)), said, _SCREEN_PX)


def default_path(run_dir: str | Path) -> Path:
    """Where the page goes when no file is named: into the run directory; of one in an object store, to here."""
    place = place_of(run_dir)
    return place / NAME if isinstance(place, Path) else Path(f"{_name(run_dir)}-{NAME}")


def write_document(document: str, path: str | Path) -> int:
    """Write a page; what was there before is replaced at once or not at all. Return its size in bytes.

    StorageError if it could not be written.
    """
    data, path = document.encode(), Path(path)
    LocalFolder(path.parent).write(path.name, lambda sink: sink.write(data))
    return len(data)


def _name(run_dir: str | Path) -> str:
    place = place_of(run_dir)
    return place.absolute().name if isinstance(place, Path) else place.rstrip("/").rsplit("/", 1)[-1]
