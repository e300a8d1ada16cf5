"""What Ray does on its own is kept off, and what the user has set stays."""

import logging
import os
import signal

import pytest

from modelops_ray.backends.ray.quiet import ENVIRONMENT, IN_A_RAY_JOB, UV_HOOK, calm_ray


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """An environment without any of the variables, restored afterwards."""
    for name in (*ENVIRONMENT, UV_HOOK, IN_A_RAY_JOB):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def uv_hook_is_on():
    """Read what Ray itself looks at."""
    from ray._private import ray_constants

    return ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV


def test_the_working_folder_is_not_copied_to_workers_behind_the_users_back():
    """Ray would do that under `uv run`; afterwards Ray is as it was."""
    before = uv_hook_is_on()
    with calm_ray():
        assert not uv_hook_is_on()
    assert uv_hook_is_on() == before


@pytest.mark.parametrize("name", [UV_HOOK, IN_A_RAY_JOB])
def test_who_asks_for_the_working_folder_gets_it(name, monkeypatch):
    """By Ray's own switch, or by having submitted a job with a folder."""
    before = uv_hook_is_on()
    monkeypatch.setenv(name, "1")
    with calm_ray():
        assert uv_hook_is_on() == before


def test_the_users_environment_stays(monkeypatch):
    """Only what is not set is set."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    with calm_ray():
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
        assert os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] == "1"


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_a_handler_of_sigterm_that_a_process_has_stays(handler):
    """Ray would put one in its place that ends the process as it stands."""
    from ray._private import utils

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with calm_ray():
            utils.set_sigterm_handler(signal.SIG_DFL)
        assert handler == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_level_of_rays_log_comes_back():
    """A user may have set one."""
    logger = logging.getLogger("ray")
    before = logger.level
    with calm_ray():
        assert logger.level == logging.CRITICAL
    assert logger.level == before
