"""What is told of an exception is bounded text, for exceptions of any kind."""

from __future__ import annotations

import pytest

from modelops_ray.sandbox.outputs import BadOutputError
from modelops_ray.sandbox.raised import told_of


class Nameless(type):
    """A class that answers for itself."""

    @property
    def __name__(cls):
        """No text at all."""
        return 5


class OddError(Exception, metaclass=Nameless):
    """Its class says another name."""


class UnspeakableError(Exception):
    """What it says ends the process."""

    def __str__(self):
        raise SystemExit


class EndlessError(Exception):
    """Looking at its causes never ends well."""

    @property
    def __cause__(self):
        raise ValueError("no cause")


class LyingError(Exception):
    """What it says its class is is an error."""

    @property
    def __class__(self):
        raise RuntimeError


class Text(str):
    """Text that cannot be cut."""

    __slots__ = ()

    def __getitem__(self, _at):
        raise ValueError("not this one")

    def __str__(self):
        return self


@pytest.mark.parametrize(
    ("error", "type_", "message"),
    [
        (type("T" * 3_000_000, (Exception,), {})("x"), "TTT", "x"),
        (ValueError("x" * 10**7), "ValueError", "xxx"),
        (ValueError("\ud800"), "ValueError", r"\ud800"),
        (OddError("x"), "OddError", "x"),
        (UnspeakableError(), "UnspeakableError", "<exception str() failed>"),
        (EndlessError("x"), "EndlessError", ""),
        (ValueError(Text("x")), "ValueError", "x"),
        (BadOutputError("x" * 10**6), "BadOutput", "xxx"),
        (ExceptionGroup("many", [ValueError("y" * 10**5)] * 100), "ExceptionGroup", "many"),
    ],
)
def test_texts_are_bounded_and_can_be_kept(error, type_, message):
    """Although asking for them raises or never ends."""
    kind, name, text, trace = told_of(error)
    assert kind in ("model_error", "bad_output")
    assert name.startswith(type_)
    assert text.startswith(message)
    assert max(len(name) - 200, len(text) - 4096, len(trace or "") - 16384) <= 0
    (name + text + (trace or "")).encode()


def test_what_an_exception_says_its_class_is_is_not_asked():
    """Python asks it wherever an object is not of a class."""
    kind, name, _, _ = told_of(LyingError("x"))
    assert ("model_error", "LyingError") == (kind, name)
