"""Band: rows whose score lies between two quantiles of the pool, all of them or a random part.

Rule: q_low <= score <= q_high, where q is the linearly interpolated quantile of the n scores that are not
null, at the place (n - 1) * share of the ascending scores; both ends included. The place is rounded to a
millionth: 100 * 0.29 is 28.999999999999996 in floating point, and the score at place 29 belongs to it.
With `per`, quantiles are those of the row's own group: a score whose level differs between sources (loss is
high for chat, low for code) then keeps the same share of each.
With a budget, rows are drawn uniformly at random inside the band.
The case it is for: EL2N with the hardest few dropped as noise, `{by: el2n, low: 0.3, high: 0.95}`.
Rank is the order of the pool, or of the draw. Rows without a score are never chosen.

Cost: O(n log n).
Source: Paul, Ganguli, Dziugaite, "Deep learning on a data diet", 2021.
"""

from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from curate.budget import EVERYTHING, Budget
from curate.errors import DataError
from curate.numerics.ranking import ranked
from curate.pool import Pool, column_of, label_of
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, no_score

PLACE_DECIMALS = 6
"""Rounding of a quantile's place: above the error of the product for up to a billion rows."""


class Band(Selector):
    """Rows whose score lies between two quantiles, all of them or a random part."""

    version: ClassVar[int] = 2

    by: str = Field(description="scorer (`el2n`) or column whose quantiles bound the band")
    low: float = Field(default=0.0, ge=0, le=1, description="lower quantile, 0 to 1, included")
    high: float = Field(default=1.0, ge=0, le=1, description="upper quantile, 0 to 1, included")
    per: str | None = Field(
        default=None, description="take the quantiles within each value of this column (source, cluster, …)"
    )
    budget: Budget | None = Field(
        default=None, description="how much to draw at random inside the band; all of it when left out"
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"`low` must be below `high`. Got {self.low:g} and {self.high:g}.")
        return self

    def needs(self) -> frozenset[str]:
        """The score, the groups and what the budget counts."""
        groups = {column_of(self.per)} if self.per else set()
        return frozenset({column_of(self.by)} | groups) | (
            self.budget.needs() if self.budget else frozenset()
        )

    def select(self, pool: Pool) -> Selection:
        """The band, or the rows drawn in it. Raises DataError where no row has a score, or none lies in it."""
        column = column_of(self.by)
        values = pool.values(column)
        if np.isnan(values).all():
            raise DataError(f"a band needs scores. All {pool.rows} rows have `{column}` null.")
        groups = pool.groups(column_of(self.per)) if self.per else None
        frame = pl.DataFrame({
            "value": values, "text": pool.texts(column),
            "label": groups.labels if groups else np.zeros(pool.rows, dtype=np.int64),
            "group": [f" of {self.per} {groups.names[label]}" for label in groups.labels] if groups else "",
        }).with_columns(
            quantile(pl.col("value").fill_nan(None), share).over("label").alias(name)
            for name, share in (("low", self.low), ("high", self.high))
        )  # fmt: skip
        inside = pl.col("value").is_between(pl.col("low"), pl.col("high")).fill_null(value=False)
        band = np.flatnonzero(frame.select(inside).to_series().to_numpy())
        if not len(band):
            raise DataError(
                f"no row's `{label_of(column)}` lies between the quantiles {self.low:g} and {self.high:g}: "
                f"{np.count_nonzero(~np.isnan(values))} values are too few. Widen the band."
            )
        value = pl.format("{} {}", pl.lit(label_of(column)), "text")
        lower, upper = (
            pl.col(name).round_sig_figs(4).cast(pl.String).str.strip_suffix(".0") for name in ("low", "high")
        )
        reason = (
            pl.when(pl.col("value").is_nan()).then(pl.lit(no_score(column)))
            .when(pl.col("value") < pl.col("low"))
            .then(pl.format(f"{{}}, below the quantile {self.low:g} ({{}}){{}}", value, lower, "group"))
            .when(pl.col("value") > pl.col("high"))
            .then(pl.format(f"{{}}, above the quantile {self.high:g} ({{}}){{}}", value, upper, "group"))
            .otherwise(pl.format(
                f"{{}}, between the quantiles {self.low:g} ({{}}) and {self.high:g} ({{}}){{}}",
                value, lower, upper, "group",
            ))
        )  # fmt: skip
        texts = frame.select(reason).to_series()
        if self.budget is None:
            return Selection.of(pool.take(band, EVERYTHING), texts)
        order = band[ranked(pool.keys("band")[band], highest=False)]
        kept = pool.take(order, self.budget)
        drawn = f"{len(kept)} drawn at random of {len(band)} in the band"
        left = mask(pool.rows, band) & ~mask(pool.rows, kept)
        texts = after(texts, mask(pool.rows, kept), f"; one of the {drawn}")
        return Selection.of(kept, after(texts, left, f"; not among the {drawn}"))


def quantile(values: pl.Expr, share: float) -> pl.Expr:
    """The linearly interpolated quantile of the values that are not null; null where there is none."""
    ascending = values.drop_nulls().sort()
    place = ((ascending.len() - 1.0) * share).round(PLACE_DECIMALS)
    lower, upper = (
        ascending.get(edge.cast(pl.Int64), null_on_oob=True) for edge in (place.floor(), place.ceil())
    )
    return lower + (place - place.floor()) * (upper - lower)
