"""What tests that measure memory need of the process they run in."""

import pytest

from modelops_ray.sandbox.measure import release_memory


@pytest.fixture
def nothing_to_reuse():
    """Give back what earlier tests have freed: memory that is taken from it is there already, and does not grow."""
    release_memory()
