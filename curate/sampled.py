"""Sampled rows: a part of the pool in memory, read like the whole of it. What a probe tries stages on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import CurateError
from curate.reader import Reader

WEIGHT = "weight"
"""Column of a sample: how many rows of the pool a row stands for, float64."""

JITTER = 0.05
"""Standard deviation of what is added to each number of a repeated row's embedding, before it has unit length again."""


@dataclass(frozen=True)
class SampledRows(Reader):
    """held: the rows, `position` ascending, with `weight` and the columns that are known of them."""

    held: pl.DataFrame = field(default_factory=pl.DataFrame)

    @classmethod
    def of(cls, held: pl.DataFrame) -> "SampledRows":
        """A reader of a frame."""
        return cls(Path(), {}, held)

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "held": self.held}

    @property
    def positions(self) -> NDArray[np.int64]:
        """Positions of the rows, int64 [rows]."""
        return self.held["position"].to_numpy()

    def at(self, names: Iterable[str], positions: NDArray[np.int64]) -> pl.DataFrame:
        """`position` and the named columns of the rows at these positions."""
        wanted = sorted(set(names) - {"position"})
        if lacking := [name for name in wanted if name not in self.held.columns]:
            raise CurateError(f"column `{lacking[0]}` is not known of a sample")
        places = np.searchsorted(self.positions, positions)
        return self.held.select("position", *wanted)[places]


def total(rows: pl.DataFrame) -> float:
    """How many rows of the pool a sample stands for."""
    return float(rows[WEIGHT].to_numpy().sum())


def weights(reader: Reader) -> NDArray[np.float64]:
    """How many rows of the pool each row stands for, float64 [rows]; 1 where all of them are there."""
    if isinstance(reader, SampledRows):
        return reader.held[WEIGHT].to_numpy()
    return np.ones(len(reader))


def enlarged(rows: pl.DataFrame, wanted: int, generator: np.random.Generator) -> pl.DataFrame:
    """So many rows, each of the sample again and again, numbered anew; the weights keep their sum.

    For timing what works on whole columns: its time depends on how many rows there are, hardly on which. Copies get
    uids of their own, and embeddings that are a little different.
    """
    if not rows.height or wanted <= rows.height:
        return rows
    places = np.arange(wanted) % rows.height
    made = rows[places].with_columns(
        pl.int_range(wanted, dtype=pl.Int64).alias("position"),
        (pl.col(WEIGHT) * (total(rows) / total(rows[places]))).alias(WEIGHT),
    )
    if "uid" in made.columns:
        numbered = zip(made["uid"], made["position"], strict=True)
        uids = [
            blake2b(f"{uid} {position}".encode(), digest_size=16).hexdigest() for uid, position in numbered
        ]
        made = made.with_columns(pl.Series("uid", uids))
    if "embedding" in made.columns and isinstance(kind := made.schema["embedding"], pl.Array):
        known = made["embedding"].is_not_null().to_numpy()
        vectors = np.zeros((wanted, kind.shape[0]), dtype=np.float32)
        vectors[known] = made["embedding"].drop_nulls().to_numpy()
        vectors += generator.normal(0.0, JITTER, vectors.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        made = made.with_columns(pl.Series("embedding", vectors, dtype=kind))
    return made
