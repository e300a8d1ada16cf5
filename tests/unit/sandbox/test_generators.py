"""Random generators that a model's import made: what they give belongs to the simulation."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

from modelops_ray.sandbox.generators import seeding

MAKERS = {
    "a generator without a seed": np.random.default_rng,
    "a generator with a seed": lambda: np.random.default_rng(1),
    "a generator of other bits": lambda: np.random.Generator(np.random.MT19937(1)),
    "a state of the old kind": lambda: np.random.RandomState(1),
    "one of Python's": lambda: random.Random(1),
}
SEEDS = [5, 6, 2**64 - 1]


def model_of(draw, **names):
    """A model with these names at its top level that draws once."""
    return seeding(lambda *_: draw(names), [{"__name__": "model", **names}])


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_a_generator_of_the_import_gives_depends_on_the_seed_alone(make):
    """Not on what ran before in the same process, and no two simulations draw the same."""
    first = model_of(lambda names: names["rng"].random(), rng=make())
    other = model_of(lambda names: names["rng"].random(), rng=make())
    drawn = [first({}, seed, "") for seed in SEEDS]
    assert drawn == [other({}, seed, "") for seed in SEEDS[::-1]][::-1]
    assert len(SEEDS) == len(set(drawn))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_two_generators_of_a_model_draw_different_numbers(make):
    """Both begin with the simulation's seed, and are not the same."""
    model = model_of(lambda names: (names["a"].random(), names["b"].random()), a=make(), b=make())
    a, b = model({}, 5, "")
    assert a != b


def test_generators_of_classes_and_of_defaults_are_seeded_too():
    """`def f(rng=default_rng())` keeps one as long as the process lives."""

    def f(rng=np.random.default_rng(), *, other=random.Random()):  # noqa: B008 - what models do
        return rng.random(), other.random()

    kept = type("Kept", (), {"__module__": "model", "rng": np.random.default_rng()})
    one = type("One", (), {"__module__": "model"})()
    one.rng = np.random.default_rng()
    held = {"list": [np.random.default_rng()], "dict": {"a": np.random.default_rng()}, "one": one}

    def draw(names):
        drawn = [*names["f"](), names["Kept"].rng.random(), names["one"].rng.random()]
        return [*drawn, names["list"][0].random(), names["dict"]["a"].random()]

    model = model_of(draw, f=f, Kept=kept, **held)
    assert model({}, 5, "") == model({}, 5, "")


def test_a_model_without_generators_is_called_as_it_is():
    """Nor are those that all modules share, or whose state is the system's."""

    def model(*_):
        return None

    names = {"__name__": "model", "a": random._inst, "b": np.random.mtrand._rand, "c": random.SystemRandom()}
    assert model is seeding(model, [names, {}])


def test_looking_for_generators_loads_nothing():
    """NumPy loads its part for random numbers when that is first named, and that needs modules that helpers hide."""
    code = "import sys, numpy\nfrom modelops_ray.sandbox.generators import seeding\nseeding(print, [{}])\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('numpy.random' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "False" == done.stdout.strip()
