"""Deliberate bugs, one at a time: the world must find each of them within some thousand seeds.

Owns the list. Each bug is a place in the program and what stands there instead; it is put in when the module is
imported, in a process of its own. A bug that no seed finds is a promise that nothing watches.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple


class Bug(NamedTuple):
    """`before`, which stands once in the module, becomes `after`."""

    name: str
    module: str
    before: str
    after: str


BUGS = [
    Bug("a part is not synced before it is named", "store.storage.local", "            os.fsync(fd)\n", ""),
    Bug(
        "the folder of a new file is not synced", "store.storage.local",
        "            os.replace(temporary, path, src_dir_fd=self._fd, dst_dir_fd=self._fd)\n"
        "            _sync_directory(_parent(path), self._fd)",
        "            os.replace(temporary, path, src_dir_fd=self._fd, dst_dir_fd=self._fd)",
    ),
    Bug(
        "the folder of a commit is not synced", "store.storage.local",
        "                    _remove(temporary, self._fd)\n"
        "                    _sync_directory(_parent(path), self._fd)",
        "                    _remove(temporary, self._fd)",
    ),
    Bug(
        "a new folder is not synced", "store.storage.local",
        "                raise\n        _sync_directory(_parent(path), self._fd)\n",
        "                raise\n",
    ),
    Bug(
        "a commit replaces another of its number", "store.storage.local",
        "                    return self._name(temporary, path)",
        "                    os.replace(temporary, path, src_dir_fd=self._fd, dst_dir_fd=self._fd)\n"
        "                    return True",
    ),
    Bug(
        "parts are written in place", "store.storage.local",
        "            temporary, written = _fill_temporary(path, fill, self._fd)\n            os.replace",
        "            temporary, written = _fill_temporary(path, fill, self._fd)\n"
        "            fd = os.open(path, os.O_WRONLY | os.O_CREAT, dir_fd=self._fd)\n"
        "            _write_all(fd, bytearray(1))\n            os.replace",
    ),
    Bug(
        "a session goes on after another one took over", "store.commits",
        "(found := read_commit(commits, number)) is not None and not is_of(found, run, is_chained=is_chained):",
        "(found := read_commit(commits, number)) is not None:",
    ),
    Bug(
        "what no commit names is not removed", "store.opening",
        "        folder.remove(name)\n    session.heartbeat({})", "        pass\n    session.heartbeat({})",
    ),
    Bug(
        "leftovers are listed after another session may have begun", "store.opening",
        "    leftovers = leftovers_in(folder, log)\n    log.apply(session.append(log.study or "
        "found.run.study.digest, files=files), commits.FOLDER)\n",
        "    log.apply(session.append(log.study or found.run.study.digest, files=files), commits.FOLDER)\n"
        "    around_again = leftovers = found.leftovers\n    leftovers = tuple(log.parts)[:1] or leftovers\n",
    ),
    Bug(
        "parts are removed although their commit may arrive", "store.writer",
        "                undo.pop_all()\n                raise\n", "                raise\n",
    ),
    Bug(
        "parts are removed although their commit is there", "store.writer",
        "            return  # the commit is in place", "            pass  # the commit is in place",
    ),
    Bug(
        "a session begins beside one that lives", "store.heartbeat",
        "    if found is not None:\n        raise _in_use(",
        "    if found is None and now is None:\n        raise _in_use(",
    ),
    Bug(
        "a conditional write is none", "store.storage.objects",
        'mode: Any = "create" if mark is None else dict(mark)', 'mode: Any = "overwrite"',
    ),
    Bug(
        "a repeated request takes its own object for another's", "store.storage.objects",
        "return found is not None and found[0] == data", "return False",
    ),
    Bug(
        "a failed request counts as done", "store.storage.objects",
        "kind = UncertainError if changes and not is_final(answer) else StorageError",
        "kind = StorageError",
    ),
    Bug(
        "outputs that are lost are forgotten", "session.committer",
        "                lost.append(PayloadLost(self.clock(), chunk_id))", "                pass",
    ),
    Bug(
        "outputs that are lost count as committed", "session.committer",
        "PartCommitted(self.clock(), tuple(payloads), rejected)",
        "PartCommitted(self.clock(), write.chunk_ids, rejected)",
    ),
    Bug(
        "what did not fit is forgotten", "session.committer",
        "PartCommitted(self.clock(), tuple(payloads), rejected)", "PartCommitted(self.clock(), tuple(payloads), ())",
    ),
    Bug(
        "a session begins with what is done", "session.source",
        "done if only is None", "Ranges() if only is None",
    ),
    Bug(
        "a session that begins fences off nobody", "store.opening",
        "    log.apply(session.append(log.study or found.run.study.digest, files=files), commits.FOLDER)\n", "",
    ),
    Bug(
        "a larger study gives positions anew", "store.extension",
        "        positions = move.runs(part) if len(part.positions) else []",
        "        positions = [(a + 1, b + 1) for a, b in move.runs(part)] if len(part.positions) else []",
    ),
    Bug(
        "a reader sees what no commit names", "store.reader",
        "        return _in_order([directory.simulations(columns) for directory in self._directories()])",
        "        return _in_order([directory.simulations(columns) for directory in self._directories() * 2])",
    ),
    Bug(
        "a session that ends does not say so", "store.run_store",
        "            self._session.heartbeat(counters, ending)\n", "            self._session.heartbeat(counters)\n",
    ),
    Bug(
        "a session says no word while it runs", "session.committer",
        "        self.store.heartbeat(snapshot.counters())", "        pass",
    ),
    Bug(
        "columns that widen lose what was committed", "store.run_store",
        "                retracted.append(part.path)\n        return retracted, added",
        "                retracted.append(part.path)\n        return retracted, []",
    ),
    Bug(
        "columns that widen keep what was committed", "store.run_store",
        "                retracted.append(part.path)\n        return retracted, added",
        "                pass\n        return retracted, added",
    ),
    Bug(
        "failures are written as results", "store.run_store",
        "session.write(SIMULATIONS, table, list(runs(positions)), failed=True)",
        "session.write(SIMULATIONS, table, list(runs(positions)), failed=False)",
    ),
    Bug(
        "a reader does not put rows in order", "store.reader",
        "        return _in_order([directory.simulations(columns) for directory in self._directories()])",
        "        return self._first().simulations(columns).table",
    ),
    Bug(
        "simulations whose outputs were lost do not run again", "core.retry",
        "            self._journal.keep_attempts(group, failure, Follows.RETRIED, 0, now_s)\n"
        "            self._dispatch.pending.put_back(group)\n",
        "            self._journal.keep_attempts(group, failure, Follows.RETRIED, 0, now_s)\n",
    ),
    Bug(
        "what a chunk did not reach is forgotten", "core.state",
        "            self.dispatch.pending.put_back(chunk.group.only(set_of))\n", "            pass\n",
    ),
    Bug(
        "a cancelled chunk is forgotten", "core.state",
        "            self.dispatch.pending.put_back(chunk.group)\n            yield CancelChunk(chunk_id)",
        "            yield CancelChunk(chunk_id)",
    ),
    Bug(
        "a failure is counted twice", "core.retry",
        "        self._counters.failed += 1", "        self._counters.failed += 2",
    ),
    Bug("a retry is counted twice", "core.retry", "    now.blamed += 1\n", "    now.blamed += 2\n"),
    Bug(
        "what crashes is repeated for ever", "core.retry",
        "    if now.blamed >= budget:", "    if now.blamed >= budget + 10**6:",
    ),
    Bug(
        "one chunk more than the window", "core.window",
        "            return self.policy.window\n", "            return self.policy.window + 1\n",
    ),
    Bug(
        "a request above the largest node", "core.memory",
        "        if wanted_bytes >= top_bytes:\n            return top_bytes",
        "        if wanted_bytes >= top_bytes:\n            return wanted_bytes",
    ),
    Bug(
        "attempts are not numbered on", "core.commits",
        "        self.made.update(zip(positions, numbers, strict=True))\n", "",
    ),
    Bug("an attempt without a result is forgotten", "core.commits", "        self.attempts.append(kept)\n", ""),
    Bug(
        "attempts that a commit writes are written again", "core.commits",
        "        self.failures, self.attempts, self._n_attempts", "        self.failures, _, self._n_attempts",
    ),
    Bug(
        "failures are not written", "core.commits",
        "tuple(self.failures), tuple(self.attempts))", "(), tuple(self.attempts))",
    ),
    Bug(
        "a commit waits until it is large", "core.commits",
        "        return self.oldest_s is not None and now_s - self.oldest_s >= within_s - reserve_s",
        "        return self.oldest_s is not None and now_s - self.oldest_s >= 40.0 - reserve_s",
    ),
    Bug(
        "half of what died together is forgotten", "core.retry",
        "        for half in group.split():", "        for half in tuple(group.split())[:1]:",
    ),
    Bug(
        "an overrun is repeated with the same limit", "core.retry",
        "        return (Verdict.FAIL if at_maximum else Verdict.RAISE), now",
        "        return (Verdict.FAIL if at_maximum else Verdict.REPEAT), now",
    ),
    Bug(
        "a run ends while a commit is under way", "core.commits",
        "        return not (self.unwritten or self.failures or self.attempts) and self.writing is None",
        "        return not (self.unwritten or self.failures or self.attempts)",
    ),
    Bug(
        "a run ends as soon as nothing is outstanding", "core.state",
        "        return bool(self.dispatch.pending.n or self.dispatch.outstanding)",
        "        return bool(self.dispatch.outstanding)",
    ),
    Bug(
        "what was rejected counts as completed", "core.retry",
        "            self._counters.completed -= 1\n            one =", "            one =",
    ),
    Bug("a lost node is not named", "core.retry", "        node=event.address,\n", ""),
    Bug(
        "what is told of a pod is told of all", "core.guards",
        "        pod = self._dead.get(event.address)", "        pod = next(iter(self._dead.values()), None)",
    ),
    Bug("a shard runs what belongs to another", "session.source", "done | only.complement(len(simulations))", "done"),
    Bug(
        "commits are those that a listing has", "store.commits",
        "    names += _unlisted(folder, _number_of(names[-1]) if names else log.last)\n", "",
    ),
    Bug(
        "parts are those that a listing has", "store.parts",
        '.get(part.path.rpartition("/")[2]) or folder.size(part.path)', '.get(part.path.rpartition("/")[2])',
    ),
]  # fmt: skip


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with a bug in it."""

    bug: Bug

    def source_to_code(self, data: Any, path: Any, **more: Any) -> CodeType:  # type: ignore[override]
        text = Path(path).read_text()
        if text.count(self.bug.before) != 1:
            raise SystemExit(f"{self.bug.name}: stands {text.count(self.bug.before)} times in {self.bug.module}")
        return compile(text.replace(self.bug.before, self.bug.after), path, "exec")

    def get_code(self, fullname: str) -> CodeType:
        """Never what was compiled before."""
        return self.source_to_code(b"", self.get_filename(fullname))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != f"modelops_ray.{self._bug.module}":
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert found is not None
        assert found.origin is not None
        loader = _Loader(fullname, found.origin)
        loader.bug = self._bug
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def put_in(bug: Bug) -> None:
    """Have this process import the program with a bug in it; nothing of it may be imported yet."""
    assert not any(name == f"modelops_ray.{bug.module}" for name in sys.modules)
    sys.meta_path.insert(0, _Finder(bug))
