"""Weights: a given mixture over groups.

Formula: p_j = w_j / sum w. Every group of the selected rows must be given, and only those; 0 leaves one out.

Cost: O(n log n) and two hashes per row.
Source: static mixtures, as every trainer has them.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from curate.budget import Budget
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, mixture
from curate.pool import Pool, column_of

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Weights(Mixer):
    """A given mixture over groups."""

    weights: Mapping[str, Weight] = Field(
        min_length=1, description="group -> weight, at least 0, e.g. {chat: 3, math: 1}; need not sum to 1"
    )
    by: str = Field(default="source", description="column whose values are the groups")
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; as many as selected rows when left out")

    def needs(self) -> frozenset[str]:
        """The groups and what `draws` counts."""
        return frozenset({column_of(self.by)}) | (self.draws.needs() if self.draws else frozenset())

    def mix(self, pool: Pool) -> Schedule:
        """Draw and shuffle; phases are the groups. Raises ConfigError for unknown or missing groups."""
        deck = Deck.of(pool, column_of(self.by))
        return mixture(deck, deck.weights(self.weights, "weights"), self.draws, pool.rows)
