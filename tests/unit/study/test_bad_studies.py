"""Every way a study can be wrong is one line that names the file, the place, what was found and what would be right."""

import decimal
import json
import os

import numpy as np
import pytest

from modelops_ray.errors import StudyError
from modelops_ray.study.study import Study

GOOD = {"model": "models.sir", "scenario": "baseline", "parameter_sets": [{"params": {"beta": 0.1}}]}


def message_of(path):
    """The one line a file is refused with."""
    with pytest.raises(StudyError) as caught:
        Study.load(path)
    text = str(caught.value)
    assert 1 == len(text.splitlines())
    return text


def refusal(tmp_path, content):
    """Write a file, have it refused, and return the message without the path of the file."""
    path = tmp_path / "study.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    text = message_of(path)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_a_file_that_is_missing(tmp_path):
    """The message names the path as it was given."""
    path = tmp_path / "nowhere.json"

    assert f"{path}: no such file; give the path of a study file" == message_of(path)


def test_a_directory(tmp_path):
    """A folder is told apart from a file that is missing."""
    assert f"{tmp_path}: is a directory; give the path of a study file in it" == message_of(tmp_path)


def test_a_path_that_cannot_be_followed(tmp_path):
    """An I/O failure is named as what it is."""
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)

    assert f"{loop}: cannot be read: {os.strerror(40)}; make the file readable" == message_of(loop)


def test_a_pipe_that_has_no_writer(tmp_path):
    """It is empty: what waits for a writer would wait without end."""
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)

    assert f"{pipe}: line 1 column 1: not JSON: Expecting value; correct it there" == message_of(pipe)


def test_a_pipe_that_has_a_writer(tmp_path):
    """A study that another program makes is read as it comes."""
    reading, writing = os.pipe()
    os.write(writing, json.dumps(GOOD).encode())
    os.close(writing)

    assert Study.from_dict(GOOD).digest == Study.load(f"/dev/fd/{reading}").digest
    os.close(reading)


def test_a_device(tmp_path):
    """One that has no end is not read to its end."""
    link = tmp_path / "zero.json"
    link.symlink_to("/dev/zero")

    assert f"{link}: is a device, not a file; give the path of a study file" == message_of(link)


def test_a_file_of_more_bytes_than_any_study_has(tmp_path):
    """It is refused by its size, before it is read."""
    path = tmp_path / "holes.json"
    with path.open("wb") as file:
        file.truncate(2**40)

    assert f"{path}: found more than 1,073,741,824 bytes; expected a study file of fewer" == message_of(path)


def test_a_file_that_is_not_utf_8(tmp_path):
    """The line of the first wrong byte is given, which an editor can go to."""
    assert "line 2: found the byte 0xe9, which is not UTF-8; expected a JSON text in UTF-8" == refusal(
        tmp_path, b'{\n"model": "caf\xe9"}'
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"model": "m",\n oops}', "line 2 column 2: not JSON: Expecting property name"),
        ("", "line 1 column 1: not JSON: Expecting value"),
        ("\ufeff{}", "line 1 column 1: not JSON: Unexpected UTF-8 BOM"),
        ("[" * 100_000, "found JSON nested too deeply to be read; expected a study"),
        ('{"x": ' + "1" * 5000 + "}", "found a whole number of thousands of digits; expected numbers that fit 64 bits"),
        ("[]", "found a list; expected a study: an object with model, scenario and parameter_sets"),
        ("3", "found 3; expected a study"),
        ('{"a": 1}', "found an object that is not a study; expected one with model, scenario and parameter_sets"),
    ],
)
def test_what_is_not_json_or_not_a_study(tmp_path, content, expected):
    """Line and column where there are any, else what it is instead."""
    assert refusal(tmp_path, content).startswith(expected)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "CalibrationSpec", "parameter_sets": []},
        {"algorithm": "optuna", "scenario": "baseline"},
        {"target_data": {"observed_file": "x.csv"}, "scenario": "baseline"},
        {"max_iterations": 10, "algorithm_config": {}, "scenario": "baseline"},
    ],
)
def test_a_calibration_spec_is_called_by_its_name(tmp_path, document):
    """It is told apart by the same keys, in the same order, as ModelOps does."""
    assert "found a CalibrationSpec, which is not a study; expected a SimulationStudy with parameter_sets" == refusal(
        tmp_path, json.dumps(document)
    )


def test_a_study_is_not_taken_for_a_calibration():
    """A kind that is not CalibrationSpec is a study, with any other keys."""
    assert 1 == Study.from_json(json.dumps(GOOD | {"kind": "SimulationStudy", "algorithm": "x"})).n_replicates


def test_a_job_file_is_called_by_its_name(tmp_path):
    """What a study becomes when it is submitted is no study."""
    document = {"job_type": "simulation", "job_id": "job-1", "tasks": []}

    assert refusal(tmp_path, json.dumps(document)).startswith("found a job file, which is not a study")


A_LIST = "a list of at least one parameter set"
A_VALUE = "a number, a text, true or false"
A_FLOAT = "a finite number that fits a 64-bit float"
A_SEED = "a whole number from 0 to 18446744073709551615 (2^64-1), or null to derive it"
A_SCENARIO = "a scenario: 1 to 64 of a-z 0-9 - _ . with a letter or digit at both ends, such as baseline"
A_MODEL = "the model, such as models.sir or sir.py:simulate"
ONE_KIND = "one kind of value in all sets"
THIRD = "/parameter_sets/2"


@pytest.mark.parametrize(
    ("key", "text", "place", "found", "right"),
    [
        ("parameter_sets", "[]", "/parameter_sets", "an empty list", A_LIST),
        ("parameter_sets", "{}", "/parameter_sets", "an object", A_LIST),
        ("parameter_sets", "null", "/parameter_sets", "null", A_LIST),
        ("scenario", '"Base"', "/scenario", 'the text "Base"', A_SCENARIO),
        ("scenario", '"baseline\\n"', "/scenario", 'the text "baseline\\n"', A_SCENARIO),
        ("scenario", '"-a"', "/scenario", 'the text "-a"', A_SCENARIO),
        ("scenario", '""', "/scenario", 'the text ""', A_SCENARIO),
        ("scenario", f'"{"a" * 65}"', "/scenario", f'the text "{"a" * 39}...', A_SCENARIO),
        ("scenario", "1", "/scenario", "1", A_SCENARIO),
        ("model", '""', "/model", 'the text ""', A_MODEL),
        ("model", "[1]", "/model", "a list", A_MODEL),
        ("n_replicates", "0", "/n_replicates", "0", "a whole number from 1 to 10000000"),
        ("n_replicates", "-3", "/n_replicates", "-3", "a whole number from 1 to 10000000"),
        ("n_replicates", "1.0", "/n_replicates", "1.0", "a whole number from 1 to 10000000"),
        ("n_replicates", "true", "/n_replicates", "true", "a whole number from 1 to 10000000"),
        ("n_replicates", '"3"', "/n_replicates", 'the text "3"', "a whole number from 1 to 10000000"),
        ("outputs", '"incidence"', "/outputs", 'the text "incidence"', "a list of names of outputs, or null for all"),
        ("outputs", '["a", 1]', "/outputs/1", "1", "a list of names of outputs, or null for all"),
        ("targets", "{}", "/targets", "an object", "a list of target entrypoints, or null"),
        ("sampling_method", "null", "/sampling_method", "null", "a text such as sobol, grid or manual"),
        ("metadata", "[]", "/metadata", "a list", "an object"),
    ],
)
def test_a_key_of_the_wrong_type_or_out_of_range(tmp_path, key, text, place, found, right):
    """The place is a JSON pointer."""
    rest = json.dumps({name: value for name, value in GOOD.items() if name != key})[1:-1]

    assert f"{place}: found {found}; expected {right}" == refusal(tmp_path, f'{{"{key}": {text}, {rest}}}')


@pytest.mark.parametrize(("key", "right"), [("parameter_sets", A_LIST)])
def test_a_key_that_is_missing(tmp_path, key, right):
    """What a study cannot do without."""
    document = {name: value for name, value in GOOD.items() if name != key}

    assert f"/{key}: found nothing; expected {right}" == refusal(tmp_path, json.dumps(document))


@pytest.mark.parametrize(
    ("row", "place", "found", "right"),
    [
        ('{"params": {"beta": NaN}}', f"{THIRD}/params/beta", "NaN", A_FLOAT),
        ('{"params": {"beta": -Infinity}}', f"{THIRD}/params/beta", "an infinite number", A_FLOAT),
        ('{"beta": 1e999}', f"{THIRD}/beta", "an infinite number", A_FLOAT),
        (f'{{"beta": 1{"0" * 309}}}', f"{THIRD}/beta", "a whole number of more than 30 digits", A_FLOAT),
        ('{"beta": null}', f"{THIRD}/beta", "null", A_VALUE),
        ('{"params": {"beta": [1]}}', f"{THIRD}/params/beta", "a list", A_VALUE),
        ('{"params": {"beta": {"x": 1}}}', f"{THIRD}/params/beta", "an object", A_VALUE),
        ('{"beta": "high"}', f"{THIRD}/beta", 'the text "high", where earlier parameter sets have a number', ONE_KIND),
        ('{"beta": true}', f"{THIRD}/beta", "true, where earlier parameter sets have a number", ONE_KIND),
        ('{"kind": true}', f"{THIRD}/kind", "true, where earlier parameter sets have a text", ONE_KIND),
        ('{"a/b~\\n": null}', f"{THIRD}/a~1b~0\\n", "null", A_VALUE),
        (
            '{"id": 3}',
            f"{THIRD}/id",
            "a parameter called id",
            "another name, because its column param_id is taken by the identifier",
        ),
        (
            '{"x": "\\ud800"}',
            f"{THIRD}/x",
            'the text "?", which is not Unicode',
            "a text without lone surrogates",
        ),
        (
            '{"\\ud800": 1}',
            f"{THIRD}/?",
            'the parameter name "?", which is not Unicode',
            "a name without lone surrogates",
        ),
        ('{"params": {}, "seed": -1}', f"{THIRD}/seed", "-1", A_SEED),
        ('{"params": {}, "seed": 18446744073709551616}', f"{THIRD}/seed", "18446744073709551616", A_SEED),
        ('{"params": {}, "seed": 1.0}', f"{THIRD}/seed", "1.0", A_SEED),
        ('{"params": {}, "seed": true}', f"{THIRD}/seed", "true", A_SEED),
        ('{"params": {}, "seed": "1"}', f"{THIRD}/seed", 'the text "1"', A_SEED),
        ('{"params": 0.5}', f"{THIRD}/params", "0.5", 'an object such as {"beta": 0.1}'),
        ("[0.5]", THIRD, "a list", 'an object such as {"params": {"beta": 0.1}}'),
    ],
)
def test_a_parameter_set_that_cannot_be_run(tmp_path, row, place, found, right):
    """The place is that of the value in the form the file uses."""
    text = (
        f'{{"model": "m.f", "scenario": "a", "parameter_sets": [{{"beta": 0.1, "kind": "x"}}, {{"beta": 1}}, {row}]}}'
    )

    assert f"{place}: found {found}; expected {right}" == refusal(tmp_path, text)


def test_more_simulations_than_can_be_counted(tmp_path):
    """Found from the counts alone, before any seed is derived."""
    document = GOOD | {"n_replicates": 6_000_000, "parameter_sets": [{"x": 1}, {"x": 2}]}

    assert "found 12000000 simulations; expected at most 10000000; split the study" == refusal(
        tmp_path, json.dumps(document)
    )


@pytest.mark.parametrize(
    ("axes", "options", "expected"),
    [
        ({"x": []}, {}, "Study.grid: x: found an empty list; expected at least one value"),
        ({"x": "abc"}, {}, 'Study.grid: x: found the text "abc"; expected a list of values'),
        ({"x": {1, 2}}, {}, "Study.grid: x: found a set; expected a list of values"),
        ({"x": 3}, {}, "Study.grid: x: found 3; expected a list of values"),
        ([1, 2], {}, "Study.grid: found a list; expected a mapping"),
        ({1: [1]}, {}, "Study.grid: found the parameter name 1; expected a text as name"),
        ({"id": [1]}, {}, "Study.grid: id[0]: found a parameter called id"),
        ({"x": [1.0, float("nan")]}, {}, f"Study.grid: x[1]: found NaN; expected {A_FLOAT}"),
        ({"x": np.array([np.inf])}, {}, f"Study.grid: x[0]: found an infinite number; expected {A_FLOAT}"),
        ({"x": [1, "a"]}, {}, 'Study.grid: x[1]: found the text "a", where earlier parameter sets have a number'),
        ({"x": [[1]]}, {}, f"Study.grid: x[0]: found a list; expected {A_VALUE}"),
        ({"x": np.zeros((1, 2))}, {}, f"Study.grid: x[0]: found a numpy.ndarray; expected {A_VALUE}"),
        ({"x": [decimal.Decimal(1)]}, {}, f"Study.grid: x[0]: found a decimal.Decimal; expected {A_VALUE}"),
        ({"x": [np.datetime64(0, "D")]}, {}, f"Study.grid: x[0]: found a numpy.datetime64; expected {A_VALUE}"),
        ({"x": [1]}, {"replicates": 0}, "Study.grid: /n_replicates: found 0; expected a whole number from 1"),
        ({"x": [1]}, {"scenario": "Base line"}, 'Study.grid: /scenario: found the text "Base line"'),
        ({"x": [1]}, {"outputs": "incidence"}, 'Study.grid: /outputs: found the text "incidence"'),
        ({"x": [1]}, {"outputs": [1]}, "Study.grid: /outputs/0: found 1"),
        ({"x": [1]}, {"model": 3}, "Study.grid: /model: found 3"),
        (dict.fromkeys("abcdefghi", range(10)), {}, "Study.grid: found 30000000000 simulations; expected at most"),
    ],
)
def test_a_grid_that_cannot_be_run(axes, options, expected):
    """Python callers get the same one line, with the argument and index as place."""
    with pytest.raises(StudyError) as caught:
        Study.grid(axes, **options)

    assert expected == str(caught.value)[: len(expected)]
    assert 1 == len(str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"model": "m.f", "model": "m.g"}', '/model: found the key "model" more than once; expected each key once'),
        (
            '{"parameter_sets": [{"params": {"a": 1}}, {"params": {"b": 1, "b": 2}}]}',
            '/parameter_sets/1/params/b: found the key "b" more than once; expected each key once',
        ),
        (
            json.dumps(GOOD | {"n_replicate": 3}),
            'found the key "n_replicate"; expected "n_replicates", or a key that is less like it',
        ),
        (
            json.dumps({"model": "m.f", "scenario": "a", "parameter_set": []}),
            'found the key "parameter_set"; expected "parameter_sets", or a key that is less like it',
        ),
        (
            json.dumps(GOOD | {"parameter_sets": [{"params": {"a": 1}, "seeds": 3}]}),
            '/parameter_sets/0: found the key "seeds"; expected "seed", or a key that is less like it',
        ),
    ],
)
def test_a_key_that_is_misspelt_or_there_twice(tmp_path, text, expected):
    """It would be passed over, or one of two values taken, without a word."""
    assert expected == refusal(tmp_path, text)


def test_numbers_of_numpy_are_taken_in_a_study_made_of_a_dictionary():
    """For parameters, seeds and replicates; what was given is left as it is."""
    sets = [{"params": {"a": np.float32(0.5), "b": np.int16(3)}, "seed": np.uint64(7)}, {"params": {"a": 0.5, "b": 3}}]
    document = {"scenario": "a", "n_replicates": np.int64(2), "parameter_sets": sets}
    study = Study.from_dict(document)

    assert [({"a": 0.5, "b": 3}, 7), ({"a": 0.5, "b": 3}, None)] == [tuple(each) for each in study.parameter_sets]
    assert [float, int] == [type(value) for value in study.parameter_sets[0].params.values()]
    assert np.float32 is type(sets[0]["params"]["a"])
    assert 2 == study.n_replicates
