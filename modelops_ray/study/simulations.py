"""The distinct simulations of a study, in study order, as a few arrays of integers; owns seeds, duplicates and shards.

A simulation becomes an object only when it is asked for. All identifiers and seeds are made at the start.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from modelops_ray.config import SeedPolicy, Shard
from modelops_ray.core.events import Segment
from modelops_ray.core.policy import count
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import StudyError, UsageError
from modelops_ray.study.chunk import Scalar, Simulation
from modelops_ray.study.identity import MAX_SEED, derived_seed, param_id
from modelops_ray.study.study import Study

_Ints = npt.NDArray[np.integer]
_Seeds = npt.NDArray[np.uint64]
_Digests = npt.NDArray[np.uint8]

_ID_BYTES = 32


class Simulations:
    """The simulations of a study: some 24 bytes each and 50 per parameter set, beside the study itself.

    `repeats` is how many were left out because the study lists them more than once.
    """

    def __init__(self, study: Study, seed_policy: SeedPolicy = "job-file") -> None:
        """Work out the seeds and leave out repeats.

        The policy `job-file` runs every listed seed; `dask-compatible` runs s0, s0+1, ... where s0 is the first listed
        seed of these parameters, with a StudyError for a seed above 2**64-1.
        """
        self._study = study
        digests, seeds = _identify(study)
        set_of_row, self._first_rows, self._by_id = _distinct(digests)
        self._digests = digests[self._first_rows]
        sets = np.repeat(set_of_row, [study.n_replicates if seed is None else 1 for _, seed in study.parameter_sets])
        if seed_policy == "dask-compatible":
            seeds = _consecutive(sets, seeds)
        keep = _first_mentions(sets, seeds)
        self.repeats = len(sets) - len(keep)
        self._sets: _Ints = sets[keep]
        self._seeds = seeds[keep]
        self._replicates = _ranks(self._sets).astype(np.int32)
        self._by_seed = np.lexsort((self._seeds, self._sets)).astype(np.int32)
        self._set_starts = np.searchsorted(self._sets[self._by_seed], np.arange(len(self._first_rows) + 1))
        self._run_starts = np.flatnonzero(np.diff(self._sets, prepend=-1)).astype(np.int32)

    @property
    def n_parameter_sets(self) -> int:
        """The number of different parameter sets."""
        return len(self._first_rows)

    def set_sizes(self) -> list[int]:
        """How many simulations each parameter set has, in study order."""
        sizes: list[int] = np.bincount(self._sets, minlength=self.n_parameter_sets).tolist()
        return sizes

    def sets_of(self, positions: npt.NDArray[np.int64]) -> _Ints:
        """Return the index of the parameter set of each of these positions."""
        return self._sets[positions]

    def params_of(self, set_index: int) -> Mapping[str, Scalar]:
        """The parameters of a set, in the spelling of the study."""
        params: Mapping[str, Scalar] = self._study.parameter_sets[self._first_rows[set_index]].params
        return params

    def positions_of_sets(self, is_chosen: npt.NDArray[np.bool_]) -> Ranges:
        """The positions of all simulations of some parameter sets; `is_chosen` has one value per parameter set."""
        edges = np.flatnonzero(np.diff(is_chosen[self._sets], prepend=False, append=False))
        return Ranges(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))

    def __len__(self) -> int:
        return len(self._sets)

    def __getitem__(self, position: int) -> Simulation:
        """Make the simulation at this position, counted from 0."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} simulations")
        set_index = int(self._sets[position])
        replicate, seed = int(self._replicates[position]), int(self._seeds[position])
        return Simulation(int(position), set_index, *self._identity_of(set_index), replicate, seed)

    def __iter__(self) -> Iterator[Simulation]:
        return map(self.__getitem__, range(len(self)))

    def take(self, positions: Sequence[int]) -> tuple[Simulation, ...]:
        """Make the simulations at these positions, in the order given; IndexError where one does not exist."""
        at = np.asarray(positions, np.int64)
        if beyond := at[(at < 0) | (at >= len(self))].tolist():
            raise IndexError(f"position {beyond[0]} of {len(self)} simulations")
        sets, replicates, seeds = (column[at].tolist() for column in (self._sets, self._replicates, self._seeds))
        identities = {set_index: self._identity_of(set_index) for set_index in set(sets)}
        return tuple(
            Simulation(position, set_index, *identities[set_index], replicate, seed)
            for position, set_index, replicate, seed in zip(at.tolist(), sets, replicates, seeds, strict=True)
        )

    def segments(self, done: Ranges) -> Iterator[Segment]:
        """Yield what is not done as the longest runs of positions within one parameter set, in study order."""
        for start, stop in done.gaps(0, len(self)):
            yield from self._split(start, stop)

    def position_of(self, param_id: str, seed: int) -> int | None:
        """Find a simulation by its identity; None where the study does not have it."""
        set_index = self._find_set(param_id)
        if set_index is None:
            return None
        start, stop = self._set_starts[set_index : set_index + 2].tolist()
        at = start + bisect_left(self._by_seed[start:stop], seed, key=lambda position: int(self._seeds[position]))
        if at == stop or self._seeds[self._by_seed[at]] != seed:
            return None
        return int(self._by_seed[at])

    def _identity_of(self, set_index: int) -> tuple[Mapping[str, Scalar], str]:
        return self.params_of(set_index), self._digests[set_index].tobytes().hex()

    def _split(self, start: int, stop: int) -> Iterator[Segment]:
        # In the array's own type: NumPy would convert the whole array to that of a Python integer.
        at = int(np.searchsorted(self._run_starts, np.int32(start), side="right"))
        while start < stop:
            end = min(stop, int(self._run_starts[at])) if at < len(self._run_starts) else stop
            yield Segment(int(self._sets[start]), start, end)
            start, at = end, at + 1

    def _find_set(self, param_id: str) -> int | None:
        try:
            wanted = bytes.fromhex(param_id)
        except ValueError:
            return None
        at = bisect_left(self._by_id, wanted, key=lambda set_index: self._digests[set_index].tobytes())
        if at == len(self._by_id) or self._digests[self._by_id[at]].tobytes() != wanted:
            return None
        return int(self._by_id[at])


def _identify(study: Study) -> tuple[_Digests, _Seeds]:
    """Hash every listed parameter set (one row of 32 bytes each) and find the seed of every listed simulation."""
    digests = bytearray()
    seeds = array("Q")
    for params, seed in study.parameter_sets:
        identifier = param_id(params)
        digests += bytes.fromhex(identifier)
        if seed is None:
            seeds.extend(derived_seed(identifier, index) for index in range(study.n_replicates))
        else:
            seeds.append(seed)
    return np.frombuffer(digests, np.uint8).reshape(-1, _ID_BYTES), np.frombuffer(seeds, np.uint64)


def _distinct(digests: _Digests) -> tuple[_Ints, _Ints, _Ints]:
    """Number the distinct rows by first appearance.

    Returns the number of every row, the first row of every number, and all numbers in the order of their digests.
    """
    words = digests.view(">u8")
    order = np.lexsort(words.T[::-1])
    in_order = words[order]
    is_new = np.append(True, np.any(in_order[1:] != in_order[:-1], axis=1))
    first_rows = order[is_new]
    number_of_group = np.empty(len(first_rows), np.int32)
    number_of_group[np.argsort(first_rows)] = np.arange(len(first_rows))
    number_of_row = np.empty(len(words), np.int32)
    number_of_row[order] = number_of_group[np.cumsum(is_new) - 1]
    return number_of_row, np.sort(first_rows).astype(np.int32), number_of_group


def _consecutive(sets: _Ints, seeds: _Seeds) -> _Seeds:
    """Replace seeds by those the Dask executor runs: the first of each parameter set, plus 0, 1, 2, ..."""
    first_seeds = seeds[np.unique(sets, return_index=True)[1]][sets]
    ranks = _ranks(sets).astype(np.uint64)
    beyond = np.flatnonzero(ranks > MAX_SEED - first_seeds)
    if len(beyond):
        first_seed, rank = int(first_seeds[beyond[0]]), int(ranks[beyond[0]])
        raise StudyError(
            f"seed policy dask-compatible: seed {first_seed} + {rank} is above 2^64-1; "
            "give a smaller seed, or use the policy job-file"
        )
    return first_seeds + ranks


def _first_mentions(sets: _Ints, seeds: _Seeds) -> _Ints:
    """Find the positions whose (set, seed) has not occurred before, ascending."""
    order = np.lexsort((seeds, sets))
    is_repeat = (np.diff(sets[order]) == 0) & (np.diff(seeds[order]) == 0)
    return np.sort(order[np.append(True, ~is_repeat)])


def _ranks(sets: _Ints) -> _Ints:
    """Count, for each simulation, how many of the same set come before it."""
    order = np.argsort(sets, kind="stable")
    starts = np.searchsorted(sets[order], np.arange(sets.max() + 1))
    ranks = np.empty(len(sets), np.int64)
    ranks[order] = np.arange(len(sets)) - starts[sets[order]]
    return ranks


def split(set_sizes: Sequence[int], n_shards: int) -> npt.NDArray[np.int64]:
    """Give every parameter set, in study order, to the shard with the fewest simulations so far, the first of several.

    Neighbours in a grid, which take about the same time, come into different shards; parameter sets that are added at
    the end, or replicates that are added to all of them, leave the others where they are.

    Takes the number of simulations of each parameter set, and returns the shard of each, counted from 0.
    """
    loads = [(0, shard) for shard in range(n_shards)]
    shards = np.empty(len(set_sizes), np.int64)
    for index, size in enumerate(set_sizes):
        load, shard = loads[0]
        shards[index] = shard
        heapq.heapreplace(loads, (load + size, shard))
    return shards


def scope_of(simulations: Simulations, shard: Shard) -> Ranges:
    """The positions that a shard is to answer; UsageError where there are more shards than parameter sets."""
    n_sets = simulations.n_parameter_sets
    if shard.of > n_sets:
        raise UsageError(
            f"--shard {shard}: the study has {count(n_sets, 'parameter set')}, so it splits into at most "
            f"{count(n_sets, 'shard')}"
        )
    return simulations.positions_of_sets(split(simulations.set_sizes(), shard.of) == shard.number - 1)
