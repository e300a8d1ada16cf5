"""The surroundings of code of a model's author."""

import os

import pytest

from modelops_ray.sandbox.foreign import ForksEnded


def raises(error):
    """Raise it."""
    raise error


@pytest.mark.parametrize(
    ("does", "code"), [(lambda: None, 0), (lambda: raises(SystemExit(7)), 7), (lambda: raises(ValueError("no")), 1)]
)
def test_a_process_that_an_authors_code_forked_ends_where_that_code_does(does, code):
    """It never comes to what follows the block, and has the exit code that Python would have given it."""
    me = os.getpid()
    with ForksEnded():
        pid = os.fork()
        if pid == 0:
            does()
    if os.getpid() != me:
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code


def test_an_exception_of_the_same_process_passes():
    """The process that entered the block goes on, with the exception that was raised in it."""
    with pytest.raises(ValueError, match="mine"), ForksEnded():
        raise ValueError("mine")
