"""Leverage scores: the rows that hold up the directions of the embeddings which few others do.

Formula: ℓ_i = ‖U_i‖² = x_i (XᵀX)⁺ x_iᵀ for X = UΣVᵀ, the unit embeddings, n × d; in [0, 1], their sum is the rank. With
`components: k` the rank-k leverage, of the k largest singular values: without it noise directions count as much as
others. `draw: top` keeps the largest, equal ones by position; `draw: sample` draws without replacement with
probability ∝ ℓ (each next row among those left, exactly, by Gumbel keys), the column subset selection of theory. Rows
without an embedding are never chosen. Budgets in tokens stop at the first row that does not fit.
A baseline that looks at no score. Rank: the largest leverage first; `sample`: the order of the draw.

Cost: O(n d²); memory: the embeddings twice, two d × d matrices, 64 MiB.
Source: Mahoney and Drineas, "CUR matrix decompositions for improved data analysis", 2009, for rank-k leverage and
    sampling ∝ ℓ; Papailiopoulos, Kyrillidis and Boutsidis, "Provable deterministic leverage score sampling", 2014.
Deviations: without replacement, and without the rescaling of sampled rows, which a sketch needs and a subset does not.
"""

from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from curate.budget import Budget
from curate.numerics.leverage import leverage_scores
from curate.numerics.ranking import ranked, weighted_order
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask
from curate.selectors._vectors import NO_EMBEDDING, Embedded, texts_of


class Leverage(Selector):
    """The rows that hold up the directions of the embeddings which few others do."""

    dimension_fields = ("components",)

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    components: int | None = Field(
        default=None, ge=1, description="k: leverage in the k largest singular directions; all if left out"
    )
    draw: Literal["top", "sample"] = Field(
        default="top", description="the largest leverages, or a draw with probability ∝ leverage"
    )

    def needs(self) -> frozenset[str]:
        """The embeddings and what the budget counts."""
        return frozenset({"embedding"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """The embeddings twice, two square matrices and a block."""
        return 8 * width * rows + 16 * width**2 + 2**26

    def select(self, pool: Pool) -> Selection:
        """The kept rows, best first or as drawn."""
        embedded = Embedded.of(pool)
        scores, found = leverage_scores(embedded.vectors, self.components)
        values = embedded.spread(scores)
        order = ranked(values, highest=True)
        place = np.zeros(pool.rows, dtype=np.int64)
        place[order] = np.arange(1, len(order) + 1)
        if self.draw == "sample":
            weights = np.where(values > 0, np.log(np.maximum(values, 1e-300)), -np.inf)
            order = weighted_order(np.where(np.isnan(values), np.nan, weights), pool.keys("leverage"))
        kept = pool.take(order, self.budget)
        text = pl.format(
            f"leverage {{}} of rank {found}, place {{}} of {len(order)}", texts_of(values), pl.Series(place)
        )
        texts = pl.when(pl.Series(embedded.missing)).then(pl.lit(NO_EMBEDDING)).otherwise(text)
        dropped = mask(pool.rows, order) & ~mask(pool.rows, kept)
        more = ", not drawn" if self.draw == "sample" else ", the budget was spent before it"
        return Selection.of(kept, after(pl.select(texts).to_series(), dropped, more), {"rank": found})
