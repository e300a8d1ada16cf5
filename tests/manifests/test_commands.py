"""The commands as a user types them: what they print, write and end with."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.commands import enter, invoke, run_locally, summary_of, write_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model, a study, and no profile yet."""
    return enter(monkeypatch, tmp_path / "work")


@pytest.fixture
def profiled(folder):
    """The same, with what a first run has measured."""
    assert 0 == run_locally().exit_code
    return folder


def test_render_without_a_profile_says_so_and_names_the_command_that_measures(folder):
    """The sizes are the shipped ones; the file is right all the same."""
    result = invoke("kuberay", "render", "study.json", "--overlay", "kind", "--out", "job.yaml")
    assert 0 == result.exit_code
    assert "nothing is known of this model" in result.stderr
    assert "`modelops-ray profile STUDY`" in result.stderr
    assert "" == result.stdout
    assert "nothing wrong in 8 objects\n" == invoke("kuberay", "check", "job.yaml").stdout


def test_render_with_a_profile_fills_in_sizes_and_check_lets_ray_judge_them(profiled):
    """From measuring to the autoscaler's answer."""
    result = invoke("kuberay", "render", "study.json", "--out", "job.yaml", "--pods", "3", "--json")
    summary = summary_of(result)
    assert summary["known"]
    assert ["mem2"] == [tier["name"] for tier in summary["tiers"]]
    assert summary["tiers"][0]["max_replicas"] <= 3
    assert summary["wall_seconds"] > 0

    assert "mem2: 8 simulations at a time in a pod of 16Gi, 1 pod\n" in invoke("kuberay", "render", "study.json").stderr

    result = invoke("kuberay", "check", "job.yaml", "--study", "study.json")
    assert (0, "") == (result.exit_code, result.stderr)
    assert [
        "job.yaml: RayJob/study grows mem2 to 1 of 1 pod",
        "nothing wrong in 8 objects",
    ] == result.stdout.splitlines()


def test_render_prints_the_manifests_where_no_file_is_given(folder):
    """For a pipe into kubectl."""
    result = invoke("kuberay", "render", "study.json", "--image", "registry.io/image:1", "--study-path", "/opt/s.json")
    assert result.stdout.startswith("# study, rendered by")
    assert 3 == result.stdout.count("image: registry.io/image:1")
    assert "modelops-ray run /opt/s.json --out /runs/study --tolerate-failures" in result.stdout


def test_options_of_the_run_travel_in_the_entrypoint(folder):
    """A first request is also something to size by."""
    write_study(folder, name="other.json")
    result = invoke("kuberay", "render", "other.json", "--memory", "20Gi", "--cpus", "0.5", "--timeout", "90")
    assert "other.json --out /runs/other --cpus 0.5 --memory 20Gi --timeout 90 --tolerate" in result.stdout
    assert "groupName: mem16\n" in result.stdout
    assert "groupName: mem4\n" not in result.stdout


def test_render_names_what_the_image_must_hold(folder):
    """The model, what it reads, and what is declared, which the entrypoint names where it lies in the image."""
    (folder / "data").mkdir()
    for name in ("data/deep.h5", "data/pop.csv"):
        (folder / name).write_text("1")
    (folder / "model.py").write_text("POP = open('data/pop.csv').read()\ndef simulate(params, seed): return {}\n")
    result = invoke("kuberay", "render", "study.json", "--include", "data/deep.h5")
    held = "data/deep.h5, data/pop.csv, model.py"
    assert f"the image must hold, at the same paths from the study: {held}\n" in result.stderr
    assert f"# The image must hold, by path from the study file: {held}\n" in result.stdout
    assert "/studies/study.json --out /runs/study --include /studies/data/deep.h5 --tolerate" in result.stdout
    missing = invoke("kuberay", "render", "study.json", "--include", "data/no.h5")
    assert (2, "") == (missing.exit_code, missing.stdout)
    assert "--include: data/no.h5 does not exist in " in missing.stderr


def test_check_prints_a_line_for_each_finding_and_ends_with_1(folder):
    """Its place, what was found, the remedy, the rule; how many at the end."""
    text = invoke("kuberay", "render", "study.json").stdout.replace("memory: 25Gi", "memory: 32Gi")
    (folder / "job.yaml").write_text(text)
    result = invoke("kuberay", "check", "job.yaml")
    assert 1 == result.exit_code
    assert (
        "job.yaml: RayJob/study /spec/rayClusterSpec/workerGroupSpecs/0/resources/memory: 32Gi promised of "
        "32Gi - 2Gi - 3.2Gi - 1.6Gi; write 25Gi or raise the limit [memory-above-formula]\n" == result.stdout
    )
    assert "modelops-ray: 1 problem in 8 objects\n" == result.stderr


def test_what_render_prints_can_be_piped_into_check(folder):
    """As into kubectl: `-` is what is piped in."""
    text = invoke("kuberay", "render", "study.json").stdout
    program = [sys.executable, "-m", "modelops_ray", "kuberay", "check", "-"]
    done = subprocess.run(program, input=text, capture_output=True, text=True, check=True)
    assert "nothing wrong in 8 objects\n" == done.stdout


def test_check_as_json_is_one_object(folder):
    """Findings with all their parts, for a program."""
    (folder / "job.yaml").write_text(invoke("kuberay", "render", "study.json").stdout.replace("HTTPMode", "HttpMode"))
    result = invoke("kuberay", "check", "job.yaml", "--json")
    assert 1 == result.exit_code
    (finding,) = summary_of(result)["findings"]
    assert ("submission-mode", "RayJob/study") == (finding["rule"], finding["object"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["render", "nothing.json"], 1, "nothing.json: no such file"),
        (
            ["render", "study.json", "--overlay", "clouds"],
            2,
            "there are azure, incident, isolation, kind, spill, token",
        ),
        (["render", "study.json", "--run-dir", "here"], 2, "--run-dir here: job has no persistent volume there"),
        (["render", "study.json", "--memory", "lots"], 2, "--memory 'lots' is not a size"),
        (["render", "study.json", "--shards", "0"], 2, "--shards"),
        (["render", "study.json", "--out", "no/folder/job.yaml"], 1, "no/folder/job.yaml: it cannot be written"),
        (["check"], 2, "see modelops-ray kuberay check --help"),
        (["check", "nothing.yaml"], 2, "nothing.yaml: no such file or folder"),
        (
            ["check", "model.py", "--study", "study.json"],
            2,
            "nothing is known of its model; `modelops-ray profile STUDY`",
        ),
    ],
)
def test_a_wrong_argument_gets_one_line(folder, arguments, code, says):
    """Names the thing, the place and the remedy."""
    result = invoke("kuberay", *arguments)
    assert (code, "", 1) == (result.exit_code, result.stdout, result.stderr.count("\n"))
    assert says in result.stderr


@pytest.mark.long
def test_the_manifests_and_schemas_are_in_the_wheel(tmp_path):
    """An installed program renders without a checkout."""
    subprocess.run(["uv", "build", "--wheel", "--out-dir", tmp_path, REPOSITORY], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    shipped = tmp_path / "site/modelops_ray/cluster/manifests/kuberay"
    assert sorted(
        path.relative_to(REPOSITORY / "kuberay") for path in (REPOSITORY / "kuberay").rglob("*.yaml")
    ) == sorted(path.relative_to(shipped) for path in shipped.rglob("*.yaml"))
    assert (tmp_path / "site/modelops_ray/cluster/manifests/schemas/LICENSE").is_file()
    program = [sys.executable, "-m", "modelops_ray", "kuberay", "check", str(shipped), "--json"]
    done = subprocess.run(program, cwd=tmp_path / "site", check=True, capture_output=True, text=True)
    assert [] == json.loads(done.stdout)["findings"]


@pytest.mark.long
def test_the_page_of_a_run_is_in_the_wheel(tmp_path):
    """An installed program writes reports without a checkout, with the licence of what draws them."""
    subprocess.run(["uv", "build", "--wheel", "--out-dir", tmp_path, REPOSITORY], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    folder = "modelops_ray/report/page/assets/"
    there = {path.name for path in (REPOSITORY / folder).iterdir()}

    assert "uPlot-LICENSE.txt" in there
    assert there == {name.removeprefix(folder) for name in zipfile.ZipFile(wheel).namelist() if name.startswith(folder)}
