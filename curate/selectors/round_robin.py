"""Round robin: the best row of each group in turn, until the budget is spent.

Rule: rank the rows of each group by the score, best first, ties by position; first the best of every
group, then the second best of every group, and so on; within a turn, groups in the order of these rows'
scores. A group that has run out is passed over. `min` and `max` (both included) keep rows out whose score
is outside; rows without a score are never chosen. Budgets in tokens stop at the first row that does not fit.
Against `top`: a score whose level differs between sources (IFD is high for chat, low for code) does not
fill the budget from one of them.
Rank is the order of the turns.

Cost: O(n log n).
Source: equal shares of groups, as in the budget of Maharana et al., "Adapt-∞", 2024.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from curate.budget import Budget
from curate.numerics.ranking import group_rank, interleaved, ranked
from curate.pool import Order, Pool, column_of, highest_first
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, rank_texts, share_texts


class RoundRobin(Selector):
    """The best row of each group in turn, until the budget is spent."""

    by: str = Field(description="scorer (`ifd`) or column to rank by")
    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    per: str = Field(default="source", description="column whose values take turns (source, cluster, …)")
    order: Order | None = Field(
        default=None, description="which end is best; needed where the score has no stated direction"
    )
    min: float | None = Field(
        default=None, allow_inf_nan=False, description="smallest score that may be kept"
    )
    max: float | None = Field(default=None, allow_inf_nan=False, description="largest score that may be kept")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` must be at most `max`. Got {self.min:g} and {self.max:g}.")
        return self

    def needs(self) -> frozenset[str]:
        """The score, the groups and what the budget counts."""
        return frozenset({column_of(self.by), column_of(self.per)}) | self.budget.needs()

    def check(self, higher_is_better: Mapping[str, bool | None]) -> None:
        """The score must state a direction, or `order` must be given."""
        highest_first(higher_is_better, column_of(self.by), self.order)

    def select(self, pool: Pool) -> Selection:
        """The rows in the order of the turns."""
        column = column_of(self.by)
        highest = pool.highest_first(column, self.order)
        values = pool.values(column)
        scored = ranked(values, highest)
        low = values < (-np.inf if self.min is None else self.min)
        high = values > (np.inf if self.max is None else self.max)
        order = scored[~(low | high)[scored]]
        groups = pool.groups(column_of(self.per))
        turns = interleaved(order, groups.labels, np.ones(len(groups.names)))
        kept = pool.take(turns, self.budget)
        texts = rank_texts(pool, column, scored, highest)
        texts = share_texts(texts, kept, order, groups, self.per)
        turn = np.zeros(pool.rows, dtype=np.int64)
        turn[order] = group_rank(order, groups.labels) + 1
        texts = after(
            texts, mask(pool.rows, order), pl.select(pl.format(", turn {}", pl.Series(turn))).to_series()
        )
        texts = after(texts, low, "" if self.min is None else f", below the minimum of {self.min:g}")
        texts = after(texts, high, "" if self.max is None else f", above the maximum of {self.max:g}")
        return Selection.of(kept, texts)
