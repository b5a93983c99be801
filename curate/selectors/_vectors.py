"""Embeddings of a pool, for selectors that compare rows by them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.kmeans import unit_rows
from curate.pool import Pool

NO_EMBEDDING = "no embedding (its text was empty)"


@dataclass(frozen=True)
class Embedded:
    """The rows that have an embedding: the others are never chosen.

    rows: int64 [embedded], rows of the pool, ascending. vectors: float32 [embedded, d], of unit length.
    places: int64 [rows of the pool], the place in `rows` of each row, -1 where it has none.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, pool: Pool) -> "Embedded":
        """Those of a pool. Raises DataError where no row has one."""
        vectors = pool.vectors("embedding")
        known = ~np.isnan(vectors).any(axis=1)
        rows = np.flatnonzero(known)
        if not len(rows):
            raise DataError(f"the budget cannot be met: none of the {pool.rows} rows has an embedding.")
        places = np.full(pool.rows, -1, dtype=np.int64)
        places[rows] = np.arange(len(rows))
        return cls(rows, unit_rows(vectors if len(rows) == pool.rows else vectors[rows]), places)

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows of the pool have none, bool [rows of the pool]."""
        return self.places < 0

    def places_of(self, rows: NDArray[np.int64] | list[int]) -> list[int]:
        """The places of rows of the pool, without those that have none."""
        places = self.places[np.asarray(rows, dtype=np.int64)]
        return [int(place) for place in places if place >= 0]

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the embedded rows as values of the pool's, float64 [rows of the pool], NaN for the others."""
        whole = np.full(len(self.places), np.nan)
        whole[self.rows] = values
        return whole


def target_vectors(pool: Pool) -> NDArray[np.float32]:
    """The target's embeddings, float32 [target rows, d], of unit length. Raises DataError where there are none."""
    vectors = pool.target.vectors
    if vectors is None or not len(vectors):
        raise DataError("the target must have embeddings to choose by. Add `target:` and an `embed` stage.")
    return unit_rows(vectors)


def texts_of(numbers: NDArray[np.float64]) -> pl.Series:
    """Numbers as texts of four digits, String."""
    return pl.Series(numbers).round_sig_figs(4).cast(pl.String).str.strip_suffix(".0")
