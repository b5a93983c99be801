"""Stored: a finished stage of a run, read by position. Only the shards that can hold a position are opened, and only
the columns that are asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import CurateError
from curate.stage import DROP
from curate.store import Manifest, kept_positions

if TYPE_CHECKING:
    from curate.runs import Run


@dataclass(frozen=True)
class Stored:
    """record: of the stage, as run.json has it."""

    run: "Run"
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name in the run."""
        return str(self.record["name"])

    @property
    def drops(self) -> bool:
        """Whether it drops rows."""
        return DROP in self.record["adds"]

    def adds(self, *columns: str) -> bool:
        """Whether it adds all of these."""
        return set(columns) <= set(self.record["adds"])

    @cached_property
    def manifest(self) -> Manifest:
        """Raises CurateError where the store has lost the entry."""
        return self.run.manifest(self.record)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The stage's method, its version and its fields."""
        return self.manifest.identity

    @property
    def files(self) -> Path:
        """The folder of its artifact. Raises CurateError where the store has lost the entry."""
        folder: Path = self.run.store / self.record["folder"] / "files"
        if not folder.is_dir() or not self.manifest.shards:
            raise CurateError(f"{folder}: is gone from the store. Run the configuration again to compute it.")
        return folder

    def scan(self, *columns: str) -> pl.LazyFrame:
        """Position and these columns of all its rows."""
        return pl.scan_parquet(self.run.shards(self.record)).select("position", *columns)

    def rows(self, positions: Iterable[int], *columns: str) -> pl.DataFrame:
        """Position and these columns of the rows at these positions, those that it has, in pool order."""
        wanted = np.array(sorted(set(positions)), dtype=np.int64)
        shards = {shard.file: shard for shard in self.manifest.shards}
        touched = [
            path
            for path in self.run.shards(self.record)
            if _holds(wanted, shards[path.name].first, shards[path.name].last)
        ]
        if not touched:
            return self.scan(*columns).head(0).collect()
        found = pl.scan_parquet(touched).filter(pl.col("position").is_in(wanted.tolist()))
        return found.select("position", *columns).sort("position").collect()

    def row(self, position: int, *columns: str) -> dict[str, Any] | None:
        """These columns of one row; None where the stage never saw it."""
        found = self.rows([position], *columns)
        return found.row(0, named=True) if found.height else None

    def kept(self) -> NDArray[np.int64]:
        """Positions of the rows that a stage which drops left, ascending, memory-mapped."""
        return kept_positions(self.run.store / self.record["folder"])


def stages_of(run: "Run") -> list[Stored]:
    """The finished stages, in order. Raises CurateError where there is none yet."""
    if not run.stages:
        raise CurateError(f"{run.path}: has no finished stage yet; the run is {run.status}.")
    return [Stored(run, record) for record in run.stages]


def last(stages: Sequence[Stored], *columns: str) -> Stored | None:
    """The last stage that adds all of these; None where there is none."""
    return next((stage for stage in reversed(stages) if stage.adds(*columns)), None)


def survivors(stages: Sequence[Stored]) -> NDArray[np.int64]:
    """Positions of the rows that no stage has dropped, ascending."""
    return next(stage for stage in reversed(stages) if stage.drops).kept()


def _holds(positions: NDArray[np.int64], first: int, last: int) -> bool:
    return bool(np.searchsorted(positions, first) < np.searchsorted(positions, last, side="right"))
