"""Random: rows drawn uniformly without replacement, overall or balanced over groups. The baseline.

Rule: each row has a number in (0, 1) from the seed and its uid; rows are kept from the smallest up. So a
row's luck depends on neither the order nor the rest of the pool, and a larger budget keeps what a smaller
one kept. With `per`, the budget is shared over the groups as in `top`.
Rank is the order of the draw.

Cost: O(n log n) and one hash per row.
Source: the baseline of every study of data selection.
"""

from typing import Self

from pydantic import Field, model_validator

from curate.budget import Budget
from curate.numerics.ranking import ranked
from curate.pool import Allocation, Pool, column_of
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, place_texts, share_texts


class Random(Selector):
    """Rows drawn uniformly without replacement, overall or balanced over groups."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
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
        """The groups and what the budget counts."""
        groups = {column_of(self.per)} if self.per else set()
        return frozenset(groups) | self.budget.needs()

    def select(self, pool: Pool) -> Selection:
        """The rows drawn, in the order of the draw."""
        order = ranked(pool.keys("random"), highest=False)
        texts = place_texts(pool, order)
        if self.per is None:
            kept = pool.take(order, self.budget)
        else:
            groups = pool.groups(column_of(self.per))
            kept = pool.take_balanced(order, self.budget, groups, self.allocation)
            texts = share_texts(texts, kept, order, groups, self.per)
        chosen = mask(pool.rows, kept)
        texts = after(texts, chosen, f", within the budget of {self.budget}")
        return Selection.of(kept, after(texts, ~chosen, f", past the budget of {self.budget}"))
