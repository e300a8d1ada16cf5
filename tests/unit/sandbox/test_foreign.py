"""The surroundings of code of a model's author."""

import os

import pytest

from modelops_ray.sandbox.foreign import ForksEnded, ProcessEnds, tried


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


@pytest.mark.parametrize(
    ("does", "code"), [(lambda: None, 0), (lambda: raises(SystemExit(7)), 70), (lambda: raises(ValueError("no")), 70)]
)
def test_a_process_ends_with_the_block_that_is_all_it_has_left_to_do(does, code, capfd):
    """What is raised in it is printed, and never reaches what the process was forked from."""
    pid = os.fork()
    if pid == 0:
        with ProcessEnds(70):
            does()
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert bool(code) == ("Traceback" in capfd.readouterr().err)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(7), RecursionError(), MemoryError()], ids=repr)
def test_what_an_authors_code_raises_has_a_value_in_its_place(error):
    """For code of which nothing is expected."""
    assert tried(lambda: raises(error), "otherwise") == "otherwise"
    assert tried(lambda: "returned", "otherwise") == "returned"


def test_an_interrupt_is_no_exception_of_an_authors_code():
    """It is for the process."""
    with pytest.raises(KeyboardInterrupt):
        tried(lambda: raises(KeyboardInterrupt()), None)
