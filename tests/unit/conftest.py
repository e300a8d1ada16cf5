"""Unit tests decide in virtual time: whoever waits for real, or starts Ray, is told so at once."""

import sys
import time

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_and_no_ray(monkeypatch):
    """Make `time.sleep` raise, and `ray.init` where Ray has been imported."""
    monkeypatch.setattr(time, "sleep", _refuse("time.sleep"))
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", _refuse("ray.init"))


def _refuse(what):
    def refuse(*args, **kwargs):
        raise AssertionError(f"{what} has no place in a unit test; move the test to tests/integration")

    return refuse
