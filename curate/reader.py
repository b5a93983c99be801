"""Reader: the columns of the rows that a stage sees, read from the store where they lie.

A column may have been written when more rows were alive than now; the reader takes just the living
ones. It is small to send to a worker: paths, no data.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import CurateError
from curate.store import Manifest, kept_positions


@dataclass(frozen=True)
class Reader:
    """rows: folder of the entry whose `kept.npy` lists the living rows; columns: name -> entry folder."""

    rows: Path
    columns: Mapping[str, Path]

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Positions of the living rows, int64 [rows], ascending, memory-mapped."""
        return kept_positions(self.rows)

    def __len__(self) -> int:
        return len(self.positions)

    def __getstate__(self) -> dict[str, object]:
        return {"rows": self.rows, "columns": self.columns}

    def frame(self, names: Iterable[str], start: int = 0, stop: int | None = None) -> pl.DataFrame:
        """`position` and the named columns of the living rows start:stop, in pool order."""
        return self.at(names, np.asarray(self.positions[start:stop]))

    def take(self, names: Iterable[str], indices: NDArray[np.integer]) -> pl.DataFrame:
        """`position` and the named columns of the living rows with these indices, in the order given."""
        wanted = np.asarray(self.positions)[indices]
        unique, inverse = np.unique(wanted, return_inverse=True)
        return self.at(names, unique)[inverse]

    def at(self, names: Iterable[str], positions: NDArray[np.int64]) -> pl.DataFrame:
        """`position` and the named columns of the rows at these positions, int64, ascending, living or not."""
        by_folder: dict[Path, list[str]] = {}
        for name in sorted(set(names) - {"position"}):
            if name not in self.columns:
                raise CurateError(
                    f"column `{name}` does not exist here. Found {', '.join(sorted(self.columns))}."
                )
            by_folder.setdefault(self.columns[name], []).append(name)
        parts = [_gather(folder, columns, positions) for folder, columns in by_folder.items()]
        return pl.concat([pl.DataFrame({"position": positions}), *parts], how="horizontal")


def _gather(folder: Path, columns: list[str], positions: NDArray[np.int64]) -> pl.DataFrame:
    files, firsts, lasts = _index(folder, (folder / "manifest.json").stat().st_mtime_ns)
    if not len(files):
        raise CurateError(f"{folder}: holds no rows")
    first_wanted = np.searchsorted(positions, firsts, side="left")
    after_wanted = np.searchsorted(positions, lasts, side="right")
    touched = np.flatnonzero(after_wanted > first_wanted)
    chosen = touched if len(touched) else np.array([0])
    frames = []
    for shard in chosen:
        frame = pl.read_parquet(folder / files[shard], columns=["position", *columns])
        wanted = positions[first_wanted[shard] : after_wanted[shard]]
        held = frame["position"].to_numpy()
        places = np.searchsorted(held, wanted)
        if len(wanted) and (places[-1] >= len(held) or not np.array_equal(held[places], wanted)):
            raise CurateError(
                f"{folder / files[shard]}: lacks rows that a later stage needs. Delete {folder}."
            )
        same = len(wanted) == len(held)
        frames.append((frame if same else frame[places]).select(columns))
    return pl.concat(frames)


@lru_cache(maxsize=256)
def _index(folder: Path, stamp: int) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    shards = [
        s for s in Manifest.read(folder / "manifest.json").shards if s.file.endswith(".parquet") and s.rows
    ]
    shards.sort(key=lambda shard: shard.first)
    return (
        tuple(shard.file for shard in shards),
        np.array([shard.first for shard in shards], dtype=np.int64),
        np.array([shard.last for shard in shards], dtype=np.int64),
    )
