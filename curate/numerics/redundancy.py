"""Redundancy: how near each row is to one that stands before it."""

import numpy as np
from numpy.typing import NDArray

TILE_ROWS = 2048
"""Rows on either side of a tile of cosines: 16 MiB at a time."""

DECIMALS = 6
"""Rounding of a cosine: matrix products differ by less from one tile to another."""


def redundancy(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """M_j = max over i < j of cos(i, j), float64 [rows], and the first such i, int64 [rows].

    vectors: float32 [rows, d] of unit length, in the order in which rows are compared: a copy is redundant, what
    stands before it is not. The first row has M = -1 and i = -1. M is rounded to 1e-6, so that exact duplicates
    have 1. O(rows² d) in tiles; never holds rows x rows.
    """
    nearest = np.full(len(vectors), -1.0)
    to = np.full(len(vectors), -1, dtype=np.int64)
    for start in range(0, len(vectors), TILE_ROWS):
        rows = slice(start, min(start + TILE_ROWS, len(vectors)))
        for first in range(0, rows.stop, TILE_ROWS):
            before = slice(first, min(first + TILE_ROWS, len(vectors)))
            cosines = np.round(vectors[rows] @ vectors[before].T, DECIMALS)
            if first == start:
                cosines[np.triu_indices(len(cosines))] = -np.inf
            best = cosines.argmax(axis=1)
            value = cosines[np.arange(len(best)), best]
            better = value > nearest[rows]
            nearest[rows] = np.where(better, np.minimum(value, 1.0), nearest[rows])
            to[rows] = np.where(better, first + best, to[rows])
    return np.round(nearest, DECIMALS), to
