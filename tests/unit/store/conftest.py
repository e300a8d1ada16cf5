"""The disk is not waited for: a process that is killed loses nothing of what it wrote, and no machine loses power."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """What a disk loses is played in the simulated world."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
