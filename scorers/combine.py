"""Combine: several scores into one, each in its own direction.

Formula: `topsis`: closeness to the best and away from the worst value of every score (DONOD's way);
    `z_score`: weighted mean of (x - mean) / standard deviation; `rank`: weighted mean of ranks in [0, 1];
    `product`: product of x^weight, scaled to [0, 1], for scores that are not negative (Deita's way).
Direction: high is better. A score that states no direction must be given one.
Cost: no model; O(k n), `rank` O(k n log n).
Source: Hwang and Yoon, Multiple Attribute Decision Making, 1981 (topsis); Liu et al., What Makes Good Data for
    Alignment? (Deita), 2023 (arXiv 2312.15685) (product); the others are standard.
Deviations: a row that lacks one of the scores has none. `product` divides a score to be high by its maximum, and
    takes minimum over value of one to be low.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curate.errors import DataError
from curate.numerics.combining import product, rank_average, weighted_z_scores
from curate.numerics.topsis import topsis
from curate.pool import Order, Pool, column_of, highest_first
from curate.scorer import Numbers, PoolScorer

_RULES = {"topsis": topsis, "z_score": weighted_z_scores, "rank": rank_average, "product": product}


class Criterion(BaseModel):
    """How one score counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="how much it counts")
    order: Order | None = Field(default=None, description="which end is good, where the score does not say")


class Combine(PoolScorer):
    """TOPSIS, weighted z-scores, mean rank or product of several scores."""

    higher_is_better = True

    by: Mapping[str, Criterion] = Field(min_length=1, description="score or column -> {weight, order}")
    rule: Literal["topsis", "z_score", "rank", "product"] = Field(
        default="topsis", description="how they become one"
    )

    def needs(self) -> frozenset[str]:
        """The scores."""
        return frozenset(map(column_of, self.by))

    def check(self, higher_is_better: Mapping[str, bool | None]) -> None:
        """Every score must state a direction or be given an order."""
        for name, criterion in self.by.items():
            highest_first(higher_is_better, column_of(name), criterion.order)

    def score(self, pool: Pool, target: NDArray[np.float32] | None) -> Numbers:
        """Float64 [rows]; in [0, 1] but for `z_score`; null where one of the scores is."""
        columns = [column_of(name) for name in self.by]
        criteria = np.column_stack([pool.values(column) for column in columns])
        chosen = list(self.by.values())
        high = [pool.highest_first(c, each.order) for c, each in zip(columns, chosen, strict=True)]
        try:
            return _RULES[self.rule](criteria, [each.weight for each in chosen], high)
        except ValueError as error:
            raise DataError(f"combine: {', '.join(self.by)} by {self.rule}: {error}") from error
