"""Which files travel with a model, and which packages they import."""

import dataclasses
import sys

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
