"""k-means quality (kMQ): a budget for each cluster, and a draw inside it that favours quality.

Formula: b_j ∝ |D_j|, the rows of cluster j that have a score; in a cluster, b_j rows are drawn with
probability ∝ quality. quality = score where high is better, else -score; the weight is the quality itself
where all qualities of the pool are above 0, else its softmax, exp(quality).
Variants:
  default  without replacement (each next row among those left, exactly, by Gumbel keys); b_j by largest
           remainder; what a small cluster cannot take is passed on.
  paper    b_j draws with replacement, ∝ quality. A row that is drawn twice is kept once, and its reason
           says how often: fewer rows than the budget are kept.
  code     int(b / K) rows of each of the K clusters, without replacement, ∝ softmax(quality); a smaller
           cluster gives all it has, nothing is passed on.
A budget in tokens (default variant only) is spent row by row with the clusters in proportion, up to the
first row that does not fit. Rows without a score are never chosen. Rank is the order of the draw; `paper`:
the most often drawn first.

Cost: O(n log n) and one hash per row, after clustering.
Source: Yu et al., "Diversify and Conquer", 2024, paper and code (they differ, hence the variants);
Efraimidis and Spirakis, 2006, for the draw.
"""

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from curate.budget import Budget
from curate.errors import DataError
from curate.numerics.apportion import apportion
from curate.numerics.ranking import chance_weights, group_rank, probabilities, ranked, weighted_order
from curate.numerics.seeds import derive, uniform
from curate.pool import Groups, Order, Pool, column_of, highest_first, label_of
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, no_score, share_texts


class KmeansQuality(Selector):
    """A budget for each cluster by its size, and a draw inside it that favours quality."""

    by: str = Field(description="scorer (`donod`) or column that measures quality")
    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    order: Order | None = Field(
        default=None, description="which end is good; needed where the score has no stated direction"
    )
    variant: Literal["default", "paper", "code"] = Field(
        default="default", description="paper: with replacement; code: equal shares, softmax"
    )

    @model_validator(mode="after")
    def _rows_only(self) -> Self:
        if self.budget.column is not None and self.variant != "default":
            raise ValueError(f"`variant: {self.variant}` takes a budget in rows. Got {self.budget}.")
        return self

    def needs(self) -> frozenset[str]:
        """The score, the cluster and what the budget counts."""
        return frozenset({column_of(self.by), "cluster"}) | self.budget.needs()

    def check(self, higher_is_better: Mapping[str, bool | None]) -> None:
        """The score must state a direction, or `order` must be given."""
        highest_first(higher_is_better, column_of(self.by), self.order)

    @property
    def takes_constraints(self) -> bool:
        """Only where rows are drawn without replacement, and what a cluster cannot take is passed on."""
        return self.variant == "default"

    def select(self, pool: Pool) -> Selection:
        """The rows drawn. Raises DataError where a score is infinite or `code` has less than a row a cluster."""
        column = column_of(self.by)
        order, weights = self.draw_order(pool)
        groups = pool.groups("cluster")
        kept, times = self._draw(pool, order, weights, groups)
        chance = probabilities(weights, groups.labels)
        percent = (pl.col("chance") * 100).round_sig_figs(3)
        text = pl.format("{} {}, {}% of its cluster's chance", pl.lit(label_of(column)), "score", percent)
        texts = pl.DataFrame({"score": pool.texts(column), "chance": chance}).select(
            pl.when(pl.col("chance").is_nan()).then(pl.lit(no_score(column))).otherwise(text)
        )
        reasons = share_texts(texts.to_series(), kept, order, groups, "cluster")
        left = mask(pool.rows, order) & ~mask(pool.rows, kept)
        repeats = pl.select(pl.format(", drawn {} times", pl.Series(times))).to_series()
        return Selection.of(kept, after(after(reasons, left, ", not drawn"), times > 1, repeats))

    def draw_order(self, pool: Pool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(order, log weights): the rows with a score, int64, those of each cluster in the order of their draw.

        Whatever stands before, the next row of a cluster is a draw among those of it that are left. The
        logarithms, float64 [rows], are NaN where there is no score. Raises DataError where a score is infinite.
        """
        column = column_of(self.by)
        values = pool.values(column)
        if np.isinf(values).any():
            raise DataError(
                f"`{column}` must be finite to draw by. {int(np.isinf(values).sum())} rows are not."
            )
        quality = values if pool.highest_first(column, self.order) else -values
        weights = quality if self.variant == "code" else chance_weights(quality)[0]
        return weighted_order(weights, pool.keys("kmeans_quality")), weights

    def _draw(
        self, pool: Pool, order: NDArray[np.int64], weights: NDArray[np.float64], groups: Groups
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The kept rows, and how often each row of the pool was drawn."""
        times = np.zeros(pool.rows, dtype=np.int64)
        if self.variant == "default":
            kept = pool.take_balanced(order, self.budget, groups, "proportional")
            times[kept] = 1
            return kept, times
        sizes = groups.sizes(order)
        rows = len(pool.take(order, self.budget))
        if self.variant == "code":
            clusters = int((sizes > 0).sum())
            share = rows // clusters
            if share == 0:
                raise DataError(
                    f"`variant: code` needs a row for each of {clusters} clusters. Budget: {rows} rows."
                )
            kept = order[group_rank(order, groups.labels) < share]
            times[kept] = 1
            return kept, times
        chance = probabilities(weights, groups.labels)
        for index, share in enumerate(apportion(sizes, rows)):
            members = order[groups.labels[order] == index]
            if share == 0:
                continue
            names = [f"{groups.names[index]}\x1f{draw}" for draw in range(share)]
            drawn = uniform(derive(pool.seed, "kmeans_quality", "paper"), names)
            sums = np.cumsum(chance[members])
            np.add.at(times, members[np.searchsorted(sums / sums[-1], drawn, side="right")], 1)
        drawn_rows = np.flatnonzero(times)
        return drawn_rows[ranked(times[drawn_rows].astype(np.float64), highest=True)], times
