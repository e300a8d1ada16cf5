"""What the core and the workers obey, of the options of a run."""

import pytest

from modelops_ray.core.policy import Policy
from modelops_ray.session.request import ask, chunk_context, policy
from modelops_ray.session.run_config import RunConfig
from modelops_ray.store.profiles import Profile
from modelops_ray.study.study import Study

GIVEN = {
    "cpus": 2, "memory": "1Gi", "max_memory": "4Gi", "timeout": 60, "attempts": 3, "max_failures": "10%", "chunk": 7,
    "window": 9, "isolation": "reuse", "per_child": 11,
}  # fmt: skip


@pytest.fixture
def request_of(tmp_path):
    """Ask to run 40 simulations with options."""
    model = tmp_path / "model.py"
    model.write_text("def simulate(params, seed):\n    return {}\n")
    study = Study.grid({"a": [1, 2]}, replicates=20)
    return lambda **given: ask(study, f"{model}:simulate", RunConfig(**given), "study")


def test_the_core_obeys_the_options_and_knows_what_a_worker_needs(request_of):
    """A share of failures is a number of them there."""
    known = Profile(model_digest="", peaks={1: 1}, base_bytes=100, child_bytes=30, shared_bytes=20)

    expected = Policy(
        cpus=2.0, memory_bytes=2**30, max_memory_bytes=2**32, attempts=3, max_failures=4, timeout_s=60.0, chunk=7,
        window=9, supervised=True, known_worker_bytes=70, known_child_bytes=30, known_shared_bytes=20,
        trial_wait_s=60.0,
    )  # fmt: skip
    assert expected == policy(request_of(**GIVEN), known)


def test_the_core_has_the_defaults_of_the_options(request_of):
    """Where nothing is given and nothing is known."""
    assert Policy(supervised=True, trial_wait_s=60.0) == policy(request_of(), Profile(model_digest=""))


@pytest.mark.parametrize("given", [{"isolation": "none"}, {"backend": "local"}])
def test_simulations_without_a_process_of_their_own_are_not_supervised(request_of, given):
    """Their end is that of the worker."""
    assert not policy(request_of(**given), Profile(model_digest="")).supervised


def test_the_workers_obey_the_options(request_of):
    """A request that the user gave is a hard limit."""
    found = chunk_context(request_of(**GIVEN), 5)

    assert (60.0, "reuse", 2.0, True, 2**32, 11, 5) == (
        found.timeout_s, found.isolation, found.cpus, found.is_hard, found.cap_bytes, found.per_child, found.node_bytes,
    )  # fmt: skip
    assert not chunk_context(request_of(), 0).is_hard
