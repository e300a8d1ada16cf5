"""The command line: options to knobs, outcomes to exit codes, errors to one line. Nothing is decided here."""

from __future__ import annotations

import click

import modelops_ray
from modelops_ray.cli.design import design
from modelops_ray.cli.directory import report, results, status
from modelops_ray.cli.jobs import jobs, submit
from modelops_ray.cli.kuberay import kuberay
from modelops_ray.cli.outcomes import Commands
from modelops_ray.cli.study import debug, plan, profile, run
from modelops_ray.cli.why import runs, why

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(modelops_ray.__version__, prog_name="modelops-ray")
def main() -> None:
    """Run simulation studies on Ray: memory measured, learned and declared; nothing lost."""


for command in (run, plan, profile, status, results, why, runs, report, design, debug, submit, jobs, kuberay):
    main.add_command(command)
