"""Working in the folder of one simulation, as a child does around each."""

from contextlib import contextmanager


@contextmanager
def simulating(workroom, seconds=1.0):
    """Be in a simulation that takes `seconds`."""
    workroom.enter()
    try:
        yield
    finally:
        workroom.leave(seconds)
