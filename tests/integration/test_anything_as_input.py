"""Anything that may be typed or lie in a file: the interface's exit codes, one line for an error, nothing made."""

import json
import os
import random
import re

import pytest
from support.commands import enter, invoke, tree

import modelops_ray as mr
from modelops_ray.errors import UsageError

TEXTS = [
    "",
    "\n",
    "a\nb",
    "\x1b[31m",
    "\udcff",
    "x" * 5000,
    "../" * 2000,
    "/dev/null",
    ".",
    " ",
    "-",
    "--",
    "\u202ex",
    "[/]",
]
NUMBERS = [
    "",
    "-1",
    "nan",
    "inf",
    "1e400",
    "9" * 400,
    "9" * 5000,
    "\u0663",
    "1_0",
    "\u00b2",
    "0x10",
    "1\n",
    "\udcff",
    "-0",
]
SIZES = ["9" * 400 + "Gi", "1e3Gi", "\u0663Gi", "Gi", "1.", "." + "9" * 400]
SHARES = ["%", "-5%", "nan%", "inf%", "1_0%", "\u0663%", "9" * 500 + "%", "1e-400%", "5%%"]
NUMBERED = [
    "max-failures",
    "memory",
    "attempts",
    "cpus",
    "timeout",
    "per-child",
    "chunk",
    "window",
    "limit-cpus",
    "shard",
]
GOOD = {"model": "model.py:simulate", "scenario": "baseline", "parameter_sets": [{"params": {"beta": 0.5}}]}
DASHBOARD = ("--address", "http://127.0.0.1:1")


def some(values, n):
    """All of them, of which all but the first few are for the longer suite."""
    return [*values[:n], *(pytest.param(value, marks=pytest.mark.long) for value in values[n:])]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a good model and a good study."""
    return enter(monkeypatch, tmp_path / "work")


def refused_or_done(work, *arguments, code=(1, 2)):
    """Call a command, which ends as it may; what it says where it is refused."""
    before = tree(work)
    result = invoke(*arguments)
    shown = [argument[:60] for argument in arguments]

    assert result.exit_code in code, (shown, result.exit_code, result.stderr)
    assert before == tree(work), shown
    if result.exit_code in {1, 2}:
        assert 1 == len(result.stderr.splitlines()), (shown, result.stderr)
        assert result.stderr[:-1].isprintable(), shown
        assert 2100 > len(result.stderr), shown
    return result.stderr


@pytest.mark.parametrize("option", some(NUMBERED, 4))
def test_numbers_of_any_kind(work, option):
    """Of 400 digits, of 5,000, none, negative, in other scripts, with a line break."""
    values = NUMBERS + (SIZES if option == "memory" else SHARES if option == "max-failures" else [])
    for value in values:
        refused_or_done(work, "plan", "study.json", f"--{option}", value, code=(0, 1, 2))


@pytest.mark.parametrize("value", ["9" * 400, "9" * 5000, "1_0", "\u0663", "1e3"])
def test_more_failures_than_there_are_digits_for(work, value):
    """It is no number of failures, and the line says what is."""
    line = refused_or_done(work, "run", "study.json", "--backend", "local", "--max-failures", value)

    assert line.endswith("must be a whole number from 1, or a percentage such as 5%\n")
    assert 200 > len(line)


@pytest.mark.parametrize("value", some(NUMBERS, 3))
def test_numbers_of_other_commands(work, value):
    """Samples, pods and shards."""
    for arguments in (
        ("profile", "study.json", "--backend", "local", "--samples", value),
        ("kuberay", "render", "study.json", "--pods", value),
        ("submit", "study.json", *DASHBOARD, "--out", "/r", "--shards", value),
    ):
        if value not in {"\u0663", "1_0", "1\n"}:  # these are numbers to Python
            refused_or_done(work, *arguments)


@pytest.mark.parametrize("text", some(TEXTS, 5), ids=lambda text: repr(text[:8]))
def test_texts_of_any_kind(work, text):
    """As studies, directories, models, addresses, identifiers and commands."""
    for arguments in (
        ("run", text),
        ("status", text),
        ("results", text),
        ("plan", "study.json", "--model", text),
        ("plan", "study.json", "--model", f"{text}.py:simulate"),
        ("plan", "study.json", "--address", text),
        ("run", "study.json", "--backend", "local", "--only", text),
        ("run", "study.json", "--backend", "local", "--out", f"ftp://{text}"),
        ("jobs", "list", "--address", text),
        ("submit", "study.json", "--address", f"http://{text}", "--out", "/r"),
        ("kuberay", "render", "study.json", "--overlay", text),
        ("jobs", text),
    ):
        if arguments != ("jobs", "--"):
            refused_or_done(work, *arguments)
    refused_or_done(work, "kuberay", "check", text, code=(0, 1, 2))
    refused_or_done(work, "kuberay", "render", "study.json", "--image", text, code=(0, 1, 2))


STUDIES = {
    "deep list": "[" * 10**5 + "]" * 10**5,
    "deep objects": '{"a":' * 10**5 + "1" + "}" * 10**5,
    "deep metadata": json.dumps(GOOD)[:-1] + ', "metadata": ' + '{"a":' * 500 + "1" + "}" * 500 + "}",
    "surrogate in metadata": json.dumps(GOOD)[:-1] + r', "metadata": {"a": ["\ud800"]}}',
    "long number": json.dumps(GOOD).replace("0.5", "9" * 5000),
    "byte order mark": "\ufeff" + json.dumps(GOOD),
    "model with a NUL": json.dumps(GOOD).replace("model.py", r"a\u0000b.py"),
    "model of control characters": json.dumps(GOOD).replace("model.py:simulate", r"\u001b\n:\ud800"),
    "model of a long name": json.dumps(GOOD).replace("model.py", "x" * 5000 + ".py"),
    "model of a user who is none": json.dumps(GOOD).replace("model.py", "~no-such-user/x.py"),
    "parameter of a surrogate": json.dumps(GOOD).replace("beta", r"\ud800"),
    "scenario of two lines": json.dumps(GOOD).replace("baseline", r"a\nb"),
    "scenario without end": json.dumps(GOOD).replace("baseline", "x" * 10**5),
    "replicates without end": json.dumps(GOOD)[:-1] + f', "n_replicates": {"9" * 400}}}',
    "a NUL at the end": json.dumps(GOOD) + "\0",
    "nothing": "",
}


@pytest.mark.parametrize("kind", STUDIES)
def test_studies_of_any_kind(work, kind):
    """Every command that reads one refuses it before anything is made."""
    (work / "bad.json").write_text(STUDIES[kind])
    for arguments in (
        ("run", "bad.json", "--backend", "local"),
        ("plan", "bad.json"),
        ("kuberay", "render", "bad.json"),
    ):
        refused_or_done(work, *arguments)


def test_files_of_a_run_of_any_kind(work):
    """Who reads a directory of others shows what it holds, or says what is wrong with it."""
    assert 0 == invoke("run", "study.json", "--backend", "local", "--out", "run").exit_code
    rng = random.Random(22)
    values = [None, [], {}, "\x1b\n\u202e", -1, 10**30, 1e308, True, "x" * 10**4, {"a": [1]}, float("nan")]
    texts = ["[" * 10**5, '{"a":' * 10**5, "", "null", "[]", "9" * 5000, '{"format": ' + "9" * 5000 + "}", "\ufeff{}"]
    for path in sorted((work / "run").rglob("*.json")):
        before = path.read_text()
        document = json.loads(before)
        changed = [json.dumps(document | {key: rng.choice(values)}) for key in document for _ in range(2)]
        for text in texts + changed:
            path.write_text(text)
            refused_or_done(work, rng.choice(["status", "results"]), "run", code=(0, 1))
        path.write_text(before)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 200,000 values"),
        (MERGES, "more than 200,000 values"),
        ("a: &a [*a]\n", "more than 200,000 values"),
        ("[" * 10**5, "more than 100 levels deep"),
        ("- " * 10**4 + "x", "more than 100 levels deep"),
        ("x" * (17 * 2**20), "more than 16,777,216 characters"),
        ("a: " + "9" * 5000, "a value that cannot be read"),
        ("a: 2001-99-99", "it has no apiVersion and kind"),
        ("? [1, 2]\n: 3\n", "unhashable|no YAML"),
        ("a: !!python/object:os.system x", "no YAML"),
        ("a: !!bool x", "line 1: a value that cannot be read: 'x' is no bool"),
        ("a: !!timestamp 99", "line 1: a value that cannot be read: '99' is no timestamp"),
        ("a: !!map x", "no YAML"),
        ("a: !!set [x]", "line 1: a set, which JSON does not have"),
        ("{apiVersion: v1, kind: 1, metadata: {name: x}}", "/kind: found 1; it must be a text"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: [x]}}", r"/metadata/name: found ['x']; it must be a text"),
        ("a: \x1b", "no YAML"),
    ],
    ids=[
        "aliases",
        "merges",
        "circle",
        "lists",
        "dashes",
        "size",
        "number",
        "date",
        "list as a key",
        "tag",
        "no bool",
        "no time",
        "no map",
        "no set",
        "kind of a number",
        "name of a list",
        "control",
    ],
)
def test_manifests_of_any_kind(work, text, said):
    """A few lines may be more than any memory; that is said of the line at which it becomes too much."""
    (work / "bad.yaml").write_text(text)
    result = invoke("kuberay", "check", "bad.yaml")

    assert 1 == result.exit_code
    assert any(word in result.stdout for word in said.split("|")), result.stdout
    assert all(character.isprintable() or character == "\n" for character in result.stdout + result.stderr)


def test_a_manifest_that_is_a_pipe_without_a_writer(work):
    """It is empty, and is not waited for."""
    os.mkfifo(work / "pipe.yaml")

    assert "nothing wrong in 0 objects\n" == invoke("kuberay", "check", "pipe.yaml").stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "dask"}, "--backend 'dask' must be one of ray, local"),
        ({"isolation": "forks"}, "--isolation 'forks' must be one of fork, reuse, fresh, none"),
        ({"attempts": "3"}, "--attempts '3' must be a number between 1 and 1000"),
        ({"cpus": True}, "--cpus 'True' must be a number between 0.001 and 1024"),
        ({"timeout": 10**400}, "--timeout of more than 15 digits is out of range"),
        ({"address": " "}, "--address is empty"),
    ],
)
def test_a_wrong_value_from_python_is_the_error_of_the_command_line(work, options, said):
    """Before the study is even read."""
    with pytest.raises(UsageError, match=re.escape(said)):
        mr.run("nowhere.json", **options)
