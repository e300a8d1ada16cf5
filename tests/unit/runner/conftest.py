"""Every test leaves the process as it found it: loading a model puts folders and modules into it."""

from __future__ import annotations

import pytest

from modelops_ray.runner import loading


@pytest.fixture(autouse=True)
def _no_model_left_behind():
    yield
    loading.forget_model()
