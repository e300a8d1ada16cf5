"""The commands about Kubernetes: kuberay render, check, watch."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from modelops_ray.cli.options import DEBUG, JSON, STUDY, given, names_of, of_run
from modelops_ray.cli.outcomes import end, say
from modelops_ray.errors import ModelError, StorageError, UsageError
from modelops_ray.report.screen import telling, to_stderr, to_stdout
from modelops_ray.report.text import count, duration

_CARRIED = [name for name in names_of("render") if name not in {"model", "include"}]


@click.group()
def kuberay() -> None:
    """Manifests for KubeRay: sized from a profile, checked without a cluster; and the pods of a running one."""


@kuberay.command()
@STUDY
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Default: stdout.")
@click.option("--overlay", metavar="NAME", help="A shipped overlay (kind, azure, ...), or a folder of your own.")
@click.option("--image", metavar="IMAGE", help="The image of all pods, with the study, the model and modelops-ray.")
@click.option("--study-path", metavar="PATH", help="Where the study is in the image (/studies/<study>.json).")
@click.option("--run-dir", metavar="DIR|URI", help="The run directory there (/runs/<study>).")
@click.option("--shards", type=click.IntRange(1, 1000), default=1, metavar="N", help="Make N jobs, each with a part.")
@click.option("--pods", "--max-pods", "max_pods", type=click.IntRange(1, 10_000), metavar="N", help="Workers at most.")
@of_run("render", memory="First request per simulation; still raised.")
@JSON
@DEBUG
def render(study: Path, *, out: Path | None, overlay: str | None, as_json: bool, **options: Any) -> None:
    """Make manifests of STUDY, sized by what is known of its model.

    Memory tiers, pods, head, spill, disk and the entrypoint; all else is as the shipped YAML, or an overlay, has it.
    """
    from modelops_ray.cluster.manifests.files import overlay_folder
    from modelops_ray.cluster.manifests.need import MEASURE, need_of
    from modelops_ray.cluster.manifests.render import in_words, values
    from modelops_ray.cluster.manifests.render import render as fill

    folder = overlay_folder(overlay)
    question = _asked(study, options["model"], options)
    need = need_of(question)
    rendered = fill(folder, _wish(study, options, question), need)
    if out is not None:
        _write(out, rendered.text)
    with telling() as screen:
        if as_json:
            screen.json({"file": None if out is None else str(out), "known": need is not None, **values(rendered)})
            return
        if out is None:
            screen.verbatim(rendered.text)
    beside = to_stderr()
    for tier in rendered.plan.tiers if rendered.plan is not None else ():
        beside.say(f"{tier.name}: {in_words(tier)}")
    if rendered.plan is not None and rendered.plan.seconds is not None:
        beside.say(f"about {duration(rendered.plan.seconds)} once all pods are there")
    if need is None:
        say(f"nothing is known of this model, so the sizes are the shipped ones; {MEASURE}")
    for note in rendered.notes:
        say(note)
    if out is not None:
        beside.say(f"written to {out}; `modelops-ray kuberay check {out}` looks it over")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise StorageError(f"{path}: it cannot be written: {error.strerror}") from error


def _asked(study: Path, model: str | None, options: dict[str, Any]) -> Any:
    from modelops_ray import api
    from modelops_ray.session.run_config import RunConfig

    carried = {name: options.get(name) for name in (*_CARRIED, "include")}
    return api.ask_to_run(study, model, RunConfig(**given(carried))).inspected()


def _read_beside(study: Path, question: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files that the model consists of and reads, and the declared ones of them, by path from the study file."""
    from modelops_ray.cluster.jobs.sources import sources_of
    from modelops_ray.sandbox.reading import path_of

    folder = study.absolute().parent
    paths = [Path(path_of(state.path, question.model.folder)) for state in question.model.imported]
    with suppress(ModelError):  # it cannot be submitted, and may be in an image
        paths = list(sources_of(question.model, question.files).files.values())
    files = sorted(os.path.relpath(path, folder) for path in paths)
    return tuple(files), tuple(os.path.relpath(path, folder) for path in question.files)


def _require_text(options: dict[str, Any]) -> None:
    for name, value in options.items():
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"--{name.replace('_', '-')} {value}: not UTF-8, which YAML has to be") from None


def _wish(study: Path, options: dict[str, Any], question: Any) -> Any:
    _require_text(options)
    from modelops_ray.cluster.manifests.render import Wish

    carried = {f"--{name.replace('_', '-')}": _plain(options[name]) for name in _CARRIED if options[name] is not None}
    if options["model"] is not None:
        carried["--model"] = options["model"]
    files, declared = _read_beside(study, question)
    return Wish(
        files=files,
        declared=declared if options["include"] else (),
        name=re.sub(r"[^A-Za-z0-9_.-]+", "-", study.stem) or "study",
        study_path=options["study_path"],
        run_dir=options["run_dir"],
        image=options["image"],
        shards=options["shards"],
        max_pods=options["max_pods"],
        options=carried,
    )


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@kuberay.command()
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("--study", type=click.Path(path_type=Path), metavar="STUDY", help="Ask whether the groups grow for it.")
@of_run("check")
@JSON
@DEBUG
def check(
    paths: tuple[Path, ...], *, study: Path | None, model: str | None, include: tuple[str, ...], as_json: bool
) -> None:
    """Say what is wrong with manifests, without a cluster.

    By the schema, by KubeRay's own rules, by known pitfalls, and by Ray's own autoscaler. `-` is what is piped in.
    """
    from modelops_ray.cluster.manifests.check import check as look
    from modelops_ray.cluster.manifests.need import MEASURE, need_of

    need = None if study is None else need_of(_asked(study, model, {"include": include}))
    if study is not None and need is None:
        raise UsageError(f"--study {study}: nothing is known of its model; {MEASURE}")
    checked = look(paths, need)
    with telling() as screen:
        if as_json:
            screen.json(_values(checked))
        else:
            _print(screen, checked)
    if checked.findings:
        end(f"{count(len(checked.findings), 'problem')} in {count(checked.n_objects, 'object')}", 1)


def _values(checked: Any) -> dict[str, Any]:
    return {
        "objects": checked.n_objects,
        "findings": [asdict(finding) for finding in checked.findings],
        "growth": {
            where: {name: {"pods": n, "max_pods": seen.max_pods[name]} for name, n in seen.pods.items()}
            for where, seen in checked.growth
        },
    }


def _print(screen: Any, checked: Any) -> None:
    for finding in checked.findings:
        screen.say(str(finding))
    for where, seen in checked.growth:
        if not seen.problems:
            pods = ", ".join(f"{name} to {n:,} of {count(seen.max_pods[name], 'pod')}" for name, n in seen.pods.items())
            screen.say(f"{where} grows {pods}")
    if not checked.findings:
        screen.say(f"nothing wrong in {count(checked.n_objects, 'object')}")


@kuberay.command()
@click.argument("name")
@click.option("--namespace", "-n", metavar="NAMESPACE", help="Default: that of the pod or of the kubeconfig.")
@JSON
@DEBUG
def watch(name: str, *, namespace: str | None, as_json: bool) -> None:
    """Follow the RayJob NAME and its pods until it ends; exit 0 if it succeeded, else 1."""
    from modelops_ray.cluster.watch.jobwatch import follow
    from modelops_ray.cluster.watch.kube import connect

    screen = to_stderr() if as_json else to_stdout()
    ended = follow(connect(namespace), name, screen.say)
    if as_json:
        to_stdout().json(ended.values())
    if not ended.job.has_succeeded:
        raise SystemExit(1)
