"""Seeds the generators of random numbers, those all modules share and those an import made, for every simulation.

Otherwise all processes would begin with the state that the import left: replicates in several processes would draw the
same numbers, and what one draws would depend on how many ran before it. Owns finding generators: by the names of the
model's modules, and one step below in classes, containers, objects and defaults of functions. Standard library only.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

from .calling import Model

_Reseed = Callable[[int], object]


def seeding(model: Model, spaces: Iterable[Mapping[str, Any]]) -> Model:
    """Return the model with its generators seeded again in every call; the same function where it has none."""
    reseeds = _reseeds(spaces)
    if not reseeds:
        return model

    def from_its_seed(params: Any, seed: int, scenario: str) -> object:
        for reseed in reseeds:
            reseed(seed)
        return model(params, seed, scenario)

    return from_its_seed


def seed_shared(seed: int) -> None:
    """Seed the global generators, which a model may use unawares; NumPy's takes the seed modulo 2**32."""
    random.seed(seed)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def _reseeds(spaces: Iterable[Mapping[str, Any]]) -> list[_Reseed]:
    """Return how to seed each generator, in the order of names, which is the same in every process."""
    # Not as `numpy.random`, which would load it now, among the model's helpers.
    numpys: Any = sys.modules.get("numpy.random")
    # The generators that all modules share are seeded by `seed_shared`; one of the system's has no state.
    done = {id(getattr(random, "_inst", None)), id(getattr(getattr(numpys, "mtrand", None), "_rand", None))}
    found: list[_Reseed] = []
    for value in (value for space in spaces for value in _values(space)):
        reseed = None if id(value) in done else _reseed_of(value, len(found), numpys)
        if reseed is not None:
            done.add(id(value))
            found.append(reseed)
    return found


def _values(space: Mapping[str, Any]) -> Iterator[Any]:
    for value in [space[name] for name in sorted(space)]:
        yield value
        if type(value) is type and value.__module__ == space.get("__name__"):
            yield from [one for _, one in sorted(vars(value).items())]
        elif type(value) is dict:
            yield from value.values()
        elif type(value) in (list, tuple):
            yield from value
        elif type(value).__module__ == space.get("__name__") and type(getattr(value, "__dict__", None)) is dict:
            yield from value.__dict__.values()
        elif type(value) is FunctionType:
            yield from value.__defaults__ or ()
            yield from (value.__kwdefaults__ or {}).values()


def _reseed_of(value: Any, index: int, numpys: Any) -> _Reseed | None:
    """Return how to seed this generator, so that no two of a model draw the same; None where it is no generator."""
    if type(value) is random.Random:
        return lambda seed: value.seed(seed << 32 | index + 1)
    if numpys is None:
        return None
    if type(value) is numpys.RandomState:
        return lambda seed: value.seed([seed % 2**32, seed >> 32, index + 1])
    if type(value) is not numpys.Generator:
        return None
    bits = value.bit_generator

    def reseed(seed: int) -> None:
        bits.state = type(bits)(numpys.SeedSequence(seed, spawn_key=(index,))).state

    return reseed
