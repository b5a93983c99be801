"""Test-centric arrangement (TMA): in every round, each target row takes its nearest row that is left.

Rule: in a round each target row names its nearest row of the pool, by −cos, among those that no earlier round took;
each row that is named is taken once, in the order of the target rows that name it; rounds follow until the budget is
spent. Two target rows that name the same row share it; a row that a constraint bars is passed over. Rows that
must be included are taken before. Rows without an embedding are never chosen; target rows are counted from 0 among
those that have one. Budgets in tokens stop at the first row that does not fit.
`arrangement` orders what was kept, which is the rank; mix it with `curriculum: {by: rank, order: ascending}`:
  rounds    as taken
  nearest   WSD ascending: WSD_i = min_j d_ij + w · mean_j d_ij, d = −cos to target row j, over the kept rows, with
            w = mean_i(min_j d) / mean_i(mean_j d), 0 where that divides by 0
  furthest  WSD descending
  random    at random

Cost: O(n m d) for n rows and m target rows, more where many target rows want the same; memory: the embeddings twice
    and about 0.3 GiB, never n × m.
Source: TMA, test-centric arrangement, after a description of its code; the paper was not at hand.
Deviations: in a round, rows stand in the order of the target rows, not of the pool, so that a budget that ends
    within a round keeps the same rows in whatever order the pool is.
"""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.budget import Budget
from curate.numerics.kmeans import assign
from curate.numerics.nearest import BLOCK_ELEMENTS, LIST_BYTES, NearestLeft, cosines
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._choosing import Choosing
from curate.selectors._reasons import after, mask
from curate.selectors._vectors import NO_EMBEDDING, Embedded, target_vectors, texts_of


class TestCentric(Selector):
    """In every round, each target row takes its nearest row that is left."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    arrangement: Literal["rounds", "nearest", "furthest", "random"] = Field(
        default="rounds", description="the order of the kept rows, which is their rank"
    )

    def needs(self) -> frozenset[str]:
        """The embeddings of the rows and the target, and what the budget counts."""
        return frozenset({"embedding", "artifact:target_embedding"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """The embeddings twice, a block of cosines, and the target rows' lists."""
        return 8 * width * rows + 4 * max(BLOCK_ELEMENTS, rows) + LIST_BYTES

    def select(self, pool: Pool) -> Selection:
        """The kept rows, as arranged."""
        embedded, target = Embedded.of(pool), target_vectors(pool)
        choosing = Choosing(pool, self.budget)
        rounds = self._rounds(pool, embedded, target, choosing)
        kept = choosing.finish()
        nearest, distance = assign(embedded.vectors, target, spherical=True)
        closest = embedded.spread(1 - distance.astype(np.float64))
        every = np.arange(len(embedded.rows))
        mean = embedded.spread(cosines(embedded.vectors, every, target.mean(axis=0, dtype=np.float64)))
        weight, wsd = weighted_distance(-closest, -mean, kept)
        if self.arrangement != "rounds":
            key = (
                pool.keys("test_centric") if self.arrangement == "random" else np.nan_to_num(wsd, nan=-np.inf)
            )
            kept = kept[
                np.argsort(-key[kept] if self.arrangement == "furthest" else key[kept], kind="stable")
            ]
        own = np.zeros(pool.rows, dtype=np.int64)
        own[embedded.rows] = nearest
        text = pl.format("nearest target row {}, cosine {}", pl.Series(own), texts_of(closest))
        texts = after(pl.select(text).to_series(), rounds > 0, _filled("; taken in round {}", rounds))
        texts = after(texts, mask(pool.rows, kept) & ~np.isnan(wsd), _filled("; WSD {}", texts_of(wsd)))
        gone = mask(pool.rows, np.array([*kept, *choosing.barred], dtype=np.int64))
        texts = after(texts, ~gone, f"; not taken in {int(rounds.max(initial=0))} rounds")
        missing = pl.when(pl.Series(embedded.missing)).then(pl.lit(NO_EMBEDDING)).otherwise(texts)
        notes = {"target_rows": len(target), "rounds": int(rounds.max(initial=0)), "wsd_weight": weight}
        return Selection.of(kept, pl.select(missing).to_series(), notes)

    def _rounds(
        self, pool: Pool, embedded: Embedded, target: NDArray[np.float32], choosing: Choosing
    ) -> NDArray[np.int64]:
        """Take the rows; the round, from 1, in which each was taken, int64 [rows of the pool], 0 for none."""
        left = NearestLeft(embedded.vectors, target, self.expected_rows(pool.rows) or pool.rows // 10)
        for place in embedded.places_of(choosing.included):
            left.take(place)
        rounds = np.zeros(pool.rows, dtype=np.int64)
        number, any_left = 0, True
        while any_left and not choosing.spent:
            number, taken = number + 1, set[int]()
            for index in range(len(target)):
                while not choosing.spent and (found := left.nearest(index)) and found[0] not in taken:
                    place = found[0]
                    if choosing.ask(row := int(embedded.rows[place])):
                        taken.add(place)
                        rounds[row] = number
                        break
                    left.take(place)
            for place in taken:
                left.take(place)
            released = embedded.places_of(choosing.released())
            if released:
                left.put_back(released)
            any_left = bool(taken or released)
        return rounds


def weighted_distance(
    least: NDArray[np.float64], mean: NDArray[np.float64], rows: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """w, and WSD = least + w · mean, float64 like `least`; w is the ratio of their means over the rows."""
    known = rows[~np.isnan(least[rows])]
    below = float(mean[known].mean()) if len(known) else 0.0
    weight = float(least[known].mean()) / below if below else 0.0
    return weight, least + weight * mean


def _filled(text: str, values: NDArray[np.int64] | pl.Series) -> pl.Series:
    return pl.select(pl.format(text, pl.Series(values))).to_series()
