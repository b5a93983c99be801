"""Gumbel top: a soft `top`: the best rows are likely, the others possible.

Formula: keep the k largest of s / T + G, G = -log(-log u), u uniform; s is the score where high is good, and
-score where low is. This is drawing k rows one by one without replacement, each among those left with
probability proportional to exp(s / T), exactly (Gumbel-top-k).
T, the temperature, is in the unit of the score: a row whose score is T better is e times as likely to be drawn
first. Towards 0 it is `top` (0 is allowed and is `top`), for large T `random`. Ties by position; rows without a
score are never chosen; rank is the order of the draw. Budgets in tokens stop at the first row that does not fit.

Cost: O(n log n) and one hash per row.
Source: Kool, van Hoof, Welling, "Stochastic beams and where to find them", 2019; Vieira, "Gumbel-max trick and
weighted reservoir sampling", 2014.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from pydantic import Field

from curate.budget import Budget
from curate.numerics.ranking import ranked
from curate.pool import Order, Pool, column_of, highest_first
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, rank_texts


class GumbelTop(Selector):
    """Rows drawn one by one, with probability proportional to exp(score / temperature)."""

    by: str = Field(description="scorer (`el2n`) or column (`tokens`, `meta.level`) to draw by")
    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    temperature: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="in the unit of the score; 0 is `top`"
    )
    order: Order | None = Field(
        default=None, description="which end is best; needed where the score has no stated direction"
    )

    def needs(self) -> frozenset[str]:
        """The score and what the budget counts."""
        return frozenset({column_of(self.by)}) | self.budget.needs()

    def check(self, higher_is_better: Mapping[str, bool | None]) -> None:
        """The score must state a direction, or `order` must be given."""
        highest_first(higher_is_better, column_of(self.by), self.order)

    def select(self, pool: Pool) -> Selection:
        """The rows drawn, in the order of the draw."""
        column = column_of(self.by)
        highest = pool.highest_first(column, self.order)
        values = pool.values(column)
        quality = values if highest else -values
        gumbel = -np.log(-np.log(pool.keys("gumbel_top")))
        # s / T + G and s + T·G have one order; the first cannot overflow for T >= 1, the second for T < 1.
        warm = self.temperature >= 1
        perturbed = quality / self.temperature + gumbel if warm else quality + self.temperature * gumbel
        order = ranked(perturbed, highest=True)
        kept = pool.take(order, self.budget)
        texts = rank_texts(pool, column, ranked(values, highest), highest)
        place = np.zeros(pool.rows, dtype=np.int64)
        place[order] = np.arange(1, len(order) + 1)
        drawn = pl.select(
            pl.format(f", drawn as number {{}} at temperature {self.temperature:g}", pl.Series(place))
        )
        texts = after(texts, mask(pool.rows, order), drawn.to_series())
        return Selection.of(kept, texts)
