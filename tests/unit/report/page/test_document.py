"""A page goes into its run directory, and for one in an object store to where the command runs."""

from pathlib import Path

import pytest

from modelops_ray.report.page.document import default_path


@pytest.mark.parametrize(
    ("run_dir", "path"),
    [
        ("runs/sir", "runs/sir/report.html"),
        ("file:///data/sir", "/data/sir/report.html"),
        ("s3://bucket/runs/sir/", "sir-report.html"),
    ],
)
def test_the_file_has_a_place_of_its_own(run_dir, path):
    """A browser opens files of this machine only."""
    assert Path(path) == default_path(run_dir)
