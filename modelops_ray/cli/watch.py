"""The command `kuberay watch`: the life of a RayJob and of its pods, a line for each thing that happens."""

from __future__ import annotations

import click

from modelops_ray.cli.options import DEBUG, JSON


@click.command()
@click.argument("name")
@click.option("--namespace", "-n", metavar="NAMESPACE", help="Default: that of the pod or of the kubeconfig.")
@JSON
@DEBUG
def watch(name: str, *, namespace: str | None, as_json: bool) -> None:
    """Follow the RayJob NAME and its pods until it ends; exit 0 if it succeeded, else 1."""
    from modelops_ray.cluster.watch.jobwatch import follow
    from modelops_ray.cluster.watch.kube import connect
    from modelops_ray.report.screen import to_stderr, to_stdout

    screen = to_stderr() if as_json else to_stdout()
    ended = follow(connect(namespace), name, screen.say)
    if as_json:
        to_stdout().json(ended.values())
    if not ended.job.has_succeeded:
        raise SystemExit(1)
