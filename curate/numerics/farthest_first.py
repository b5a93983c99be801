"""Farthest-first traversal: the row farthest from all that are chosen, again and again (greedy k-center).

distance(i) = min over chosen c of 1 − x_i·x_c on unit vectors; ‖x_i − x_c‖² is twice that, so the order is the
Euclidean one. What is chosen covers the rows within at most twice the smallest radius possible for so many centres
(Gonzalez 1985). Equal distances: the earlier row.

A distance only ever falls, so an old one bounds the new one from above. The rows with the largest bounds are brought
up to date together, in one product with the centres that are new to them, and choices are made among them for as
long as no row outside has a larger bound: exact, and far less than the n products a choice that the plain way takes.
Distances are products in float64, rounded to 12 decimals, so that they depend on neither blocks nor threads.
"""

import numpy as np
from numpy.typing import NDArray

TOGETHER = 2048
"""Rows that are brought up to date together."""

_BLOCK_ELEMENTS = 1 << 22


class FarthestFirst:
    """Chosen rows, and the distance of each other row to the nearest of them.

    vectors: float32 [rows, d], unit length. together: see TOGETHER; it changes the work, not the result.
    Memory: a few numbers a row, and d float64 a chosen row.
    """

    def __init__(self, vectors: NDArray[np.float32], together: int = TOGETHER) -> None:
        self._vectors, self._together = vectors, together
        rows = len(vectors)
        self._bounds = np.full(rows, np.inf)
        self._known = np.zeros(rows, dtype=np.int64)
        self._open = np.ones(rows, dtype=np.bool_)
        self._centres = np.empty((16, vectors.shape[1]))
        self.chosen = 0
        self._batch = np.zeros(0, dtype=np.int64)
        self._outside = (-np.inf, -1)

    def farthest(self) -> tuple[int, float] | None:
        """The open row that is farthest from the chosen ones and its distance, in [0, 2]; None where none is open.

        Raises ValueError before anything is chosen.
        """
        if not self.chosen:
            raise ValueError("farthest needs a chosen row. Choose the first.")
        while True:
            if len(self._batch):
                self._update(self._batch)
                values = np.where(self._open[self._batch], self._bounds[self._batch], -np.inf)
                place = int(values.argmax())
                row, value = int(self._batch[place]), float(values[place])
                if (-value, row) < self._outside:
                    return row, value
            if not self._next_batch():
                return None

    def choose(self, row: int) -> None:
        """Make it a centre; it is no longer open."""
        if self.chosen == len(self._centres):
            self._centres = np.concatenate([self._centres, np.empty_like(self._centres)])
        self._centres[self.chosen] = self._vectors[row]
        self.chosen += 1
        self.bar(row)

    def bar(self, row: int) -> None:
        """Close a row without choosing it."""
        self._open[row] = False

    def put_back(self, rows: list[int]) -> None:
        """Rows that were barred are open again."""
        self._open[rows] = True
        self._batch = self._batch[:0]

    def _next_batch(self) -> bool:
        """The open rows of the largest bounds; False where none is open.

        The first of the others is kept beside, as (-bound, row): a row of the batch that is before it is the farthest.
        """
        rows = np.flatnonzero(self._open)
        if not len(rows):
            return False
        if not self._known.any():
            self._update(rows)
        bounds = self._bounds[rows]
        self._batch, self._outside = rows, (np.inf, -1)
        if len(rows) > self._together:
            least = np.partition(bounds, -self._together)[-self._together]
            above, level = np.flatnonzero(bounds > least), np.flatnonzero(bounds == least)
            level, rest = np.split(level, [self._together - len(above)])
            self._batch = rows[np.sort(np.concatenate([above, level]))]
            first = rest[0] if len(rest) else int(np.where(bounds < least, bounds, -np.inf).argmax())
            self._outside = (-float(bounds[first]), int(rows[first]))
        return True

    def _update(self, rows: NDArray[np.int64]) -> None:
        """Bring the distances of these rows up to date, grouped by how many centres they know."""
        behind = rows[self._known[rows] < self.chosen]
        if not len(behind):
            return
        for known in np.unique(self._known[behind]).tolist():
            group = behind[self._known[behind] == known]
            new = self._centres[known : self.chosen]
            step = max(1, _BLOCK_ELEMENTS // max(len(new), self._vectors.shape[1]))
            for start in range(0, len(group), step):
                some = group[start : start + step]
                nearest = (self._vectors[some].astype(np.float64) @ new.T).max(axis=1)
                distance = np.clip(np.round(1 - nearest, 12), 0, 2)
                self._bounds[some] = np.minimum(self._bounds[some], distance)
        self._known[behind] = self.chosen
