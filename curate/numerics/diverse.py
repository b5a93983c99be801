"""A diverse prefix: along an order, the rows that are not too near to any row kept before.

Exact: each row is compared with all that are kept when its turn comes. A block of rows meets those kept before in one
float32 product, and the rows kept of the block itself one by one; a cosine within rounding of the threshold is
computed again in float64, so that the answer depends on neither blocks nor threads.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from curate.numerics.nearest import cosines, rounding

BLOCK = 512
"""Rows that are compared with the kept ones together."""

_ELEMENTS = 1 << 24


class DiverseRows:
    """The rows kept so far, and for each row that was too near to one of them, which.

    vectors: float32 [rows, d], unit length. threshold: the largest cosine that is not too near, below 1.
    near: int64 [rows], the kept row that made this one too near, else -1. block: changes the work, not the result.
    Memory: d float32 a kept row, and block × (kept + block) cosines, at most about 64 MiB.
    """

    def __init__(self, vectors: NDArray[np.float32], threshold: float, block: int = BLOCK) -> None:
        self.near = np.full(len(vectors), -1, dtype=np.int64)
        self._vectors, self._threshold, self._block = vectors, threshold, block
        self._kept = np.empty((16, vectors.shape[1]), dtype=np.float32)
        self._rows = np.empty(16, dtype=np.int64)
        self._count = 0

    def keep(self, row: int) -> None:
        """Keep a row, whatever is near to it."""
        if self._count == len(self._rows):
            self._kept = np.concatenate([self._kept, np.empty_like(self._kept)])
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._kept[self._count], self._rows[self._count] = self._vectors[row], row
        self._count += 1

    def walk(self, order: NDArray[np.int64], ask: Callable[[int], bool], done: Callable[[], bool]) -> int:
        """Go along an order until done; how many rows of it were looked at.

        ask: of each row that is near to no kept one: whether to keep it. done: asked before each row.
        """
        start = 0
        while start < len(order) and not done():
            size = max(1, min(self._block, _ELEMENTS // max(self._count, 1)))
            looked = self._walk_block(order[start : start + size], ask, done)
            start += looked
        return start

    def _walk_block(
        self, rows: NDArray[np.int64], ask: Callable[[int], bool], done: Callable[[], bool]
    ) -> int:
        vectors, before = self._vectors[rows], self._count
        off = rounding(vectors.shape[1])
        near = np.concatenate(
            [vectors @ self._kept[:before].T, np.full((len(rows), len(rows)), -1.0, dtype=np.float32)], axis=1
        )
        inside = vectors @ vectors.T
        largest = near.max(axis=1)
        for index, row in enumerate(rows.tolist()):
            if done():
                return index
            if largest[index] > self._threshold - off:
                places = np.flatnonzero(near[index, : self._count] > self._threshold - off)
                exact = cosines(self._vectors, self._rows[places], vectors[index])
                if exact.max() > self._threshold:
                    self.near[row] = self._rows[places[exact.argmax()]]
                    continue
            if ask(row):
                near[:, self._count] = inside[:, index]
                np.maximum(largest, inside[:, index], out=largest)
                self.keep(row)
        return len(rows)
