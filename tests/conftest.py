"""For every suite: object stores, started when the first test asks for them; and how properties are tested."""

import compileall
import fcntl
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from support.object_servers import azure_server, azurite_command, s3_server, why_no_azurite

# How long an example takes is the machine's business.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


# What the processes that tests start import most of.
HEAVY = "numpy, pyarrow.parquet, pyarrow.dataset, pydantic, click, rich.console, obstore, ray, pandas, polars, xarray"


# Of the files that would come last, those that take long: one of them must not be all that is left to do.
EARLY = ("mutations/test_mutations.py", "session/test_whole_program.py", "session/test_world.py",
         "store/test_crashes.py", "store/test_schedules.py")  # fmt: skip


def pytest_collection_modifyitems(items):
    """Have the long files begin early; the others keep their order."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(EARLY))


def pytest_configure(config):
    """Where Python is told to write no bytecode, compile once instead of in each of the hundreds of processes."""
    if not sys.dont_write_bytecode or hasattr(config, "workerinput"):
        return
    compileall.compile_dir(Path(__file__).parent.parent / "modelops_ray", quiet=2)
    found = importlib.util.find_spec("pyarrow")
    if found is not None and not Path(str(found.cached)).exists():
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run([sys.executable, "-W", "ignore", "-c", f"import {HEAVY}"], env=environ, check=False)


@pytest.fixture(autouse=True)
def _machine(request, tmp_path_factory):
    """Have a test that is marked `alone` or `long` run while no test of the other worker process does."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    common = tmp_path_factory.getbasetemp().parent
    is_alone = any(request.node.get_closest_marker(name) for name in ("alone", "long"))
    with (common / "gate").open("w") as gate, (common / "machine").open("w") as machine:
        # Who waits for the machine holds the gate, so that tests that share the machine cannot go on passing it.
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def s3():
    """An S3 server."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def azure():
    """An Azure Blob server, where Azurite is installed."""
    if azurite_command() is None:
        pytest.skip(why_no_azurite())
    with azure_server() as server:
        yield server


@pytest.fixture
def new_place(request, tmp_path, monkeypatch):
    """Make places of the kind that a test is parametrised with: `local`, `s3` or `azure`."""
    kind = request.param
    if kind == "local":
        return lambda name: tmp_path / name
    server = request.getfixturevalue(kind)
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    bucket = server.new_bucket()
    return lambda name: f"{bucket}/deep/{name}"
