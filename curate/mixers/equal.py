"""Equal: the same number of draws from every group (stratified), small groups repeated.

Formula: p_j = 1 / k. A group of n_j rows that is drawn d_j times gives each row floor(d_j / n_j) or
ceil(d_j / n_j) times.

Cost: O(n log n) and two hashes per row.
Source: "equal mixing" in Raffel et al., "Exploring the limits of transfer learning" (T5), 2020, 3.5.2.
"""

import numpy as np
from pydantic import Field

from curate.budget import Budget
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, mixture
from curate.pool import Pool, column_of


class Equal(Mixer):
    """The same number of draws from every group."""

    by: str = Field(default="source", description="column whose values are the groups")
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; as many as selected rows when left out")

    def needs(self) -> frozenset[str]:
        """The groups and what `draws` counts."""
        return frozenset({column_of(self.by)}) | (self.draws.needs() if self.draws else frozenset())

    def mix(self, pool: Pool) -> Schedule:
        """Draw and shuffle; phases are the groups."""
        deck = Deck.of(pool, column_of(self.by))
        return mixture(deck, np.ones(len(deck.names)), self.draws, pool.rows)
