"""Proportional: every selected row once, shuffled; or any number of draws, groups in proportion to size.

Formula: p_j = n_j / n.

Cost: O(n log n) and two hashes per row.
Source: what training on the concatenated sources does.
"""

from pydantic import Field

from curate.budget import Budget
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, mixture
from curate.pool import Pool, column_of


class Proportional(Mixer):
    """Every selected row once, shuffled."""

    by: str = Field(default="source", description="column whose values are the groups")
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; every row once when left out")

    def needs(self) -> frozenset[str]:
        """The groups and what `draws` counts."""
        return frozenset({column_of(self.by)}) | (self.draws.needs() if self.draws else frozenset())

    def mix(self, pool: Pool) -> Schedule:
        """Shuffle; phases are the groups."""
        deck = Deck.of(pool, column_of(self.by))
        return mixture(deck, deck.sizes.astype(float), self.draws, pool.rows)
