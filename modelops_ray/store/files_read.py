"""The files that results depend on: whether one has changed since, and what a commit tells of them.

Owns the comparison and its sentence. What was read is known by `sandbox.reading`, and kept in the commit log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from modelops_ray.errors import ResultsError
from modelops_ray.sandbox.loading import ModelRef, former_digest_of
from modelops_ray.sandbox.reading import FileState, digest_of_file, path_of
from modelops_ray.store.commits import Files, FileUse, Log, ReadBy, ReadFile
from modelops_ray.study.chunk import Payload

MAX_FILES = 10_000
"""Of how many files a run keeps what was in them; more are those of single simulations, and would fill its log."""


def changed_since(log: Log, model: ModelRef) -> tuple[ReadFile, ...]:
    """The files that results depend on and that are not as they were, as they are now; a file that is gone has None."""
    used = {path: use for path, use in sorted(log.files.items()) if use.results}
    now = {path: digest_of_file(path_of(path, model.folder)) for path in used}
    return tuple(ReadFile(path=path, sha256=now[path]) for path, use in used.items() if now[path] != use.sha256)


def refusal(where: str, changed: Sequence[ReadFile], files: Mapping[str, FileUse]) -> ResultsError:
    """Say which file has changed, the one that most results depend on first, and how many do."""
    first = max(changed, key=lambda file: files[file.path].results)
    n = files[first.path].results
    others = f" (and {len(changed) - 1:,} more)" if len(changed) > 1 else ""
    what = "is gone" if first.sha256 is None else "has changed"
    remedy = f"--accept-changes keeps {'it' if n == 1 else 'them'}, --fresh starts over"
    return ResultsError(f"{where}: {first.path}{others} {what} since {_results(n)} used it; {remedy}")


def _results(n: int) -> str:
    return "1 result" if n == 1 else f"{n:,} results"


def is_former(log: Log, digest: str, model: ModelRef) -> bool:
    """Whether results of which no files are recorded are of this model; True where there are none of these."""
    is_told = log.imported is not None or not log.rows(failed=False)
    return (is_told and model.kind != "pickled") or digest == model.digest or digest == former_digest_of(model)


def read_by(payloads: Iterable[Payload], left_out: frozenset[int]) -> Counter[FileState]:
    """Count for each file the results that depend on it by what their simulations read, without those left out."""
    counts: Counter[FileState] = Counter()
    for each in (each for payload in payloads for each in payload.read):
        out = [index for index, position in enumerate(each.positions) if position in left_out] if left_out else []
        for file, first in each.files:
            counts[file] += len(each.positions) - first - sum(index >= first for index in out)
    return +counts


def told(log: Log, imported: Sequence[FileState], counts: Mapping[FileState, int], *, any_new: bool) -> Files | None:
    """What a commit tells of files, with `any_new` results in it; None where that is nothing.

    ResultsError where one has changed since other results used it.
    """
    by_import = dict(imported) if any_new else {}
    seen: dict[str, str | None] = {path: use.sha256 for path, use in log.files.items() if use.results}
    for path, sha256 in (*by_import.items(), *counts):
        if sha256 is None or sha256 != seen.setdefault(path, sha256):
            n = log.files[path].results if path in log.files else 0
            raise ResultsError(
                f"{path} changed while the run was on, and {_results(n)} used it as it was; start the run again"
            )
    every = tuple(ReadFile(path=path, sha256=sha256) for path, sha256 in by_import.items())
    own = ((file, n) for file, n in counts.items() if file.path not in by_import)
    room = MAX_FILES - len(log.files)
    known = [(file, n) for file, n in own if file.path in log.files or (room := room - 1) >= 0]
    read = tuple(ReadBy(path=file.path, sha256=file.sha256, results=n) for file, n in known)
    is_told = any_new and every != log.imported
    return Files(imported=every if is_told else None, read=read) if is_told or read else None
