"""The commands about KubeRay: a group, each command in a file of its own."""

from __future__ import annotations

import click

from modelops_ray.cli.watch import watch


@click.group()
def kuberay() -> None:
    """Manifests and pods of KubeRay."""


kuberay.add_command(watch)
