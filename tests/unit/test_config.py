"""The options of a run as they are declared, and what is read of a value."""

from typing import get_type_hints

import pytest

from modelops_ray.config import AllOptions, JobOptions, MaxFailures, Options, Shard, options
from modelops_ray.errors import UsageError

IN_SIGNATURES = {"model", "out", "tolerate_failures"}


def names_of(command):
    """The options that a command takes."""
    return {each.name for each in options().values() if command in each.commands}


def test_the_keyword_arguments_of_the_python_functions_are_the_options():
    """A type checker knows each of them: those of `run` from this machine, and those of a job."""
    assert set(options()) == set(get_type_hints(AllOptions))
    assert (names_of("run") - IN_SIGNATURES) == set(get_type_hints(Options))
    assert (names_of("submit") - IN_SIGNATURES) | {"shard"} == set(get_type_hints(JobOptions))


def test_the_default_in_the_help_is_that_of_the_field():
    """Where a line of `--help` names one."""
    shown = {name: each.shown_help for name, each in options().items() if "{}" in each.help}

    assert "CPUs per simulation (1)." == shown["cpus"]
    assert "Per simulation (1800), 0 for none." == shown["timeout"]
    assert "Attempts that run out of memory or crash (5)." == shown["attempts"]
    assert "Seed policy (job-file)." == shown["seeds"]


def test_a_default_is_one_of_the_values_that_may_be_given():
    """It is in the range, or one of the choices."""
    defaults = {name: each.default for name, each in options().items() if each.number or each.choices}

    assert defaults == {name: options()[name].value_of(default) for name, default in defaults.items()}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("memory", "1.5Gi", 1610612736),
        ("memory", 5_000_000, 5_000_000),
        ("max_failures", "5%", MaxFailures(5.0, percent=True)),
        ("max_failures", 7, MaxFailures(7.0, percent=False)),
        ("shard", "2/8", Shard(2, 8)),
        ("shard", Shard(2, 8), Shard(2, 8)),
        ("address", "auto", "auto"),
        ("window", None, None),
        ("cpus", 0.001, 0.001),
    ],
)
def test_what_is_given_is_read_as_on_the_command_line(name, given, expected):
    """A text, or what Python has in its place."""
    assert expected == options()[name].value_of(given)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("cpus", 1025, "--cpus 1025 is out of range; it must be between 0.001 and 1024"),
        ("window", 10**400, "--window of more than 15 digits is out of range; it must be between 1 and 100000"),
        ("attempts", True, "--attempts 'True' must be a number between 1 and 1000"),
        ("attempts", None, "--attempts 'None' must be a number between 1 and 1000"),
        ("isolation", "forks", "--isolation 'forks' must be one of fork, reuse, fresh, none"),
        (
            "limit_memory",
            "4GB",
            "--limit-memory '4GB' is not a size; write it as 512Mi, 4Gi, 1.5G or a number of bytes",
        ),
        ("address", " ", "--address is empty; give auto or HOST:PORT, or leave the option out"),
        ("shard", "0/4", "--shard '0/4' must be I/N with I from 1 to N and N up to 10,000, such as 2/8"),
        ("max_failures", "0", "--max-failures '0' must be a whole number from 1, or a percentage such as 5%"),
        ("seeds", "x" * 99, f"--seeds '{'x' * 60}...' must be one of job-file, dask-compatible"),
    ],
)
def test_what_may_not_be_given_is_refused_in_the_words_of_the_option(name, given, expected):
    """The line names the option as on the command line, what was given, and what may be."""
    with pytest.raises(UsageError) as refused:
        options()[name].value_of(given)
    assert expected == str(refused.value)
