"""A model that came with a Ray job, on another node than the driver's."""

from pathlib import Path

import pytest

from modelops_ray.sandbox.loading import ModelRef, relocated

DRIVER = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_12ab"
HERE = Path("/scratch/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_12ab")


def ref(location="", root=""):
    """A model at a place."""
    return ModelRef("file", "m.py:f", "m.f", "0" * 64, "f", location, root)


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (f"{DRIVER}/model/m.py", f"{HERE}/model/m.py"),
        (DRIVER, str(HERE)),
        (f"{DRIVER}34/model/m.py", f"{DRIVER}34/model/m.py"),
        ("/home/me/m.py", "/home/me/m.py"),
        ("", ""),
    ],
)
def test_a_model_is_looked_for_where_this_node_unpacked_the_job(place, found):
    """What did not come with this job stays where it is."""
    assert ref(location=found) == relocated(ref(location=place), HERE)
    assert ref(root=found) == relocated(ref(root=place), HERE)


def test_without_a_jobs_folder_a_model_stays_where_it_is():
    """A worker of an embedded Ray works in some folder of the user's."""
    assert ref(location="/a/b/m.py") == relocated(ref(location="/a/b/m.py"), Path("/x/b"))
