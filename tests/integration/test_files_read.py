"""What a model reads is part of the question: which edits make results stale, what is said, and what runs again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from support.commands import enter, run_locally, summary_of, tree, write_model, write_study

from modelops_ray.api import open_run
from modelops_ray.model.resolve import find_model
from modelops_ray.sandbox.loading import former_digest_of
from modelops_ray.store import commits
from modelops_ray.study.study import Study

MODEL = '''
"""Reads in every way that Python sees: at its import, in every simulation, and in some of them only."""

import functools
import json
import os
import sqlite3
from pathlib import Path

import helper

TABLE = (Path(__file__).parent / "table.csv").read_text()


@functools.cache
def kept():
    return float(Path("data/kept.txt").read_text())


def simulate(params, seed):
    import late

    with open("data/d.json") as file:
        found = json.load(file)["k"]
    if params["beta"] > 1:
        os.close(os.open("../beside.bin", os.O_RDONLY))
    with open("own.txt", "w") as file:
        file.write(str(seed))
    own = Path("own.txt").read_text()
    return {"r": {"x": found + kept() + helper.H + late.L + float(TABLE), "own": own}}
'''
FILES = {
    "model/helper.py": "H = 1\n",
    "model/late.py": "L = 1\n",
    "model/plot.py": "1 / 0\n",
    "model/table.csv": "1\n",
    "model/notes.csv": "1\n",
    "model/data/d.json": '{"k": 1}\n',
    "model/data/kept.txt": "1\n",
    "beside.bin": "1\n",
}
LEVELS = ["fork", "reuse", "fresh", "none"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with a model, its data, and a study of two parameter sets with two replicates each."""
    here = enter(monkeypatch, tmp_path / "project")
    write_model(here / "model", MODEL)
    for name, content in FILES.items():
        path = here / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    write_study(here, model="model/model.py:simulate", n_replicates=2)
    return here


def edit(path: Path) -> None:
    """Change a file in place, as soon as can be, to another one of the same size."""
    text = path.read_text()
    with path.open("r+") as file:
        file.write(text.replace("1", "2") if "1" in text else text.replace("in", "IN", 1))


def values(run_dir: object) -> set[float]:
    """The different values of the output."""
    return set(open_run(str(run_dir)).output("r")["x"].to_pylist())


@pytest.mark.parametrize("level", LEVELS)
def test_an_edit_of_what_was_read_is_named_and_nothing_else_runs_again(folder, level):
    """Data, helpers and the model itself, read at import or later; each with the number of results that used it.

    A process that runs several simulations may have kept what an earlier one of them read.
    """
    first = run_locally("--isolation", level, "--out", "run", "--per-child", 1)
    assert 4 == summary_of(first)["completed"], first.stderr
    before = tree(folder / "run")
    used = dict.fromkeys(["helper.py", "late.py", "table.csv", "model.py", "data/d.json", "data/kept.txt"], 4)
    for name, n in {**used, "../beside.bin": 4 if level == "none" else 2}.items():
        path = folder / "model" / name
        content = path.read_bytes()
        edit(path)
        again = run_locally("--isolation", level, "--out", "run")
        assert (1, "") == (again.exit_code, again.stdout)
        assert again.stderr == (
            f"modelops-ray: run: {name} has changed since {n} results used it; "
            "--accept-changes keeps them, --fresh starts over\n"
        )
        assert before == tree(folder / "run")
        path.write_bytes(content)
    for name in ("plot.py", "notes.csv"):
        edit(folder / "model" / name)
    again = summary_of(run_locally("--isolation", level, "--out", "run"))
    assert (4, 0) == (again["resumed"], again["attempts"])


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_that_changes_between_two_runs_is_never_read_as_it_was(folder, level):
    """Whatever process of the run before still lives, knows the file, or has compiled it in the same second."""
    names = ["helper.py", "late.py", "table.csv", "data/d.json", "data/kept.txt"]
    for n, name in enumerate(["", *names]):
        if name:
            edit(folder / "model" / name)
        ended = run_locally("--isolation", level, "--fresh", "--out", "run")
        assert 0 == ended.exit_code, ended.stderr
        assert {5.0 + n} == values("run")


def test_accepted_changes_are_the_state_of_the_kept_results(folder):
    """They are asked for once; what is added afterwards uses the file as it is, and the next edit is named again."""
    run_locally("--out", "run")
    edit(folder / "model/data/d.json")
    assert 1 == run_locally("--out", "run").exit_code
    assert 4 == summary_of(run_locally("--out", "run", "--accept-changes"))["resumed"]
    write_study(folder, model="model/model.py:simulate", n_replicates=3)
    grown = summary_of(run_locally("--out", "run"))
    assert (4, 6) == (grown["resumed"], grown["completed"])
    assert {5.0, 6.0} == values("run")
    edit(folder / "model/table.csv")
    assert "table.csv has changed since 6 results used it" in run_locally("--out", "run").stderr


def test_a_file_that_is_gone_is_named(folder):
    """It is told from one that changed; accepted, it may come back and is named then."""
    run_locally("--out", "run")
    path = folder / "model/data/kept.txt"
    path.unlink()
    assert "data/kept.txt is gone since 4 results used it" in run_locally("--out", "run").stderr
    assert 0 == run_locally("--out", "run", "--accept-changes").exit_code
    assert 0 == run_locally("--out", "run").exit_code
    path.write_text("1\n")
    assert "data/kept.txt has changed" in run_locally("--out", "run").stderr


def test_the_same_command_finds_its_folder_from_anywhere_and_after_an_edit(folder, monkeypatch):
    """The default folder has the model's name and not what is in its files; they are found from another one as well."""
    first = summary_of(run_locally())
    edit(folder / "model/model.py")
    again = run_locally()
    assert f"{first['run_dir']}: model.py has changed since 4 results used it" in again.stderr
    monkeypatch.chdir("/")
    elsewhere = run_locally("--out", folder / first["run_dir"], study=folder / "study.json")
    assert "model.py has changed since 4 results used it" in elsewhere.stderr


def test_failures_depend_on_no_file(folder):
    """A file that made all simulations fail can be mended, and what failed repeated, without another word."""
    data = folder / "model/data/d.json"
    data.write_text("not JSON")
    assert 3 == run_locally("--out", "run").exit_code
    data.write_text(json.dumps({"k": 1}))
    assert 4 == summary_of(run_locally("--out", "run", "--retry-failed"))["completed"]


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_file_was_while_the_run_was_on_is_never_mixed(folder, level):
    """A file that changes under the run ends it; what was committed by then used it as it was before."""
    source = MODEL.replace("    import late\n", "    import late\n    change(seed)\n")
    write_model(
        folder / "model",
        source + "\n\ndef change(seed):\n    if params_of(seed):\n        Path(DATA).write_text('{\"k\": 7}')\n"
        f"\n\nDATA = {str(folder / 'model/data/d.json')!r}\n"
        "\n\ndef params_of(seed):\n    return seed == 3\n",
    )
    sets = [{"params": {"beta": 0.5}, "seed": seed} for seed in range(6)]
    study = json.loads((folder / "study.json").read_text()) | {"parameter_sets": sets}
    (folder / "study.json").write_text(json.dumps(study))
    ended = run_locally("--isolation", level, "--out", "run", "--chunk", 1, "--per-child", 1)
    assert 1 == ended.exit_code
    assert "data/d.json changed while the run was on" in ended.stderr
    assert {5.0} == values("run")


def test_declared_files_are_part_of_the_question(folder, monkeypatch):
    """What Python does not see is named on the command line, relative to where that is typed, or in the study."""
    (folder / "more").mkdir()
    for name in ("a.bin", "b.bin"):
        (folder / "more" / name).write_text("1")
    monkeypatch.chdir(folder / "more")
    options = ("--out", folder / "run", "--include", "a.bin")
    assert 0 == run_locally(*options, study=folder / "study.json").exit_code
    edit(folder / "more/a.bin")
    assert "../more/a.bin has changed since 4 results used it" in run_locally(*options, study="../study.json").stderr
    monkeypatch.chdir(folder)
    write_study(folder, model="model/model.py:simulate", files=["more"])
    assert 0 == run_locally("--out", "run2").exit_code
    edit(folder / "more/b.bin")
    assert "../more/b.bin has changed since 2 results used it" in run_locally("--out", "run2").stderr


@pytest.mark.parametrize(
    ("options", "files", "code", "said"),
    [
        (("--include", "no.csv"), None, 2, "--include: no.csv does not exist in "),
        ((), ["data", "no.csv"], 2, "the study's files: no.csv does not exist in "),
        ((), [], 1, ""),
    ],
    ids=["option", "study", "import"],
)
def test_a_missing_file_is_found_before_anything_is_started(folder, options, files, code, said):
    """By its name: what is declared, and what the import opens."""
    (folder / "data").mkdir()
    if not said:
        (folder / "model/table.csv").unlink()
        said = "No such file or directory: '"
    write_study(folder, model="model/model.py:simulate", files=files or None)
    ended = run_locally("--out", "run", *options)
    assert (code, 1) == (ended.exit_code, ended.stderr.count("\n"))
    assert said in ended.stderr
    assert not (folder / "run").exists()


def test_a_run_without_a_record_of_files_goes_on(folder):
    """Runs of earlier versions were of all Python files beside the model, in a folder named after these."""
    run_locally("--out", "run")
    former = former_digest_of(find_model("model/model.py:simulate", folder))
    study = Study.load(folder / "study.json")
    assert as_written_before(folder / "run", former)
    again = run_locally("--out", "run")
    assert 4 == summary_of(again)["resumed"]
    name = hashlib.sha256(f"{study.digest}|{former}|job-file".encode()).hexdigest()[:8]
    (folder / "runs").mkdir()
    (folder / "run").rename(folder / f"runs/study-{name}")
    assert f"runs/study-{name}" == summary_of(run_locally())["run_dir"]
    edit(folder / "model/plot.py")
    assert "run with model model.py:simulate" in run_locally("--out", f"runs/study-{name}").stderr


def as_written_before(run_dir: Path, digest: str) -> bool:
    """Write a run anew as it would be of a version that kept no record of files."""
    path = run_dir / "run.json"
    document = json.loads(path.read_text())
    document |= {"model_digest": digest, "bundle_ref": f"sha256:{digest}"}
    path.write_text(json.dumps(document))
    tip = commits.genesis(document["id"])
    for each in sorted((run_dir / "_commits").iterdir()):
        commit = commits.decode(each.read_bytes(), each.name)
        data = commits.encode(commit.model_copy(update={"files": None, "format": 3, "previous": tip}))
        each.write_bytes(data)
        tip = commits.digest_of(data)
    return True
