"""The sentence that a run ends with, for each reason."""

from __future__ import annotations

import pytest

from modelops_ray.core.reasons import (
    AllFailAlike,
    KilledInVain,
    Lacking,
    NoProgress,
    PodsDie,
    TooManyCpus,
    TooManyFailed,
    TooMuchMemory,
)
from modelops_ray.core.report import Cause, Failure
from modelops_ray.session.reasons import sentence

MIB = 2**20
TRACEBACK = 'File "/models/old.py", line 3\n  File "/models/sir.py", line 12'


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("Ctrl-C", "Ctrl-C"),
        (
            TooManyCpus(8.0, 4.0),
            "--cpus 8 is more than any node has (4); ask for less, or add a larger node",
        ),
        (
            TooMuchMemory(9216 * MIB, 128 * MIB, 8192 * MIB),
            (
                "--memory 9,216 MiB and 128 MiB for the worker are more than the largest node offers (8,192 MiB); "
                "ask for less, or add a larger node"
            ),
        ),
        (
            KilledInVain(200),
            (
                "more than half of the last 200 attempts were killed for lack of memory although they stayed within"
                " their requests; something else uses the memory of the nodes: lower --limit-memory, or free it"
            ),
        ),
        (
            PodsDie(5, "pod w-1 was OOMKilled"),
            (
                "pod w-1 was OOMKilled; it is the last of 5 pods that died of memory and took more simulations "
                "along than were completed meanwhile: lower the memory that Ray may give away in this tier "
                "(`resources` of the worker group), or give its pods more"
            ),
        ),
        (TooManyFailed(1), "1 simulation failed, which --max-failures does not allow"),
        (TooManyFailed(7000), "7,000 simulations failed, which --max-failures does not allow"),
        (
            NoProgress(Lacking.FINISH, 601.4, 8, (100 * MIB, 228 * MIB), 1.0, 30, 1, 4, ("no room",)),
            (
                "nothing finished for 601 s: 8 tasks waiting or running (requests: 100 MiB, 228 MiB; CPUs each: 1), 30 "
                "simulations pending, 1 node with 4 slots in the cluster; no room; add nodes, lower --memory, or raise "
                "--timeout if a simulation may take that long"
            ),
        ),
        (
            NoProgress(Lacking.COMMIT, 6001.0, 1, (), 0.5, 1, 0, 1, ()),
            (
                "nothing could be committed for 6001 s: 1 task waiting or running (requests: none; CPUs each: 0.5), 1 "
                "simulation pending, 0 nodes with 1 slot in the cluster; add nodes, lower --memory, or raise --timeout "
                "if a simulation may take that long"
            ),
        ),
    ],
)
def test_a_reason_is_told_with_its_figures_and_the_option_that_changes_it(reason, told):
    """To the letter: people search for these sentences."""
    assert told == sentence(reason)


@pytest.mark.parametrize(
    ("cause", "error_type", "message", "traceback", "said"),
    [
        (Cause.BAD_OUTPUT, "BadOutput", "output 'r' is None", None, "BadOutput: output 'r' is None in the first"),
        (Cause.TIMEOUT, "Timeout", "it took longer than 2 s", None, "Timeout: it took longer than 2 s in the first"),
        (Cause.CRASHED, "SIGSEGV", "", None, "SIGSEGV in the first"),
        (Cause.MODEL_ERROR, "KeyError", "'beta'", TRACEBACK, "KeyError: 'beta' in the first"),
        (Cause.MODEL_ERROR, "E", "x" * 300, TRACEBACK, f"E: {'x' * 198} … in the first"),
    ],
)
def test_failures_that_are_all_alike_are_told_by_the_first_of_them(cause, error_type, message, traceback, said):
    """What happened, and of an exception of the model the line that raised it."""
    place = " (sir.py line 12)" if traceback else ""
    told = f"{said} 20 simulations{place}; fix the model, or continue anyway with --max-failures 100%"
    assert told == sentence(AllFailAlike(20, Failure(0, cause, error_type, message, traceback)))
