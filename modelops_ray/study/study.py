"""A study: which simulations of which model; owns loading, saving and making one, not running it.

Seeds and identifiers of the single simulations are in `study.simulations`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from modelops_ray.config import plain
from modelops_ray.errors import StudyError
from modelops_ray.study.chunk import Scalar
from modelops_ray.study.design import Space
from modelops_ray.study.document import MAX_SIMULATIONS, Header, parse, read_header, read_text, write
from modelops_ray.study.identity import canonical_text
from modelops_ray.study.sets import ParameterSet, grid, read_axes, read_sets
from modelops_ray.study.tables import read_table, sets_of, table_of
from modelops_ray.study.values import describe, refuse


# No slots: the digest, which reads every parameter set, is kept once it is known.
@dataclass(frozen=True, kw_only=True)
class Study:
    """A checked SimulationStudy; made by `load`, `from_json`, `from_dict`, `grid` or `table`, which raise StudyError.

    Attributes:
        model: `models.sir`, `package.module:function` or `path/to/file.py:function`; None where it is given to `run`.
        scenario: Handed to models that take one, and part of every task's identity.
        parameter_sets: In study order; at least one.
        sampling_method: How the sets were chosen; free text.
        n_replicates: Simulations of every set that names no seed.
        outputs: Names of the outputs to keep, sorted; None for all.
        targets: Target entrypoints; None for none.
        files: Files and folders that the model reads without telling Python, relative to `folder`; None for none.
        metadata: Free; decides nothing.
        folder: Where the study file is, which a model path is relative to; None for a study that has no file.
    """

    model: str | None
    scenario: str
    parameter_sets: tuple[ParameterSet, ...] = field(repr=False)
    sampling_method: str = "manual"
    n_replicates: int = 1
    outputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a SimulationStudy JSON file in the old, the new or the mixed form.

        StudyError where that fails: one line that names the file, the place, what was found and what would be right.
        """
        path = Path(path)
        return cls.from_json(read_text(path), source=str(path), folder=path.absolute().parent)

    @classmethod
    def from_json(cls, text: str, source: str = "study", folder: Path | None = None) -> Study:
        """Read the text of a study file; `source` names it in messages."""
        document = parse(text, source)
        return cls._read(document, document.pop("parameter_sets"), source, folder)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], source: str = "study", folder: Path | None = None) -> Study:
        """Make a study of what `to_dict` returned, which may be without a model; the argument is left as it is."""
        rows = document.get("parameter_sets")
        return cls._read(document, list(rows) if isinstance(rows, list) else rows, source, folder)

    @classmethod
    def _read(cls, document: Mapping[str, Any], rows: object, source: str, folder: Path | None) -> Study:
        header = read_header(document, source)
        sets = read_sets(rows, source)
        _check_size(source, sum(header.n_replicates if seed is None else 1 for _, seed in sets))
        return cls._of(header, sets, folder)

    @classmethod
    def _of(cls, header: Header, sets: tuple[ParameterSet, ...], folder: Path | None = None) -> Study:
        known = dict(header) | {
            "outputs": tuple(sorted(set(header.outputs))) if header.outputs else None,
            "targets": tuple(header.targets) if header.targets else None,
            "files": tuple(header.files) if header.files else None,
        }
        return cls(**known, parameter_sets=sets, folder=folder)

    @classmethod
    def grid(
        cls,
        axes: Mapping[str, Iterable[Scalar]],
        replicates: int = 30,
        model: str | None = None,
        scenario: str = "baseline",
        outputs: Sequence[str] | None = None,
    ) -> Study:
        """Make the full factorial of the values of each parameter, the last name fastest.

        Args:
            axes: Values by parameter name; lists, tuples, ranges or NumPy arrays of numbers, texts or booleans.
            replicates: Simulations of each combination.
            model: As in a study file; None where a function is given to `run`.
            scenario: 1 to 64 of `a-z 0-9 - _ .`.
            outputs: Names of the outputs to keep; None for all.

        Raises:
            StudyError: An axis is empty or holds what is no parameter, or another argument is out of range.
        """
        values = read_axes(axes)
        header = _header("Study.grid", "grid", replicates, model, scenario, outputs)
        _check_size("Study.grid", header.n_replicates * math.prod(map(len, values.values())))
        return cls._of(header, tuple(grid(values)))

    @classmethod
    def table(
        cls,
        frame: object,
        replicates: int | None = None,
        model: str | None = None,
        scenario: str = "baseline",
        outputs: Sequence[str] | None = None,
    ) -> Study:
        """Take a parameter set from each row of a table; a column `seed` or `replicates` is taken as such.

        Args:
            frame: A data frame of pandas or polars, an Arrow table, a mapping of columns, or the path of a file that
                ends in .csv, .parquet or .arrow.
            replicates: Simulations of each row without a seed; by default what its column `replicates` says, or 1.
            model: As in a study file; None where a function is given to `run`.
            scenario: 1 to 64 of `a-z 0-9 - _ .`.
            outputs: Names of the outputs to keep; None for all.

        Raises:
            StudyError: It is no table, or a value is none of a parameter; the row and the column are named.
        """
        is_file = isinstance(frame, str | Path)
        table = read_table(Path(str(frame))) if is_file else table_of(frame, "Study.table")
        sets, n_replicates = sets_of(table, plain(replicates))
        header = _header(table.source, "table", n_replicates, model, scenario, outputs)
        _check_size(table.source, sum(header.n_replicates if seed is None else 1 for _, seed in sets))
        return cls._of(header, tuple(sets))

    @classmethod
    def latin_hypercube(  # noqa: PLR0913 (one for each key of a study)
        cls,
        ranges: Mapping[str, tuple[float, float]],
        n: int,
        *,
        grid: Mapping[str, Iterable[Scalar]] | None = None,
        replicates: int = 1,
        seed: int = 0,
        model: str | None = None,
        scenario: str = "baseline",
        outputs: Sequence[str] | None = None,
    ) -> Study:
        """Draw `n` points of which each range of a parameter, cut into `n` parts, has one in each part.

        Args:
            ranges: Low and high of each parameter; whole numbers are drawn, both ends among them, where both are such.
            n: How many points.
            grid: Values of other parameters; all points are taken at each of their combinations.
            replicates: Simulations of each parameter set.
            seed: The same one draws the same points.
            model: As in a study file; None where a function is given to `run`.
            scenario: 1 to 64 of `a-z 0-9 - _ .`.
            outputs: Names of the outputs to keep; None for all.

        Raises:
            StudyError: An argument is out of range, or SciPy, of the extra `design`, is missing.
        """
        space = Space.of(grid or {}, lhs=ranges, source="Study.latin_hypercube")
        return cls.of_space(space, n, replicates, seed, model, scenario, outputs)

    @classmethod
    def sobol(  # noqa: PLR0913 (one for each key of a study)
        cls,
        ranges: Mapping[str, tuple[float, float]],
        n: int,
        *,
        grid: Mapping[str, Iterable[Scalar]] | None = None,
        replicates: int = 1,
        seed: int = 0,
        model: str | None = None,
        scenario: str = "baseline",
        outputs: Sequence[str] | None = None,
    ) -> Study:
        """Draw the first `n` points of Sobol's sequence, scrambled by the seed; they are most even for powers of two.

        A larger `n` keeps the points of a smaller one, so that a run goes on with it. Arguments and errors are those of
        `latin_hypercube`.
        """
        space = Space.of(grid or {}, sobol=ranges, source="Study.sobol")
        return cls.of_space(space, n, replicates, seed, model, scenario, outputs)

    @classmethod
    def of_space(
        cls,
        space: Space,
        n: int | None,
        replicates: int,
        seed: int,
        model: str | None = None,
        scenario: str = "baseline",
        outputs: Sequence[str] | None = None,
    ) -> Study:
        """Draw `n` points of a space, see `latin_hypercube`; none for a grid alone."""
        header = _header(space.source, space.method, replicates, model, scenario, outputs)
        sets = space.sets(plain(n), plain(seed))
        _check_size(space.source, header.n_replicates * len(sets))
        return cls._of(header, tuple(sets))

    def with_replicates(self, replicates: int) -> Study:
        """Return the study with another number of simulations of each set that names no seed.

        StudyError where all name their seed, or there are too many.
        """
        n_seeded = sum(seed is not None for _, seed in self.parameter_sets)
        if n_seeded == len(self.parameter_sets):
            raise StudyError(f"--replicates {replicates}: every parameter set of the study names its one seed; drop it")
        _check_size(f"--replicates {replicates}", n_seeded + replicates * (len(self.parameter_sets) - n_seeded))
        return replace(self, n_replicates=replicates)

    def save(self, path: str | Path) -> None:
        """Write the study as a file that `load` reads back with the same identifiers and seeds; so does ModelOps.

        One that names no model is run with `--model`. StudyError where it cannot be written; a file that was there
        before is then intact.
        """
        write(Path(path), self._lines())

    def to_dict(self) -> dict[str, Any]:
        """Return the study as plain JSON values, in the new form."""
        return self._head() | {"parameter_sets": [_row(each) for each in self.parameter_sets]} | self._tail()

    @cached_property
    def digest(self) -> str:
        """64 hex digits of all that decides the result except the model: scenario, sets, seeds, replicates, outputs."""
        digest = hashlib.sha256(json.dumps(["study:v1", self.scenario, self.n_replicates, self.outputs]).encode())
        for params, seed in self.parameter_sets:
            digest.update(f"\n{canonical_text(params)}|{seed}".encode())
        return digest.hexdigest()

    def _head(self) -> dict[str, Any]:
        return {"model": self.model, "scenario": self.scenario}

    def _tail(self) -> dict[str, Any]:
        return {
            "sampling_method": self.sampling_method,
            "n_replicates": self.n_replicates,
            "outputs": None if self.outputs is None else list(self.outputs),
            "targets": None if self.targets is None else list(self.targets),
            "metadata": dict(self.metadata),
        } | ({} if self.files is None else {"files": list(self.files)})

    def _lines(self) -> Iterator[str]:
        """Write one parameter set per line: compact, readable, and never whole in memory."""
        yield "{"
        for key, value in self._head().items():
            yield f"\n  {json.dumps(key)}: {json.dumps(value)},"
        yield '\n  "parameter_sets": ['
        for index, each in enumerate(self.parameter_sets):
            yield f"{',' if index else ''}\n    {json.dumps(_row(each))}"
        yield "\n  ]"
        for key, value in self._tail().items():
            yield f",\n  {json.dumps(key)}: {json.dumps(value)}"
        yield "\n}\n"


def _header(
    source: str, method: str, replicates: object, model: str | None, scenario: str, outputs: Sequence[str] | None
) -> Header:
    """Check what a study has beside its parameter sets, made in Python."""
    if isinstance(outputs, str):
        raise refuse(f"{source}: /outputs", describe(outputs), "a list of names of outputs, or None for all")
    keys = {"model": model, "scenario": scenario, "sampling_method": method, "n_replicates": plain(replicates)}
    return read_header(keys | {"outputs": None if outputs is None else list(outputs)}, source)


def _row(each: ParameterSet) -> dict[str, Any]:
    row: dict[str, Any] = {"params": dict(each.params)}
    return row if each.seed is None else row | {"seed": each.seed}


def _check_size(place: str, n_simulations: int) -> None:
    if n_simulations > MAX_SIMULATIONS:
        raise refuse(place, f"{n_simulations} simulations", f"at most {MAX_SIMULATIONS}; split the study")
