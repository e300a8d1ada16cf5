"""Mutated input to every command: a right run, or one line that names the place, and nothing is changed on disk."""

import shlex
import subprocess
from dataclasses import replace

import pytest

from tests.mutations import sealed, trees
from tests.mutations.__main__ import judged
from tests.mutations.commands import leaves
from tests.mutations.drawing import KINDS, draw
from tests.mutations.inputs import Change, Input
from tests.mutations.process import Worker
from tests.mutations.shrinking import shrunk
from tests.mutations.verdict import Seen, names_the_place, wrong_in

N_INPUTS = 40
PATHS = ["study.json", "cache/p", "run/run.json", "run/_commits/1.json", "run/a/p.parquet", "manifest.yaml",
         "overlay/base.yaml", "overlay/kustomization.yaml", "sets.csv", "sets.parquet", "sets.arrow"]  # fmt: skip
FILES = dict.fromkeys(PATHS, b'{"a": [1, "some", "text"]}')
PLAN = Input(7, "study", ("plan", "study.json"), {"study.json": Change("file", b"[1]")})
REFUSED = Seen(1, "", "modelops-ray: study.json: found a list\n", "", 0.1, 10**8)


@pytest.fixture(scope="module")
def worker():
    """One process for all tests that need one."""
    with Worker() as started:
        yield started


def test_some_hundred_inputs(worker):
    """None of them goes wrong; the command gives more, and other seeds."""
    tally = judged(worker, range(N_INPUTS), every=N_INPUTS)

    assert [] == tally.wrong


def test_every_kind_and_every_command_is_drawn():
    """Of a thousand seeds; a kind or a command that is added without input would be missed here."""
    inputs = [draw(seed, FILES) for seed in range(1000)]

    assert set(KINDS) == {each.kind for each in inputs}
    typed = {each.arguments[:n] for each in inputs if each.kind == "command line" for n in (1, 2)}
    assert set(leaves()) <= typed


def test_an_input_is_drawn_again_from_its_seed():
    """So that a seed is all that has to be told."""
    assert draw(7, FILES) == draw(7, FILES)


@pytest.mark.parametrize(
    ("seen", "after", "expected"),
    [
        (REFUSED, {"a": b"1"}, []),
        (replace(REFUSED, raised="KeyError at files.py:3"), {"a": b"1"}, ["raised KeyError at files.py:3"]),
        (replace(REFUSED, exit_code=7), {"a": b"1"}, ["exit code 7"]),
        (replace(REFUSED, stderr="modelops-ray: a\nb\n"), {"a": b"1"}, ["2 lines on stderr"]),
        (replace(REFUSED, stderr=""), {"a": b"1"}, ["0 lines on stderr"]),
        (
            replace(REFUSED, stderr="modelops-ray: plan\x1b\n"),
            {"a": b"1"},
            ["what is said has control characters"],
        ),
        (replace(REFUSED, stderr="modelops-ray: it is bad\n"), {"a": b"1"}, ["the line names no place"]),
        (REFUSED, {"a": b"2"}, ["refused, and changed a"]),
        (REFUSED, {}, ["refused, and changed a"]),
        (replace(REFUSED, exit_code=0), {"a": b"1", "b/.x.tmp": b""}, ["left b/.x.tmp"]),
        (replace(REFUSED, seconds=1.5), {"a": b"1"}, ["took 1.5 s"]),
        (replace(REFUSED, peak_bytes=400 * 10**6), {"a": b"1"}, ["took 400 MB"]),
    ],
)
def test_what_counts_as_wrong(seen, after, expected):
    """Each promise that is broken is told."""
    assert expected == wrong_in(PLAN, seen, {"a": b"1"}, after, n_simulations=0)


def test_a_session_that_finds_damage_only_after_it_began_is_wrong():
    """A commit is there that only says that a session began; an error of the model, say, may come later."""
    broken = Input(7, "part", ("run", "study.json"), {"run/attempts/p.parquet": Change("file", b"x")})
    begun = {"a": b"1", "run/_commits/000002.json": b"{}"}
    damaged = replace(REFUSED, stderr="modelops-ray: run/attempts/p.parquet: it is damaged\n")

    expected = ["began, and only then refused run/attempts/p.parquet"]
    assert expected == wrong_in(broken, damaged, {"a": b"1"}, begun, n_simulations=0)
    late = replace(REFUSED, stderr="modelops-ray: study.json: stuck\n")
    assert [] == wrong_in(broken, late, {"a": b"1"}, begun, n_simulations=0)


def test_an_option_or_a_file_is_a_place():
    """By its name, or as it is shown where it has characters that cannot be; an option also where it was not given."""
    assert names_the_place(PLAN, REFUSED)
    assert names_the_place(Input(1, "", ("plan", "ftp://x")), replace(REFUSED, stderr="ftp:/x: no such file"))
    assert names_the_place(Input(1, "", ("submit", "s")), replace(REFUSED, stderr="no --out: give a path"))
    assert not names_the_place(replace(PLAN, arguments=("status", "run")), replace(REFUSED, stderr="it is bad"))


def test_an_input_that_goes_wrong_is_shrunk():
    """What does not matter is left out, to the byte that does."""
    asked = Input(1, "", ("plan", "study.json", "--json"), {"a": Change("gone"), "b": Change("file", b"12x345")})
    small = shrunk(asked, lambda each: "b" in each.changes and b"x" in each.changes["b"].content, most_s=10)

    assert Input(1, "", ("plan",), {"b": Change("file", b"x")}) == small


def test_what_is_kept_of_an_input_shows_it_again(worker, tmp_path):
    """The script runs the real command in the folder as it was."""
    answer = worker.ask(input=PLAN.to_json(), keep=str(tmp_path / "kept"))
    done = worker.ask(input=PLAN.to_json())

    assert 1 == done["exit_code"]
    again = subprocess.run(["bash", "-c", answer["script"]], capture_output=True, text=True, check=False)
    assert (1, done["stderr"]) == (again.returncode, again.stderr)
    assert f"cd {shlex.quote(str(tmp_path / 'kept'))} && " in answer["script"]


def test_a_process_that_an_input_ends_is_told_of_it(worker):
    """And the next input has a process again."""
    assert ["ended the process with -9"] == worker.ask(input=PLAN.to_json(), die=True)["wrong"]
    assert [] == worker.ask(input=PLAN.to_json())["wrong"]


def test_a_tree_is_written_as_it_was_read():
    """But for its spaces: a change is then all that differs."""
    assert '{"a": [1, {"b": null}], "c": "x"}' == trees.written(trees.tree_of({"a": [1, {"b": None}], "c": "x"}))


def test_commits_are_sealed_over_one_another():
    """Each is as the program would have written it."""
    commits = {"1.json": b'{"previous":"' + b"0" * 64 + b'","a":1,"sha256":"x"}\n',
               "2.json": b'{"previous":"' + b"1" * 64 + b'","a":2,"sha256":"x"}\n'}  # fmt: skip
    first, second = sealed.resealed(commits, {}).values()

    assert first.startswith(b'{"previous":"' + b"0" * 64 + b'","a":1,"sha256":"')
    assert second.startswith(b'{"previous":"' + sealed._digest(first) + b'","a":2,"sha256":"')
