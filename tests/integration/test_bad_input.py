"""Each mistake in the input is one line on stderr before anything is started or changed on disk."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.commands import enter, invoke, tree, write_model, write_study

from modelops_ray.errors import StudyError
from tests.mutations.sealed import resealed


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a good model and a good study."""
    return enter(monkeypatch, tmp_path / "work")


@pytest.fixture
def refusal(work, monkeypatch):
    """Call a command that has to be refused where Ray cannot even be imported, and return its one line."""
    monkeypatch.setitem(sys.modules, "ray", None)
    return partial(refused, work)


def refused(folder, *arguments, code=1):
    """Call a command that has to be refused, and return the one line that it is refused with."""
    before = tree(folder)
    result = invoke(*arguments)
    assert "" == result.stdout
    assert 1 == len(result.stderr.splitlines()), result.stderr
    assert code == result.exit_code, result.stderr
    assert before == tree(folder)
    assert result.stderr.startswith("modelops-ray: ")
    return result.stderr.removeprefix("modelops-ray: ").rstrip("\n")


# Study files


@pytest.mark.parametrize("command", ["run", "plan", "profile"])
def test_a_study_that_is_missing(refusal, command):
    """Every command that takes a study names the path as it was given, and what to give instead."""
    assert "nowhere.json: no such file; give the path of a study file" == refusal(command, "nowhere.json")


def test_a_study_that_is_a_directory(refusal, work):
    """A folder is told apart from a file that is missing."""
    (work / "studies").mkdir()

    assert "studies: is a directory; give the path of a study file in it" == refusal("run", "studies")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"model": "caf\xe9"}', "line 1: found the byte 0xe9, which is not UTF-8; expected a JSON text in UTF-8"),
        (b'{"model": \n nothing}', "line 2 column 2: not JSON: Expecting value"),
        (b"[1, 2]", "found a list; expected a study: an object with model, scenario and parameter_sets"),
        (
            b'{"name": "x"}',
            "found an object that is not a study; expected one with model, scenario and parameter_sets",
        ),
    ],
    ids=["not UTF-8", "not JSON", "a list", "another object"],
)
def test_a_file_that_is_no_study(refusal, work, content, expected):
    """The line says where it stops being one."""
    (work / "bad.json").write_bytes(content)

    message = refusal("run", "bad.json")
    assert message.startswith(f"bad.json: {expected}")


FINITE = "expected a finite number that fits a 64-bit float"
SEED = "expected a whole number from 0 to 18446744073709551615 (2^64-1), or null to derive it"


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ('{"params": {"beta": NaN}}', f"/parameter_sets/1/params/beta: found NaN; {FINITE}"),
        ('{"params": {"beta": 1e999}}', f"/parameter_sets/1/params/beta: found an infinite number; {FINITE}"),
        ('{"params": {"beta": [1]}}', "/parameter_sets/1/params/beta: found a list; expected a number, a text, true"),
        ('{"params": {"beta": "x"}}', '/parameter_sets/1/params/beta: found the text "x", where earlier parameter'),
        ('{"params": {"beta": true}}', "/parameter_sets/1/params/beta: found true, where earlier parameter sets have"),
        ('{"params": {"beta": 1}, "seed": -1}', f"/parameter_sets/1/seed: found -1; {SEED}"),
        (
            '{"params": {"beta": 1}, "seed": 18446744073709551616}',
            f"/parameter_sets/1/seed: found 18446744073709551616; {SEED}",
        ),
        ('{"params": {"id": 1}}', "/parameter_sets/1/params/id: found a parameter called id; expected another name"),
    ],
)
def test_a_parameter_set_that_cannot_be_run(refusal, work, second, expected):
    """A JSON pointer leads to the value, which is shown with what would be right."""
    text = '{"model": "model.py:simulate", "scenario": "baseline", "parameter_sets": [{"params": {"beta": 1}}, %s]}'
    (work / "bad.json").write_text(text % second)

    assert refusal("run", "bad.json").startswith(f"bad.json: {expected}")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"parameter_sets": []}, "/parameter_sets: found an empty list; expected a list of at least one parameter set"),
        ({"n_replicates": 0}, "/n_replicates: found 0; expected a whole number from 1 to 10000000"),
        ({"n_replicates": -3}, "/n_replicates: found -3; expected a whole number from 1 to 10000000"),
    ],
)
def test_a_study_of_nothing(refusal, work, keys, expected):
    """Without parameter sets or replicates there is nothing to run."""
    write_study(work, name="bad.json", **keys)

    assert f"bad.json: {expected}" == refusal("run", "bad.json")


# Options


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--memroy", "1Gi"], "No such option '--memroy'.*--memory"),
        (["--nothing-like-it"], "No such option '--nothing-like-it'"),
        (["--backend", "loca"], "Invalid value for '--backend': 'loca' is not one of 'ray', 'local'"),
        (["--seeds", "7"], "Invalid value for '--seeds': '7' is not one of 'job-file', 'dask-compatible'"),
        (["--cpus", "many"], "Invalid value for '--cpus': 'many' is not a valid float"),
        (["--attempts", "2.5"], "Invalid value for '--attempts': '2.5' is not a valid integer"),
        (["--memory"], "Option '--memory' requires an argument"),
        (["--cpus", "0"], "--cpus 0 is out of range; it must be between 0.001 and 1024"),
        (["--cpus", "nan"], "--cpus nan is out of range; it must be between 0.001 and 1024"),
        (["--timeout", "-1"], "--timeout -1 is out of range; it must be between 0 and 1e.09"),
        (["--attempts", "0"], "--attempts 0 is out of range; it must be between 1 and 1000"),
        (["--chunk", "0"], "--chunk 0 is out of range; it must be between 1 and 100000"),
        (["--window", "0"], "--window 0 is out of range; it must be between 1 and 100000"),
        (["--limit-cpus", "0"], "--limit-cpus 0 is out of range; it must be between 1 and 4096"),
        (["--memory", "much"], "--memory 'much' is not a size; write it as 512Mi, 4Gi, 1.5G or a number of bytes"),
        (["--memory", "4GB"], "--memory '4GB' is not a size; write it as 512Mi, 4Gi, 1.5G or a number of bytes"),
        (["--memory", "-1Gi"], "--memory '-1Gi' is not a size; write it as 512Mi, 4Gi, 1.5G or a number of bytes"),
        (["--max-memory", "0"], "--max-memory '0' is out of range; it must be between 1 byte and 1024Pi"),
        (["--limit-memory", "2000Pi"], "--limit-memory '2000Pi' is out of range; it must be between 1 byte and 1024Pi"),
        (["--memory", "2Gi", "--max-memory", "1Gi"], "--memory 2.0 GiB is above --max-memory 1.0 GiB"),
        (["--max-failures", "0"], "--max-failures '0' must be a whole number from 1, or a percentage such as 5%"),
        (["--max-failures", "101%"], "--max-failures '101%' must be a whole number from 1, or a percentage such as 5%"),
        (["--fresh", "--retry-failed"], "--fresh starts over and --retry-failed goes on; give one of them"),
        (
            ["--only", "sim-1"],
            "--only sim-1: no simulation of the study has this task_id; `results --to FILE.csv` lists them",
        ),
    ],
)
def test_an_option_that_is_misspelt_or_out_of_range(refusal, arguments, expected):
    """Wrong usage ends with 2, names the option and says what may be given."""
    message = refusal("run", "study.json", *arguments, code=2)

    assert re.match(expected, message), message


def test_the_line_for_wrong_usage_names_the_help(refusal):
    """Click's usage text is reduced to where it can be read."""
    assert refusal("plan", code=2).endswith("see modelops-ray plan --help")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["--jsno"], "No such option '--jsno'"),
        (["run", "study.json", "more.json"], "Got unexpected extra argument (more.json)"),
        (["profile", "study.json", "--samples", "0"], "Invalid value for '--samples': 0 is not in the range"),
    ],
)
def test_a_command_that_is_not_there(refusal, arguments, expected):
    """Unknown commands, options before the command and arguments too many are wrong usage, too."""
    assert refusal(*arguments, code=2).startswith(expected)


# Models


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("nowhere.py:simulate", r"model file .*/nowhere.py does not exist; write path/to/file.py:function or"),
        ("folder.py:simulate", r"model file .*/folder.py is a folder; write path/to/file.py:function or"),
        ("model.py:simulat", r"model model.py:simulat: there is no simulat in .*/model.py; it has simulate"),
        ("model.py", r"model 'model.py' names no function; write path/to/file.py:function or"),
        ("no_such_package.sir:simulate", r"there is no module no_such_package on node .*; install it there or correct"),
        ("broken.py:simulate", r"model broken.py:simulate does not import: ZeroDivisionError: .* \(broken.py line 1\)"),
        ("syntax.py:simulate", r"model syntax.py:simulate does not import: SyntaxError: "),
        ("leaves.py:simulate", r"model leaves.py:simulate does not import: SystemExit: 7 "),
        (
            "other.py:simulate",
            r"model other.py:simulate must take \(params, seed\) or .* by position; it takes \(beta\)",
        ),
        ("other.py:value", r"model other.py:value is a int, not a function of \(params, seed\[, scenario\]\)"),
    ],
)
def test_a_model_that_cannot_be_used(refusal, work, model, expected):
    """It does not import, is not there, or takes other parameters: the line says which, and where."""
    (work / "folder.py").mkdir()
    write_model(work, "1 / 0\n", "broken.py")
    write_model(work, "def simulate(:\n", "syntax.py")
    write_model(work, "raise SystemExit(7)\n", "leaves.py")
    write_model(work, "value = 3\n\n\ndef simulate(beta):\n    return {}\n", "other.py")

    message = refusal("run", "study.json", "--model", model)
    assert re.match(expected, message), message


# Run directories


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a run that is complete, which tests copy."""
    with pytest.MonkeyPatch.context() as patch:
        folder = enter(patch, tmp_path_factory.mktemp("finished") / "work")
        assert 0 == invoke("run", "study.json", "--backend", "local", "--out", "run").exit_code
    return folder / "run"


@pytest.fixture
def run_dir(work, finished):
    """A run directory of the test's own, complete."""
    return shutil.copytree(finished, work / "run")


def test_a_directory_that_is_no_run(refusal, work):
    """A folder that holds something else is left alone."""
    (work / "papers").mkdir()
    (work / "papers" / "draft.txt").write_text("x")

    assert "papers: not a run directory, it holds draft.txt and no run.json; give another --out" == refusal(
        "run", "study.json", "--out", "papers"
    )


def test_an_out_that_is_a_file(refusal, work):
    """A file is no work for a run."""
    assert "model.py/run.json: a file is where a folder should be; choose another directory" == refusal(
        "run", "study.json", "--out", "model.py"
    )


def test_a_run_of_another_study(refusal, work, run_dir):
    """Both studies are named by their digests, with what to do about it."""
    write_study(work, [{"beta": 9.0}], name="other.json")

    assert re.fullmatch(
        r"run/run.json: run with study \w{12} \(2 simulations\), which study \w{12} \(1\) does not contain; "
        r"give another --out, or --fresh to start over",
        refusal("run", "other.json", "--out", "run"),
    )


def test_a_run_of_another_model_version(refusal, work, run_dir):
    """A model whose text changed is another model."""
    write_model(work, (work / "model.py").read_text() + "\n# mended\n")

    expected = "run: model.py has changed since 2 results used it; --accept-changes keeps them, --fresh starts over"
    assert expected == refusal("run", "study.json", "--out", "run")


def test_a_run_with_other_seeds(refusal, run_dir):
    """Results of two seed policies are never mixed."""
    message = refusal("run", "study.json", "--out", "run", "--seeds", "dask-compatible")

    assert message.startswith("run/run.json: run with seed policy job-file, this is dask-compatible; give another")


READERS = [["run", "study.json", "--out", "run"], ["status", "run"], ["results", "run"]]


@pytest.mark.parametrize("arguments", READERS, ids=lambda arguments: arguments[0])
def test_a_commit_file_that_is_broken(refusal, run_dir, arguments):
    """Half a commit is neither skipped nor guessed at, by any command that reads it."""
    commit = max((run_dir / "_commits").iterdir())
    commit.write_bytes(commit.read_bytes()[:-20])

    assert re.match(r"run/_commits/\d{6}.json: not JSON .*; restore the file from a copy", refusal(*arguments))


def test_a_commit_file_that_was_edited(refusal, run_dir):
    """A commit that is still JSON but not as it was written is found by its seal."""
    commit = run_dir / "_commits" / "000002.json"
    edited = commit.read_bytes().replace(b'"bytes":', b'"bytes":1', 1)
    assert edited != commit.read_bytes()
    commit.write_bytes(edited)

    assert "run/_commits/000002.json: it is not as it was written; restore the file from a copy" in refusal(
        "run", "study.json", "--out", "run"
    )


def test_a_commit_file_that_is_missing(refusal, run_dir):
    """A gap in the log is named by the file that should be there."""
    (run_dir / "_commits" / "000001.json").unlink()

    message = refusal("run", "study.json", "--out", "run")
    assert message.startswith("run/_commits/000001.json: it is missing, the next commit found is 000002.json")


@pytest.mark.parametrize("arguments", [READERS[0], READERS[2]], ids=["run", "results"])
def test_a_part_that_is_missing(refusal, run_dir, arguments):
    """Results that a commit names and the directory does not have are an error, not fewer rows."""
    part = next((run_dir / "simulations").iterdir())
    part.unlink()

    message = refusal(*arguments)
    assert f"run/simulations/{part.name}" in message
    assert "restore the file from a copy, or start over with --fresh" in message


def test_a_part_that_was_cut_short(refusal, run_dir):
    """A part of another size than its commit says is named, with both sizes, before anything runs."""
    part = next((run_dir / "simulations").iterdir())
    n = part.stat().st_size
    part.write_bytes(part.read_bytes()[:-1])

    assert re.fullmatch(
        rf"run/simulations/{part.name}: not what run/_commits/\d{{6}}.json says, it has {n - 1:,} bytes instead of "
        f"{n:,}; restore the file from a copy, or start over with --fresh",
        refusal("run", "study.json", "--out", "run"),
    )


def test_a_part_that_its_commit_names_and_that_is_no_parquet(refusal, run_dir):
    """Commits that were sealed over a damaged part name it as it is; Arrow's own message is in the line."""
    part = next((run_dir / "simulations").iterdir())
    exchange(run_dir, part, part.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1")

    assert re.fullmatch(
        rf"run/simulations/{part.name}: not what run/_commits/\d{{6}}.json says, it cannot be read as Parquet \(.+\); "
        "restore the file from a copy, or start over with --fresh",
        refusal("results", "run"),
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pa.table({"task_id": ["a", "b"]}), "it has no column status"),
        (pa.table({"task_id": ["a"] * 7, "status": ["completed"] * 7}), r"it has 7 rows instead of \d"),
    ],
    ids=["another table", "other rows"],
)
def test_a_part_that_its_commit_names_and_that_holds_something_else(refusal, run_dir, table, expected):
    """It is told from the table it should be a part of by its columns and the number of its rows."""
    part = next((run_dir / "simulations").iterdir())
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    exchange(run_dir, part, sink.getvalue().to_pybytes())

    assert re.search(f"says, {expected}; restore", refusal("results", "run"))


def exchange(run_dir, part, content):
    """Put something else in the place of a part, with commits that name it as it is then."""
    part.write_bytes(content)
    commits = {str(path): path.read_bytes() for path in (run_dir / "_commits").iterdir()}
    for path, sealed in resealed(commits, {str(part.relative_to(run_dir)): content}).items():
        Path(path).write_bytes(sealed)


def test_a_part_with_other_content_of_the_same_size(refusal, run_dir):
    """Reading verifies what a commit promises, bit for bit."""
    part = next((run_dir / "simulations").iterdir())
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)

    assert f"run/simulations/{part.name}" in refusal("results", "run")


@pytest.mark.parametrize("arguments", READERS, ids=lambda arguments: arguments[0])
def test_a_run_of_a_newer_format(refusal, run_dir, arguments):
    """An older program does not touch what a newer one wrote."""
    path = run_dir / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))

    assert refusal(*arguments).startswith(
        "run/run.json: written in format 3, this version of modelops-ray reads up to 2; install a newer version"
    )


@pytest.mark.parametrize("command", ["status", "results"])
def test_reading_what_is_no_run(refusal, work, command):
    """A folder without a run, and a folder that is not there, are named."""
    assert refusal(command, "nowhere").startswith("nowhere: ")
    assert refusal(command, ".").startswith(".: ")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--output", "nothing"], 2, "output 'nothing'.*doubled"),
        (["--to", "table.txt"], 2, "table.txt.*.parquet, .csv, .arrow"),
        (["--to", "model.py/table.csv"], 1, "model.py/table.csv: "),
        (["--to", "run"], 2, "run.*.parquet, .csv, .arrow"),
    ],
)
def test_results_that_cannot_be_exported(refusal, run_dir, arguments, code, expected):
    """An output that is not there, or a file that cannot be written, is named."""
    message = refusal("results", "run", *arguments, code=code)

    assert re.search(expected, message), message


# Addresses


@pytest.mark.parametrize("scheme", ["ray", "http"])
def test_an_address_that_only_submit_takes(work, scheme):
    """The driver has to run on the cluster; the line has the command that makes it so."""
    assert (
        f"--address {scheme}://head:10001 is not of a machine of the cluster; "
        "use modelops-ray submit STUDY --address http://head:8265"
    ) == refused(work, "run", "study.json", "--address", f"{scheme}://head:10001", code=2)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_address_where_no_ray_is(work, command):
    """Found within seconds, before the run directory is made."""
    message = refused(work, command, "study.json", "--address", "127.0.0.1:1")

    assert re.fullmatch(r"no Ray answers at 127.0.0.1:1; is its head running, and is it the GCS port\?", message)


# The process itself


def test_a_refusal_starts_nothing_and_imports_no_ray(tmp_path):
    """A real process with the default backend refuses without the seconds that importing Ray takes."""
    study = write_study(tmp_path, model="nowhere.py:simulate")
    # What is printed when Python ends goes to stderr.
    script = "import sys, atexit; atexit.register(lambda: print('ray' in sys.modules)); import modelops_ray.cli as c"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; c.main()", "run", str(study)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert (1, "", ["False"]) == (done.returncode, done.stdout, done.stderr.splitlines()[1:])
    assert ["study.json"] == [path.name for path in tmp_path.iterdir()]


def test_debug_shows_the_traceback(work):
    """A developer of the program asks for more than one line."""
    with pytest.raises(StudyError, match=r"nowhere\.json: no such file"):
        invoke("run", "nowhere.json", "--debug")
