"""Top: the best rows by one score, in its stated direction.

Rule: rank by the score, best first, equal scores by position; keep the longest prefix that the budget
allows. With `per`, keep the best of each group, the budget shared over the groups by largest remainder,
proportionally to their scored rows or equally; the excess of a small group is passed on.
A score without a direction needs `order`; a given `order` overrides the stated one. Rows without a score
are never chosen. Budgets in tokens stop at the first row that does not fit.

Cost: O(n log n).
Source: apportionment by Hamilton's method (largest remainders).
"""

from collections.abc import Mapping
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from curate.budget import Budget
from curate.numerics.ranking import ranked
from curate.pool import Allocation, Order, Pool, column_of, highest_first
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, rank_texts, share_texts


class Top(Selector):
    """The best rows by one score, overall or of each group."""

    by: str = Field(description="scorer (`el2n`) or column (`tokens`, `meta.level`) to rank by")
    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    order: Order | None = Field(
        default=None, description="which end is best; needed where the score has no stated direction"
    )
    per: str | None = Field(
        default=None, description="share the budget over the values of this column (source, cluster, …)"
    )
    allocation: Allocation = Field(
        default="proportional", description="with `per`: shares by the groups' rows, or equal ones"
    )

    @model_validator(mode="after")
    def _allocation_needs_per(self) -> Self:
        if self.allocation == "equal" and self.per is None:
            raise ValueError("`allocation: equal` shares the budget over groups: it needs `per`, e.g. source")
        return self

    def needs(self) -> frozenset[str]:
        """The score, the groups and what the budget counts."""
        groups = {column_of(self.per)} if self.per else set()
        return frozenset({column_of(self.by)} | groups) | self.budget.needs()

    def check(self, higher_is_better: Mapping[str, bool | None]) -> None:
        """The score must state a direction, or `order` must be given."""
        highest_first(higher_is_better, column_of(self.by), self.order)

    def select(self, pool: Pool) -> Selection:
        """The best rows, in rank order."""
        column = column_of(self.by)
        highest = pool.highest_first(column, self.order)
        order = ranked(pool.values(column), highest)
        texts = rank_texts(pool, column, order, highest)
        side = "below" if highest else "above"
        if self.per is None:
            kept = pool.take(order, self.budget)
            cut = pool.texts(column)[int(kept[-1])]
            dropped = mask(pool.rows, order) & ~mask(pool.rows, kept)
            return Selection.of(kept, after(texts, dropped, f", {side} the cut at {cut}"))
        groups = pool.groups(column_of(self.per))
        kept = pool.take_balanced(order, self.budget, groups, self.allocation)
        texts = share_texts(texts, kept, order, groups, self.per)
        dropped = mask(pool.rows, order) & ~mask(pool.rows, kept)
        last = dict(zip(groups.labels[kept].tolist(), kept.tolist(), strict=True))
        values = pool.texts(column)
        cuts = [
            f", {side} its cut at {values[last[g]]}" if g in last else "" for g in range(len(groups.names))
        ]
        return Selection.of(
            kept, after(texts, dropped, pl.Series(cuts, dtype=pl.String).gather(groups.labels))
        )
