"""The options of a run together."""

from pathlib import Path

import pytest
from pydantic import ValidationError

import modelops_ray as mr
from modelops_ray.config import MaxFailures, Shard, options
from modelops_ray.errors import UsageError


def test_its_fields_are_the_options_with_their_defaults():
    """Nothing given, nothing else in it."""
    assert {name: each.default for name, each in options().items()} == mr.RunConfig().model_dump()


def test_a_field_carries_its_option():
    """Range, unit and help, where a reader of the class finds them."""
    [option] = mr.RunConfig.model_fields["timeout"].metadata

    assert ((0, 10**9), "SECONDS") == (option.between, option.metavar)


def test_options_are_read_as_users_write_them():
    """Sizes become bytes; a run directory becomes a path unless it is a URI."""
    config = mr.RunConfig(out="runs/sir", memory="4Gi", max_failures="5%", shard="2/8", cpus=2)

    assert (Path("runs/sir"), 4 * 2**30) == (config.out, config.memory)
    assert (MaxFailures(5.0, percent=True), Shard(2, 8), 2.0) == (config.max_failures, config.shard, config.cpus)
    assert "s3://bucket/runs/sir" == mr.RunConfig(out="s3://bucket/runs/sir/").out


def test_one_path_or_several_may_be_included():
    """A text is one of them, not its letters."""
    assert ("data.h5",) == mr.RunConfig(include="data.h5").include
    assert ("data.h5", "more") == mr.RunConfig(include=["data.h5", Path("more")]).include


def test_it_does_not_change():
    """What was checked stays so."""
    with pytest.raises(ValidationError, match="frozen"):
        mr.RunConfig().cpus = 2.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cpus": 0}, "--cpus 0 is out of range; it must be between 0.001 and 1024"),
        ({"attempts": 2.5}, "--attempts '2.5' must be a whole number between 1 and 1000"),
        ({"fresh": 1}, "--fresh '1' must be true or false"),
        ({"only": 7}, "--only '7' must be a text"),
        ({"out": 7}, "--out '7' must be a text"),
        ({"include": 7}, "--include '7' must be a path, or a list of paths"),
        ({"include": ["a", None]}, "--include \"['a', None]\" must be a path, or a list of paths"),
        ({"out": ""}, "the run directory has no name; give a path or a URI"),
        ({"memory": "2Gi", "max_memory": "1Gi"}, "--memory 2.0 GiB is above --max-memory 1.0 GiB"),
        ({"fresh": True, "retry_failed": True}, "--fresh starts over and --retry-failed goes on; give one of them"),
    ],
)
def test_a_wrong_value_is_the_error_of_the_command_line(given, expected):
    """One line, whoever gives it."""
    with pytest.raises(UsageError) as refused:
        mr.RunConfig(**given)
    assert expected == str(refused.value)


def test_a_name_that_is_no_option_is_a_wrong_argument():
    """As of every function of Python."""
    with pytest.raises(TypeError, match="'memroy' is no option of run; out, shard, "):
        mr.RunConfig(memroy="4Gi")
