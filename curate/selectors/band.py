"""Band: rows whose score lies between two quantiles of the pool, all of them or a random part.

Rule: q_low <= score <= q_high, where q is the linearly interpolated quantile of the scores that are not
null; both ends included. With a budget, rows are drawn uniformly at random inside the band.
The case it is for: EL2N with the hardest few dropped as noise, `{by: el2n, low: 0.3, high: 0.95}`.
Rank is the order of the pool, or of the draw. Rows without a score are never chosen.

Cost: O(n log n).
Source: methods/selection.md 1; Paul, Ganguli, Dziugaite, "Deep learning on a data diet", 2021.
"""

from typing import Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from curate.budget import Budget
from curate.errors import DataError
from curate.numerics.ranking import ranked
from curate.selector import Pool, Selection, Selector, column_of, label_of
from curate.selectors._reasons import after, mask, no_score


class Band(Selector):
    """Rows whose score lies between two quantiles, all of them or a random part."""

    by: str = Field(description="scorer (`el2n`) or column whose quantiles bound the band")
    low: float = Field(default=0.0, ge=0, le=1, description="lower quantile, 0 to 1, included")
    high: float = Field(default=1.0, ge=0, le=1, description="upper quantile, 0 to 1, included")
    budget: Budget | None = Field(
        default=None, description="how much to draw at random inside the band; all of it when left out"
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"`low` must be below `high`. Got {self.low:g} and {self.high:g}.")
        return self

    def needs(self) -> frozenset[str]:
        """The score and what the budget counts."""
        return frozenset({column_of(self.by)}) | (self.budget.needs() if self.budget else frozenset())

    def select(self, pool: Pool) -> Selection:
        """The band, or the rows drawn in it. Raises DataError where no row has a score."""
        column = column_of(self.by)
        values = pool.values(column)
        present = values[~np.isnan(values)]
        if len(present) == 0:
            raise DataError(f"a band needs scores. All {pool.rows} rows have `{column}` null.")
        low, high = np.quantile(present, [self.low, self.high])
        band = np.flatnonzero((values >= low) & (values <= high))
        value = pl.format("{} {}", pl.lit(label_of(column)), "text")
        limits = f"quantiles {self.low:g} ({low:.4g}) and {self.high:g} ({high:.4g})"
        reason = (
            pl.when(pl.col("value").is_nan()).then(pl.lit(no_score(column)))
            .when(pl.col("value") < low).then(pl.format(f"{{}}, below the quantile {self.low:g} ({low:.4g})", value))
            .when(pl.col("value") > high).then(pl.format(f"{{}}, above the quantile {self.high:g} ({high:.4g})", value))
            .otherwise(pl.format(f"{{}}, between the {limits}", value))
        )  # fmt: skip
        texts = pl.DataFrame({"value": values, "text": pool.texts(column)}).select(reason).to_series()
        if self.budget is None:
            return Selection.of(band, texts)
        order = band[ranked(pool.keys("band")[band], highest=False)]
        kept = pool.take(order, self.budget)
        drawn = f"{len(kept)} drawn at random of {len(band)} in the band"
        left = mask(pool.rows, band) & ~mask(pool.rows, kept)
        texts = after(texts, mask(pool.rows, kept), f"; one of the {drawn}")
        return Selection.of(kept, after(texts, left, f"; not among the {drawn}"))
