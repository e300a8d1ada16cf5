"""Names of modules that a model shares with others."""

import resource

import pytest

from modelops_ray.sandbox.names import shared_names

NOTHING_AT_START = frozenset[str]()


def test_a_module_that_python_has_too_is_shared(tmp_path):
    """A file beside the model that is called like a module of Python's is found, and its own name is not."""
    for name in ("statistics", "mine"):
        (tmp_path / f"{name}.py").touch()
    assert shared_names([str(tmp_path)], NOTHING_AT_START) == ("statistics",)


@pytest.mark.parametrize("entry", ["missing", "archive.zip", "circle"])
def test_what_is_no_folder_has_no_modules(tmp_path, entry):
    """An entry of the search path that Python passes over has no modules here either."""
    (tmp_path / "archive.zip").touch()
    (tmp_path / "circle").symlink_to("circle")
    assert shared_names([f"{tmp_path}/{entry}"], NOTHING_AT_START) == ()


def test_a_folder_that_could_not_be_read_is_not_one_without_modules(tmp_path):
    """Out of descriptors, the names are not known, and that is said."""
    (tmp_path / "statistics.py").touch()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            shared_names([str(tmp_path)], NOTHING_AT_START)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
