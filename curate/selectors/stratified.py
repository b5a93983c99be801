"""Stratified: equally many rows from every level of a score (coverage-centric selection, CCS).

Rule: cut the scores at two quantiles, the outer ones as outliers; split what is between into `bins` strata of
equal width; give each the same number of rows, drawn uniformly at random; a stratum that is too small gives all
it has, and its deficit is spread over the rest. What cannot be shared equally goes to the highest strata.
Which end of the score is good does not matter. Rank: a row of every stratum in turn, the highest first, so that
every prefix is stratified too. Budgets in tokens are spent in that order, up to the first row that does not fit:
strata have equal rows, not equal tokens. Rows without a score are never chosen.
A quantile is the place (n - 1) * share of the ascending scores, rounded outwards to a row.

Cost: O(n log n) and one hash per row.
Source: Zheng et al., "Coverage-centric coreset selection for high pruning rates", 2023; with both tails cut at
5 %, as Maharana et al., "Adapt-∞", 2024, do in its code.
Deviations: the code walks down from the highest bin and spreads a deficit over the lower ones only, with shares
rounded up, so that it misses the budget by some rows; here all bins share it and the budget is met. CCS itself
cuts the hardest end alone: `low: 0`, and `high: 1 - β` for its pruning rate β of hard rows.
"""

from typing import Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from curate.budget import Budget
from curate.errors import DataError
from curate.numerics.ranking import ranked
from curate.numerics.stratified import cuts, in_turn, strata
from curate.pool import Groups, Pool, column_of, label_of
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, no_score, share_texts


class Stratified(Selector):
    """Equally many rows from every level of a score, without its outliers."""

    by: str = Field(description="scorer (`el2n`) or column whose levels are covered")
    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    bins: int = Field(default=50, ge=1, description="strata of equal width between the two quantiles")
    low: float = Field(default=0.05, ge=0, le=1, description="lower quantile, 0 to 1; rows below it are out")
    high: float = Field(default=0.95, ge=0, le=1, description="upper quantile, 0 to 1; rows above it are out")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"`low` must be below `high`. Got {self.low:g} and {self.high:g}.")
        return self

    def needs(self) -> frozenset[str]:
        """The score and what the budget counts."""
        return frozenset({column_of(self.by)}) | self.budget.needs()

    def select(self, pool: Pool) -> Selection:
        """The rows drawn, a row of every stratum in turn.

        Raises DataError where no row has a score, or one at a quantile is infinite.
        """
        column = column_of(self.by)
        values = pool.values(column)
        known = values[~np.isnan(values)]
        if not len(known):
            raise DataError(f"strata need scores. All {pool.rows} rows have `{column}` null.")
        low, high = cuts(known, self.low, self.high)
        if not np.isfinite([low, high]).all():
            raise DataError(
                f"`{column}` must be finite between the quantiles {self.low:g} and {self.high:g}, to be cut into "
                f"strata. Got {low:g} to {high:g}. Narrow them."
            )
        labels = strata(values, low, high, self.bins)
        drawn = ranked(np.where(labels < 0, np.nan, pool.keys("stratified")), highest=False)
        order = in_turn(drawn, labels)
        kept = pool.take(order, self.budget)
        edges = np.linspace(high, low, self.bins + 1)
        names = [
            f"{bin + 1} of {self.bins} ({edges[bin + 1]:.4g} to {edges[bin]:.4g})" for bin in range(self.bins)
        ]
        groups = Groups(np.where(labels < 0, self.bins, labels), (*names, "outside"))
        value = pl.format("{} {}", pl.lit(label_of(column)), "text")
        texts = pl.DataFrame({"value": values, "text": pool.texts(column)}).select(
            pl.when(pl.col("value").is_nan()).then(pl.lit(no_score(column)))
            .when(pl.col("value") < low).then(pl.format(f"{{}}, below the quantile {self.low:g} ({low:.4g})", value))
            .when(pl.col("value") > high).then(pl.format(f"{{}}, above the quantile {self.high:g} ({high:.4g})", value))
            .otherwise(value)
        ).to_series()  # fmt: skip
        left = mask(pool.rows, order) & ~mask(pool.rows, kept)
        texts = after(share_texts(texts, kept, order, groups, "stratum"), left, ", not drawn")
        filled = groups.sizes(order)[: self.bins]
        return Selection.of(
            kept, texts, {"strata": int((filled > 0).sum()), "outside": pool.rows - len(order)}
        )
