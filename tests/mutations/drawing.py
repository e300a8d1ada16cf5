"""An input drawn from its seed: of which kind, what is changed in the valid folder, and what is asked then."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping

from tests.mutations import octets, sealed, tables, trees, yamls
from tests.mutations.commands import CLOSED, command_line
from tests.mutations.inputs import Change, Input
from tests.mutations.valid import LOCALLY

Files = Mapping[str, bytes]
Changes = dict[str, Change]

MOST_SIMULATIONS = 20
RENDER = ("kuberay", "render", "study.json")
ON_A_STUDY = [
    ("plan", "study.json"), ("plan", "study.json", "--json"), RENDER,
    ("profile", "study.json", "--samples", "2", *LOCALLY),
    ("submit", "study.json", "--address", f"http://{CLOSED}", "--out", "/r"),
    ("kuberay", "check", "manifest.yaml", "--study", "study.json"),
]  # fmt: skip
RUNNING = [("run", "study.json", *LOCALLY, "--out", "made", "--json"), ("run", "study.json", *LOCALLY, "--out", "run")]
ON_A_RUN = [
    ("status", "run"), ("status", "run", "--json"), ("results", "run"), ("results", "run", "--output", "doubled"),
    ("results", "run", "--output", "attempts", "--json"), ("results", "run", "--to", "table.csv"),
    ("results", "run", "--output", "doubled", "--to", "table.parquet"), ("status", "split"), ("results", "split"),
    ("why", "run"), ("why", "run", "--json"), ("why", "split"), ("runs", "run"), ("runs", ".", "--json"),
    ("report", "run", "--out", "page.html"), ("report", "split", "--out", "page.html"),
    ("results", "split", "--output", "doubled"), ("run", "study.json", *LOCALLY, "--out", "run"),
    ("run", "study.json", *LOCALLY, "--out", "run", "--retry-failed"),
    ("run", "study.json", *LOCALLY, "--out", "run", "--fresh"),
    ("run", "study.json", *LOCALLY, "--out", "split", "--shard", "2/2"),
]  # fmt: skip


def draw(seed: int, files: Files) -> Input:
    """Draw the input of this seed, of the files that are valid."""
    rng = random.Random(seed)
    kind = rng.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
    changes, arguments, stdin = KINDS[kind][0](rng, files)
    return Input(seed, kind, arguments, changes, stdin)


Drawn = tuple[Changes, tuple[str, ...], bytes]


def _study(rng: random.Random, files: Files) -> Drawn:
    content = _json(rng, files["study.json"])
    commands = ON_A_STUDY + RUNNING if _is_small(content) else ON_A_STUDY
    return {"study.json": Change("file", content)}, rng.choice(commands), b""


def _is_small(content: bytes) -> bool:
    """Whether a study would be run at once, if it is one."""
    try:
        study = json.loads(content)
        n = len(study["parameter_sets"]) * study.get("n_replicates", 1)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return True
    return not isinstance(n, int | float) or n <= MOST_SIMULATIONS


def _profile(rng: random.Random, files: Files) -> Drawn:
    path = next(path for path in files if path.startswith("cache/"))
    commands = [("plan", "study.json"), ("plan", "study.json", "--json"), RENDER, *RUNNING, *ON_A_STUDY]
    return {path: Change("file", _json(rng, files[path]))}, rng.choice(commands), b""


def _document(rng: random.Random, files: Files) -> Drawn:
    """A `run.json` or a `progress.json`."""
    path = _one(rng, files, r"(run|split/shards/.*)/(run|progress)\.json")
    return {path: Change("file", _json(rng, files[path]))}, _on_a_run(rng, path), b""


def _table(rng: random.Random, files: Files) -> Drawn:
    """A table of parameter sets; how many replicates its simulations have, only what runs nothing reads in it."""
    path = rng.choice(["sets.csv", "sets.csv", "sets.csv", "sets.parquet", "sets.arrow"])
    ways = [tables.changed] * 3 if path == "sets.csv" else [_footer]
    content = rng.choice([*ways, octets.changed])(rng, files[path])
    table = ("model.py:simulate", "--params", path)
    commands = [("plan", *table), ("plan", *table, "--json"), ("plan", *table, "--where", "beta<0.5 and n=3"),
                ("run", *table, "--replicates", "2", *LOCALLY, "--out", "made"),
                ("submit", *table, "--address", f"http://{CLOSED}", "--out", "/r")]  # fmt: skip
    return {path: Change("file", content)}, rng.choice(commands), b""


def _commit(rng: random.Random, files: Files) -> Drawn:
    """A commit, as often sealed again as not."""
    path = _one(rng, files, r".*/_commits/.*")
    content = _compact(_json(rng, files[path]))
    if rng.random() < 0.5:
        return {path: Change("file", content)}, _on_a_run(rng, path), b""
    folder = path.rpartition("/")[0]
    commits = {each: files[each] for each in files if each.startswith(folder)} | {path: content}
    done = sealed.resealed(commits, {})
    return {each: Change("file", done[each]) for each in done}, _on_a_run(rng, path), b""


def _part(rng: random.Random, files: Files) -> Drawn:
    """A Parquet file, as often named by the commits as it is then as not."""
    path = _one(rng, files, r".*\.parquet")
    content = rng.choice([_footer, octets.changed, octets.changed, _other_part(files)])(rng, files[path])
    run = re.split(r"/(?:simulations|attempts|outputs)/", path)[0]
    changes = {path: Change("file", content)}
    if rng.random() < 0.5:
        commits = {each: files[each] for each in files if each.startswith(f"{run}/_commits/")}
        done = sealed.resealed(commits, {path.removeprefix(f"{run}/"): content})
        changes |= {each: Change("file", done[each]) for each in done}
    return changes, _on_a_run(rng, path), b""


def _footer(rng: random.Random, content: bytes) -> bytes:
    """A footer that claims another length, or other counts and sizes."""
    if rng.random() < 0.4:
        return content[:-8] + rng.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", bytes(4)]) + content[-4:]
    at = len(content) - 8 - rng.randrange(min(900, len(content) - 16))
    return content[:at] + rng.choice([b"\xff" * 8, b"\xfe\xff\xff\xff\x0f", b"\x80" * 9 + b"\x01"]) + content[at + 8 :]


def _other_part(files: Files) -> Callable[[random.Random, bytes], bytes]:
    return lambda rng, _content: files[_one(rng, files, r".*\.parquet")]


def _entry(rng: random.Random, files: Files) -> Drawn:
    """Something else in the place of a file, or a file where none belongs."""
    path = _one(rng, files, r"(run|split|overlay|cache)/.*|study\.json|model\.py|manifest\.yaml")
    if rng.random() < 0.3:
        folder = path.rpartition("/")[0] or "run"
        names = ["000000.json", "0000002.json", "999999.json", "9" * 40 + ".json", "x", "part-00000000-9.parquet",
    "\udcff",
                 ".draft", "3-of-2", "1-of-9", "run.json", "_commits", "shards/1-of-1/run.json", "a\nb"]  # fmt: skip
        path = f"{folder}/{rng.choice(names)}"
    kinds = [
        Change("gone"), Change("folder"), Change("pipe"), Change("link", b"nowhere"), Change("link", b"/dev/zero"),
        Change("link", b"/dev/full"), Change("link", path.rpartition("/")[2].encode(errors="surrogateescape")),
        Change("file", files[_one(rng, files, ".*")]), Change("file"), Change("link", b".."),
    ]  # fmt: skip
    changes = {path: rng.choice(kinds)}
    commands = [
        *ON_A_STUDY,
        *RUNNING,
        ("kuberay", "check", "manifest.yaml", "overlay"),
        (*RENDER, "--overlay", "overlay"),
    ]
    is_of_run = path.startswith(("run", "split"))
    return changes, _on_a_run(rng, path) if is_of_run else rng.choice(commands), b""


def _manifest(rng: random.Random, files: Files) -> Drawn:
    path = rng.choice(["manifest.yaml", "overlay/base.yaml", "overlay/kustomization.yaml", "-"])
    content = yamls.changed(rng, files["manifest.yaml" if path == "-" else path])
    if path == "-":
        return {}, ("kuberay", "check", "-"), content
    where = path.rpartition("/")[0] or path
    commands = [("kuberay", "check", where), ("kuberay", "check", where, "--json"),
                ("kuberay", "check", where, "--study", "study.json"),
                (*RENDER, "--overlay", "overlay", "--out", "made.yaml")]  # fmt: skip
    return {path: Change("file", content)}, rng.choice(commands[: 4 if where == "overlay" else 3]), b""


def _command(rng: random.Random, _files: Files) -> Drawn:
    return {}, command_line(rng), rng.choice([b"", b"", b"\x00\xff", b"a: [", b"kind: x\n"])


KINDS: dict[str, tuple[Callable[[random.Random, Files], Drawn], int]] = {
    "study": (_study, 22),
    "profile": (_profile, 8),
    "run.json, progress.json": (_document, 12),
    "commit": (_commit, 12),
    "part": (_part, 10),
    "entry of a folder": (_entry, 10),
    "manifest": (_manifest, 13),
    "command line": (_command, 13),
    "table of parameter sets": (_table, 8),
}


def _on_a_run(rng: random.Random, path: str) -> tuple[str, ...]:
    run = path.partition("/")[0]
    return rng.choice([each for each in ON_A_RUN if run in each[1:] or each[:2] == ("runs", ".")])


def _json(rng: random.Random, content: bytes) -> bytes:
    """A JSON document with some changes, four of five times by its grammar."""
    if rng.random() < 0.2:
        return octets.changed(rng, content)
    tree = trees.tree_of(json.loads(content))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        tree = trees.changed(rng, tree)
    return trees.written(tree).encode(errors="surrogatepass")


def _compact(content: bytes) -> bytes:
    """As commits are written, so that what seals them again finds its keys."""
    return content.replace(b'": ', b'":').replace(b", ", b",")


def _one(rng: random.Random, files: Files, pattern: str) -> str:
    """One of the files whose paths match; in an order that does not depend on the names that a session drew."""
    matching = [path for path in files if re.fullmatch(pattern, path, re.DOTALL)]
    return rng.choice(sorted(matching, key=lambda path: (re.sub(r"part-[0-9a-f]{8}", "part", path), path)))
