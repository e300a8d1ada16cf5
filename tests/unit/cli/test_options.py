"""The options of the commands, held against those that `config` declares."""

import subprocess
import sys
from typing import Annotated

import click
import pytest

from modelops_ray import config
from modelops_ray.cli import main
from modelops_ray.cli.options import of_run
from modelops_ray.config import Fields, Option, options

OWN = {
    "run": {"study", "as_json", "quiet", "debug"},
    "plan": {"study", "as_json", "debug"},
    "profile": {"study", "samples", "as_json", "debug"},
    "submit": {"study", "address", "out", "ephemeral", "follow", "wait", "shards", "install", "as_json", "debug"},
    "kuberay render": {
        "study", "out", "overlay", "image", "study_path", "run_dir", "shards", "max_pods", "as_json", "debug",
    },
    "kuberay check": {"paths", "study", "as_json", "debug"},
}  # fmt: skip
"""What of the options of a command is none of a run's."""


def command(name):
    """A command by its words."""
    found = main
    for word in name.split():
        found = found.commands[word]
    return found


def test_every_field_is_an_option_of_run():
    """There is none that only Python has."""
    assert set(options()) == {each.name for each in command("run").params} - OWN["run"]


@pytest.mark.parametrize("name", OWN)
def test_every_option_of_a_run_comes_from_its_field(name):
    """In flag, type, choices and help; a command adds those of its own, and no other."""
    found = {each.name: each for each in command(name).params if each.name not in OWN[name]}

    assert found
    for each, parameter in found.items():
        option = options()[each]
        assert name.split()[-1] in option.commands
        assert [option.flag] == parameter.opts
        assert list(option.choices) == list(getattr(parameter.type, "choices", []))
        assert (option.kind is bool) == parameter.is_flag
        assert option.shown_help == parameter.help or (name, each) == ("kuberay render", "memory")


def test_an_option_is_one_edit(monkeypatch):
    """A field more is an option more of each command that it names, and its default stands in the help."""

    class More(Fields):
        one_more: Annotated[float, Option("Seconds without a commit ({}).", "SECONDS", between=(1, 9))] = 5.0

    monkeypatch.setattr(config, "Fields", More)
    monkeypatch.setattr("modelops_ray.cli.options.options", config.options.__wrapped__)
    for name in ("run", "plan", "profile", "submit"):
        added = click.command()(of_run(name)(lambda: None)).params[-1]
        assert ("one_more", click.FLOAT, "SECONDS") == (added.name, added.type, added.metavar)
        assert "Seconds without a commit (5)." == added.help
    assert "one_more" not in {each.name for each in click.command()(of_run("render")(lambda: None)).params}


def test_the_help_needs_nothing_that_is_slow_to_import():
    """The options are declared without what checks them: a refusal of click's, too, comes at once."""
    program = "import sys, modelops_ray.cli; print(*sorted(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert not {"pydantic", "pydantic_core", "pyarrow", "numpy", "ray"} & set(ended.stdout.split())
