"""Nearest rows that are left: for each query its nearest row by cosine, while rows are taken away.

Every query holds a short list of its nearest rows, and is searched again, with a list twice as long, only when all
of its list is gone. Candidates come from float32 products, block by block; they are compared by their cosines in
float64, rounded to 12 decimals, so that the answer depends on neither blocks nor threads. A list ends where a row
outside it could be as near. Ties go to the earlier row.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK_ELEMENTS = 1 << 24
"""Similarities that are held at once: 64 MiB."""

LIST_BYTES = 1 << 28
"""The lists of all queries together, about: one is longer only where very many rows are equally near."""

LIST_ENTRY_BYTES = 72
"""A row and its cosine as Python numbers in two lists."""


def rounding(width: int) -> float:
    """The most that a float32 product of two unit vectors of this width is off: width · 2⁻²³."""
    return width * 2.0**-23


def cosines(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], others: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Inner products of rows and others, pair by pair, float64 [rows], rounded to 12 decimals.

    vectors: [n, d], unit length. rows: int64 [rows]. others: [rows, d], or [d] for one vector.
    """
    found = np.empty(len(rows))
    step = max(1, BLOCK_ELEMENTS // (4 * vectors.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        left = vectors[rows[part]].astype(np.float64)
        right = (others if others.ndim == 1 else others[part]).astype(np.float64)
        found[part] = np.einsum("nd,d->n" if right.ndim == 1 else "nd,nd->n", left, right)
    return np.round(found, 12)


class NearestLeft:
    """Rows that are left, and the nearest of them to each query.

    vectors: float32 [rows, d]; queries: float32 [queries, d]; both unit length (or zero).
    expected: about how many rows will be taken in all; it sets the length of the first lists, not the result.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        queries: NDArray[np.float32],
        expected: int,
        depth: int | None = None,
    ) -> None:
        self.vectors, self.queries = vectors, queries
        rows, count = len(vectors), max(1, len(queries))
        self._most = max(16, LIST_BYTES // (LIST_ENTRY_BYTES * count))
        self._depth = max(1, min(depth or min(64 + 4 * -(-expected // count), self._most), rows))
        self._depths = [self._depth] * len(queries)
        self._left = np.ones(rows, dtype=np.bool_)
        self._is_left = bytearray(b"\x01" * rows)
        self._empty()
        self.searches = 0

    def nearest(self, query: int) -> tuple[int, float] | None:
        """The nearest row that is left and its cosine; None where no row is left."""
        while True:
            rows, place = self._rows[query], self._places[query]
            while place < len(rows) and not self._is_left[rows[place]]:
                place += 1
            self._places[query] = place
            if place < len(rows):
                return rows[place], self._cosines[query][place]
            if not self._left.any():
                return None
            self._search(query)

    def take(self, row: int) -> None:
        """Take a row away."""
        self._left[row] = False
        self._is_left[row] = 0

    def put_back(self, rows: list[int]) -> None:
        """Rows that were taken are left again; all lists are searched anew."""
        self._left[rows] = True
        for row in rows:
            self._is_left[row] = 1
        self._empty()

    def _empty(self) -> None:
        count = len(self.queries)
        self._rows: list[list[int]] = [[] for _ in range(count)]
        self._cosines: list[list[float]] = [[] for _ in range(count)]
        self._places = [0] * count

    def _search(self, query: int) -> None:
        """New lists for this query and for those whose lists are as good as gone: together they cost less."""
        places = np.flatnonzero(self._left)
        asking = [other for other in range(len(self.queries)) if other == query or self._is_short(other)]
        for other in asking:
            if self._rows[other]:
                self._depths[other] = max(self._depths[other], min(2 * self._depths[other], self._most))
        step = max(1, BLOCK_ELEMENTS // len(places))
        vectors = self.vectors if len(places) == len(self.vectors) else None
        for start in range(0, len(asking), step):
            some = asking[start : start + step]
            near = self._products(vectors, places, self.queries[some])
            for index, other in enumerate(some):
                self._fill(other, near[index], places)
        self.searches += len(asking)

    def _is_short(self, query: int) -> bool:
        rows = self._rows[query][self._places[query] :]
        return sum(self._is_left[row] for row in rows[: self._depth // 8 + 1]) <= self._depth // 8

    def _products(
        self, whole: NDArray[np.float32] | None, places: NDArray[np.int64], queries: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        if whole is not None:
            return queries @ whole.T
        near = np.empty((len(queries), len(places)), dtype=np.float32)
        step = max(1, BLOCK_ELEMENTS // self.vectors.shape[1])
        for start in range(0, len(places), step):
            near[:, start : start + step] = queries @ self.vectors[places[start : start + step]].T
        return near

    def _fill(self, query: int, near: NDArray[np.float32], places: NDArray[np.int64]) -> None:
        """The list of a query: as many rows as are certain to be its nearest."""
        depth = min(self._depths[query], len(places))
        off = rounding(self.vectors.shape[1])
        while True:
            if depth >= len(places):
                held, least = places, -np.inf
            else:
                bound = float(np.partition(near, -depth)[-depth])
                held, least = places[near >= bound], bound + off
            exact = cosines(self.vectors, held, self.queries[query])
            sure = exact > least
            if sure.any() or depth >= len(places):
                break
            depth = min(2 * depth, len(places))
        held, exact = held[sure], exact[sure]
        order = np.argsort(-exact, kind="stable")
        self._depths[query] = depth
        self._rows[query], self._cosines[query] = held[order].tolist(), exact[order].tolist()
        self._places[query] = 0
