"""What the digest of a model depends on, and what it does not."""

from __future__ import annotations

import os

import pytest
from support.models import write

from modelops_ray.errors import ModelError
from modelops_ray.sandbox import digest
from modelops_ray.sandbox.digest import digest_folder

SIR = "def simulate(params, seed):\n    return {'x': 1}\n"


def test_the_digest_does_not_depend_on_where_the_folder_lies(tmp_path):
    """The same files in two places are the same model."""
    write(tmp_path / "a" / "sir.py", SIR)
    write(tmp_path / "b" / "deep" / "sir.py", SIR)

    assert digest_folder(tmp_path / "a", "sir.simulate") == digest_folder(tmp_path / "b" / "deep", "sir.simulate")


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("helper.py", True),
        ("sub/helper.py", True),
        ("data.csv", False),
        (".hidden/helper.py", False),
        (".#sir.py", False),
        ("__pycache__/helper.py", False),
        ("venv/lib/python3.11/site-packages/helper.py", False),
        ("node_modules/helper.py", False),
    ],
)
def test_what_belongs_to_a_model(tmp_path, path, matters):
    """Python files of the folder count, tools' and hidden files do not."""
    write(tmp_path / "sir.py", SIR)
    before = digest_folder(tmp_path, "sir.simulate")

    write(tmp_path / path, "x = 1")

    assert matters == (digest_folder(tmp_path, "sir.simulate") != before)


def test_a_virtual_environment_of_any_name_is_not_the_models(tmp_path):
    """What holds a pyvenv.cfg is skipped."""
    write(tmp_path / "sir.py", SIR)
    before = digest_folder(tmp_path, "sir.simulate")

    write(tmp_path / "my-env" / "pyvenv.cfg", "")
    write(tmp_path / "my-env" / "bin" / "activate_this.py", "x = 1")

    assert before == digest_folder(tmp_path, "sir.simulate")


def test_renaming_a_file_changes_the_digest(tmp_path):
    """Names are part of a model, not only contents."""
    write(tmp_path / "sir.py", SIR)
    helper = write(tmp_path / "a.py", "x = 1")
    before = digest_folder(tmp_path, "sir.simulate")

    helper.rename(tmp_path / "b.py")

    assert before != digest_folder(tmp_path, "sir.simulate")


def test_two_functions_of_one_folder_are_two_models(tmp_path):
    """The function's name is part of the digest."""
    write(tmp_path / "sir.py", SIR)

    assert digest_folder(tmp_path, "sir.simulate") != digest_folder(tmp_path, "sir.other")


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("MAX_FILES", 2, "more than 2 Python files"),
        ("MAX_FILES_BYTES", 100, "more than 100 bytes of Python files"),
        ("MAX_ENTRIES", 2, "more than 2 files"),
    ],
)
def test_a_folder_that_is_too_large_is_refused(tmp_path, monkeypatch, limit, value, says):
    """A model in a home folder is told to move, with anything else in that folder."""
    monkeypatch.setattr(digest, limit, value)
    for i in range(3):
        write(tmp_path / f"m{i}.py", SIR)

    with pytest.raises(ModelError, match=f"{says}; move the model into a folder of its own"):
        digest_folder(tmp_path, "m0.simulate")


def test_a_file_that_cannot_be_read_is_an_error_and_not_absent(tmp_path):
    """A dangling link stands for any unreadable file: it is named."""
    write(tmp_path / "sir.py", SIR)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")

    with pytest.raises(ModelError, match=r"gone\.py cannot be read"):
        digest_folder(tmp_path, "sir.simulate")


def test_a_linked_package_is_part_of_the_model(tmp_path):
    """A change in a package that is linked in, as shared code often is, changes the digest."""
    write(tmp_path / "model/sir.py", SIR)
    rates = write(tmp_path / "shared/rates/base.py", "R0 = 2\n")
    (tmp_path / "model/rates").symlink_to(rates.parent)
    before = digest_folder(tmp_path / "model", "sir.simulate")

    rates.write_text("R0 = 3\n")

    assert before != digest_folder(tmp_path / "model", "sir.simulate")


def test_linked_data_is_no_part_of_the_model(tmp_path):
    """Nor is an environment: only a link to a folder with Python files is followed, for anything may be behind it."""
    write(tmp_path / "model/sir.py", SIR)
    before = digest_folder(tmp_path / "model", "sir.simulate")
    write(tmp_path / "share/census/convert.py", "pass\n")
    write(tmp_path / "env/site-packages/six.py", "pass\n")

    (tmp_path / "model/data").symlink_to(tmp_path / "share")
    (tmp_path / "model/lib").symlink_to(tmp_path / "env/site-packages")

    assert before == digest_folder(tmp_path / "model", "sir.simulate")


def test_links_that_lead_back_end(tmp_path):
    """A folder is not looked into again below itself; by another name beside it, it is."""
    write(tmp_path / "sir.py", SIR)
    for name, other in (("one", "two"), ("two", "one")):
        write(tmp_path / name / "part.py", SIR)
        (tmp_path / name / "other").symlink_to(tmp_path / other)
    (tmp_path / "up").symlink_to(tmp_path)

    found = [str(path.relative_to(tmp_path)) for path in digest.python_files(tmp_path)]

    assert found == ["one/other/part.py", "one/part.py", "sir.py", "two/other/part.py", "two/part.py"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    """A folder without permission is named, with the remedy."""
    (tmp_path / "closed").mkdir(mode=0)

    with pytest.raises(ModelError, match="closed next to the model cannot be read"):
        digest_folder(tmp_path, "sir.simulate")
