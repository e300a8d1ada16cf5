"""Which files travel with a model, and which packages they import."""

import dataclasses
import sys
import textwrap

import pytest

from modelops_ray.cluster.jobs.sources import imported_names, sources_of
from modelops_ray.errors import ModelError
from modelops_ray.model.resolve import find_model, resolve_model
from modelops_ray.sandbox.loading import ModelRef, digest_of, forget_model

MODEL = """
import json

import helper
from pyarrow import compute


def simulate(params, seed):
    import pydantic.fields, no_such_module
    return {"x": {"y": 1}}
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a model in one file, and much besides."""
    place = tmp_path / "project"
    (place / "sub" / "__pycache__").mkdir(parents=True)
    (place / "model.py").write_text(MODEL)
    (place / "helper.py").write_text("from sub import deep\n")
    (place / "sub" / "deep.py").write_text("import rich\nfrom . import nothing\n")
    (place / "sub" / "__pycache__" / "deep.py").write_text("import click\n")
    (place / "data.csv").write_text("a,b\n")
    return place


def moved(ref, files, to):
    """Lay the files out elsewhere, as a job does, and digest the model there."""
    for name, path in files.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(path.read_bytes())
    place = {"location": str(to / "model" / "model.py")} if ref.kind == "file" else {"root": str(to)}
    forget_model()
    return digest_of(dataclasses.replace(ref, **place))


def test_imports_are_found_wherever_they_stand():
    """At the top, in a function, in a condition; relative ones are the package's own."""
    source = "import a.b, c as d\nfrom e.f import g\nfrom . import h\nif 1:\n  def f():\n    import i\n"
    assert {"a", "c", "e", "i"} == imported_names(source)
    assert set() == imported_names("not Python")


def test_a_model_in_a_file_travels_with_the_python_files_of_its_folder(folder, tmp_path):
    """It is the same model there, and what its files import is known, even if only a function does."""
    ref = find_model("model.py:simulate", folder)
    found = sources_of(ref)
    assert {"model/model.py", "model/helper.py", "model/sub/deep.py"} == found.files.keys()
    assert {"pyarrow", "pydantic", "rich"} == found.versions.keys()
    assert ("model/model.py:simulate", ("data.csv",)) == (found.model, found.left_here)
    assert ref.digest == moved(ref, found.files, tmp_path / "there")


def test_a_model_in_a_package_travels_as_that_package_with_what_of_the_author_it_imports(tmp_path):
    """A module beside it is not part of its digest, and it would not run without."""
    (tmp_path / "epi_models" / "sub").mkdir(parents=True)
    (tmp_path / "epi_models" / "__init__.py").write_text("")
    (tmp_path / "epi_models" / "sir.py").write_text(
        "import epi_tools\n\n\ndef simulate(params, seed):\n    return {}\n"
    )
    (tmp_path / "epi_models" / "sub" / "more.py").write_text("")
    (tmp_path / "epi_tools.py").write_text("import rich\n")
    (tmp_path / "unrelated.py").write_text("import click\n")
    ref = resolve_model("epi_models.sir:simulate", tmp_path)
    found = sources_of(ref)
    own = {"epi_models/__init__.py", "epi_models/sir.py", "epi_models/sub/more.py"}
    assert own | {"epi_tools.py"} == found.files.keys()
    assert ("epi_models.sir:simulate", {"rich"}) == (found.model, found.versions.keys())
    there = tmp_path / "there"
    there.mkdir()
    monkey = list(sys.path)
    assert ref.digest == moved(ref, found.files, there)
    assert monkey == [entry for entry in sys.path if entry != str(there)]
    forget_model()


def test_a_package_in_several_folders_is_refused(tmp_path, monkeypatch):
    """It could not keep its digest."""
    for place in ("one", "two"):
        (tmp_path / place / "epi_spread").mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / place))
    (tmp_path / "one" / "epi_spread" / "sir.py").write_text("def simulate(params, seed):\n    return {}\n")
    ref = find_model("epi_spread.sir:simulate", tmp_path)
    with pytest.raises(ModelError, match=r"^package epi_spread lies in 2 folders .*; bring it into one$"):
        sources_of(ref)


def test_a_model_that_no_file_defines_is_refused():
    """A command line could not name it."""
    ref = ModelRef("pickled", "lambda", "main.lambda", "0" * 64, "lambda", pickled=b"x")
    with pytest.raises(ModelError, match=r"is in no file that could travel; define it at the top level of a \.py file"):
        sources_of(ref)


def test_what_a_model_reads_travels_to_the_same_relative_path(tmp_path):
    """What its import opens, what its sources mention, what is declared; also where that lies beside its folder."""
    place = tmp_path / "project" / "models"
    (place / "data").mkdir(parents=True)
    source = """
        import os
        from pathlib import Path
        TABLE = (Path(__file__).parent / "table.csv").read_text()
        def simulate(params, seed):
            return {"r": {"x": open(os.path.join("data", "late.csv")).read() + open("../shared.csv").read()}}
    """
    (place / "model.py").write_text(textwrap.dedent(source))
    beside = ("table.csv", "data/late.csv", "data/other.csv", "notes.csv", "../shared.csv", "../deep.h5")
    for name in beside:
        (place / name).write_text("1")
    (place / "../shared.csv").write_text("1")
    ref = resolve_model("model.py:simulate", place)
    found = sources_of(ref, [str(tmp_path / "project" / "deep.h5")])
    assert ("project/models", "project/models/model.py:simulate") == (found.folder, found.model)
    own = {f"project/models/{name}" for name in ("model.py", "table.csv", "data/late.csv")}
    assert own | {"project/deep.h5", "project/shared.csv"} == found.files.keys()
    assert (("project/deep.h5",), ("notes.csv",), ()) == (found.declared, found.left_here, found.far)
    assert all(path.is_file() for path in found.files.values())


def test_what_a_model_reads_far_away_is_named_and_stays(tmp_path):
    """A job's working directory has no place for it."""
    place = tmp_path / "a/b/c/d/e"
    place.mkdir(parents=True)
    (place / "model.py").write_text("def simulate(params, seed): return {}\n")
    (tmp_path / "far.h5").write_text("1")
    found = sources_of(resolve_model("model.py:simulate", place), [str(tmp_path / "far.h5")])
    assert ((str(tmp_path / "far.h5"),), (), {"model/model.py"}) == (found.far, found.declared, set(found.files))


def test_a_package_that_reads_beside_its_folder_is_refused(tmp_path):
    """The folder it is imported from is the job's working directory itself."""
    (tmp_path / "p" / "epi_far").mkdir(parents=True)
    (tmp_path / "p" / "epi_far" / "__init__.py").write_text("def simulate(params, seed): return {}\n")
    (tmp_path / "x.csv").write_text("1")
    ref = resolve_model("epi_far:simulate", tmp_path / "p")
    with pytest.raises(ModelError, match=r"^model epi_far:simulate reads \.\./x\.csv, which is not below .*; move it"):
        sources_of(ref, [str(tmp_path / "x.csv")])
