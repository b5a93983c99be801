"""Threshold: every row whose score lies between two bounds.

Rule: keep where min <= score <= max, both ends included; a bound that is not given does not bind.
Rank is the order of the pool. Rows without a score are dropped. No budget, no direction, no chance.

Cost: O(n).
Source: the common filter of data cleaning.
"""

from typing import Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from curate.budget import EVERYTHING
from curate.errors import DataError
from curate.pool import Pool, column_of, label_of
from curate.selector import Selection, Selector
from curate.selectors._reasons import no_score


class Threshold(Selector):
    """Every row whose score lies between two bounds, both included."""

    by: str = Field(description="scorer (`length`) or column (`tokens`, `meta.level`) to compare")
    min: float | None = Field(default=None, allow_inf_nan=False, description="smallest value kept")
    max: float | None = Field(default=None, allow_inf_nan=False, description="largest value kept")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a threshold needs `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` must be at most `max`. Got {self.min:g} and {self.max:g}.")
        return self

    def needs(self) -> frozenset[str]:
        """The score."""
        return frozenset({column_of(self.by)})

    def select(self, pool: Pool) -> Selection:
        """The rows within the bounds, in pool order. Raises DataError where there are none."""
        column = column_of(self.by)
        values = pool.values(column)
        low = -np.inf if self.min is None else self.min
        high = np.inf if self.max is None else self.max
        kept = np.flatnonzero((values >= low) & (values <= high))
        if len(kept) == 0:
            present = values[~np.isnan(values)]
            found = f"from {present.min():g} to {present.max():g}" if len(present) else "all null"
            raise DataError(
                f"no row has `{label_of(column)}` {self._range()}. The {pool.rows} values are {found}."
            )
        value = pl.format("{} {}", pl.lit(label_of(column)), "text")
        reason = (
            pl.when(pl.col("value").is_nan()).then(pl.lit(no_score(column)))
            .when(pl.col("value") < low).then(pl.format(f"{{}}, below the minimum of {low:g}", value))
            .when(pl.col("value") > high).then(pl.format(f"{{}}, above the maximum of {high:g}", value))
            .otherwise(pl.format(f"{{}}, {self._range()}", value))
        )  # fmt: skip
        frame = pl.DataFrame({"value": values, "text": pool.texts(column)})
        return Selection.of(pool.take(kept, EVERYTHING), frame.select(reason).to_series())

    def _range(self) -> str:
        if self.min is None:
            return f"at most {self.max:g}"
        return f"at least {self.min:g}" if self.max is None else f"within {self.min:g} to {self.max:g}"
