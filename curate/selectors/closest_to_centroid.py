"""Closest to centroid: a budget for each cluster, and in it the rows nearest to its centroid.

Rule: b_j proportional to |D_j|, by largest remainder, the excess of a small cluster passed on (`allocation:
equal`: the same for every cluster); in cluster j the b_j rows with the smallest `cluster_distance`, ties by
position. The most typical rows of every cluster: the baseline beside `kmeans_quality`, with no quality in it.
Rank is by distance. A row without an embedding is in no cluster and never chosen. Budgets in tokens are spent
row by row with the clusters in proportion, up to the first row that does not fit.

Cost: O(n log n), after clustering.
Source: "k-means closest" of Yu et al., "Diversify and Conquer", 2024; the easy end of Sorscher et al., "Beyond
neural scaling laws", 2022, whose self-supervised prototypes it keeps.
"""

import polars as pl
from pydantic import Field

from curate.budget import Budget
from curate.numerics.ranking import ranked
from curate.pool import Allocation, Pool
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, rank_texts, share_texts

DISTANCE = "cluster_distance"


class ClosestToCentroid(Selector):
    """A budget for each cluster by its size, and in it the rows nearest to its centroid."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    allocation: Allocation = Field(
        default="proportional", description="by the clusters' rows, or equal shares"
    )

    def needs(self) -> frozenset[str]:
        """The cluster, the distance to its centroid and what the budget counts."""
        return frozenset({"cluster", DISTANCE}) | self.budget.needs()

    def select(self, pool: Pool) -> Selection:
        """The nearest rows of each cluster, by distance."""
        order = ranked(pool.values(DISTANCE), highest=False)
        groups = pool.groups("cluster")
        kept = pool.take_balanced(order, self.budget, groups, self.allocation)
        texts = share_texts(rank_texts(pool, DISTANCE, order, highest=False), kept, order, groups, "cluster")
        last = dict(zip(groups.labels[kept].tolist(), kept.tolist(), strict=True))
        values = pool.texts(DISTANCE)
        cuts = [
            f", beyond its cut at {values[last[g]]}" if g in last else "" for g in range(len(groups.names))
        ]
        dropped = mask(pool.rows, order) & ~mask(pool.rows, kept)
        return Selection.of(
            kept, after(texts, dropped, pl.Series(cuts, dtype=pl.String).gather(groups.labels))
        )
