"""k-center: again and again the row that is farthest from all that are kept (farthest-first traversal).

Rule: first the row nearest to the mean of the unit embeddings (`first: random`: one at random), or the rows that must
be included; then always the row with the largest cosine distance, 1 − cos, to its nearest kept row; equal distances
by position. In Euclidean distance on unit vectors the order is the same. The largest distance of a row to the
kept ones, the radius, is within a factor of two of the smallest possible (in Euclidean distance). Rows without an
embedding are never chosen. Budgets in tokens stop at the first row that does not fit.
A baseline of pure coverage: it favours outliers, noise among them, and looks at no score.
Rank is the order of the choice.

Cost: at most O(n k d) for k rows kept of n, in practice far less; memory: the embeddings twice, d float64 a kept row.
Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; Sener and Savarese, "Active Learning
    for Convolutional Neural Networks: A Core-Set Approach", 2018 (arXiv 1708.00489), its greedy k-center.
Deviations: without the paper's robust k-center, an integer program on the greedy result.
"""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.budget import Budget
from curate.numerics.farthest_first import FarthestFirst
from curate.numerics.nearest import cosines
from curate.numerics.ranking import ranked
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._choosing import Choosing
from curate.selectors._reasons import mask
from curate.selectors._vectors import NO_EMBEDDING, Embedded, texts_of


class KCenter(Selector):
    """Again and again the row that is farthest from all that are kept."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    first: Literal["mean", "random"] = Field(
        default="mean", description="the first row: the nearest to the mean of all, or one at random"
    )

    def needs(self) -> frozenset[str]:
        """The embeddings and what the budget counts."""
        return frozenset({"embedding"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """The embeddings twice, and the kept ones in float64."""
        return 8 * width * (rows + 2 * (self.expected_rows(rows) or rows)) + 2**26

    def select(self, pool: Pool) -> Selection:
        """The rows in the order of the choice."""
        embedded = Embedded.of(pool)
        choosing = Choosing(pool, self.budget)
        traversal = FarthestFirst(embedded.vectors)
        for place in embedded.places_of(choosing.included):
            traversal.choose(place)
        distance, first = np.full(pool.rows, np.nan), -1
        if not traversal.chosen and not choosing.spent:
            first = self._first(pool, embedded, choosing)
            if first >= 0:
                traversal.choose(int(embedded.places[first]))
        while traversal.chosen and not choosing.spent:
            found = traversal.farthest()
            if found is not None:
                place, value = found
                row = int(embedded.rows[place])
                if choosing.ask(row):
                    traversal.choose(place)
                    distance[row] = value
                else:
                    traversal.bar(place)
            released = embedded.places_of(choosing.released())
            if released:
                traversal.put_back(released)
            elif found is None:
                break
        kept = choosing.finish()
        return Selection.of(kept, *self._account(embedded, kept, first, distance, traversal))

    def _first(self, pool: Pool, embedded: Embedded, choosing: Choosing) -> int:
        """The first row of the pool that is admitted, -1 for none."""
        if self.first == "random":
            key = pool.keys("k_center")[embedded.rows]
        else:
            every = np.arange(len(embedded.rows))
            key = -cosines(embedded.vectors, every, embedded.vectors.mean(axis=0, dtype=np.float64))
        for place in ranked(key, highest=False).tolist():
            row = int(embedded.rows[place])
            if choosing.ask(row):
                return row
            if choosing.spent:
                break
        return -1

    def _account(
        self,
        embedded: Embedded,
        kept: NDArray[np.int64],
        first: int,
        distance: NDArray[np.float64],
        traversal: FarthestFirst,
    ) -> tuple[pl.Series, dict[str, float]]:
        """Reasons, String [rows of the pool], and notes."""
        inside = mask(len(embedded.places), kept)
        traversal.put_back(embedded.places_of(np.flatnonzero(~inside)))
        found = traversal.farthest() if traversal.chosen else None
        radius = 0.0 if found is None else found[1]
        choice = np.zeros(len(inside), dtype=np.int64)
        choice[kept] = np.arange(1, len(kept) + 1)
        start = "nearest to the mean of all" if self.first == "mean" else "at random"
        number = pl.format("choice {}, ", pl.Series(choice))
        text = pl.format("the farthest: cosine distance {} to those before", texts_of(distance))
        how = pl.when(pl.Series(~np.isnan(distance))).then(text).otherwise(pl.lit("before the traversal"))
        how = pl.when(pl.Series(np.arange(len(inside)) == first)).then(pl.lit(start)).otherwise(how)
        outside = pl.lit(f"within cosine distance {radius:.4g} of a kept row")
        left = pl.when(pl.Series(embedded.missing)).then(pl.lit(NO_EMBEDDING)).otherwise(outside)
        whole = pl.when(pl.Series(inside)).then(pl.concat_str(number, how)).otherwise(left)
        return pl.select(whole).to_series(), {"radius": radius}
