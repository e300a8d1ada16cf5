"""Unit tests decide in virtual time: a test that waits for real, or starts Ray, is told so at once."""

import sys
import time

import pytest

from modelops_ray.sandbox import loading


@pytest.fixture(autouse=True)
def _no_waiting_and_no_ray(monkeypatch):
    """Make `time.sleep` raise, and `ray.init` where Ray has been imported."""
    monkeypatch.setattr(time, "sleep", _refuse("time.sleep"))
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", _refuse("ray.init"))


@pytest.fixture(autouse=True)
def _no_model_left_behind():
    """Loading a model puts folders and modules into the process."""
    yield
    loading.forget_model()


def _refuse(what):
    def refuse(*args, **kwargs):
        raise AssertionError(f"{what} has no place in a unit test; move the test to tests/integration")

    return refuse
