"""Capped: examples-proportional with a cap on the size that a group counts for.

Formula: p_j ∝ min(n_j, cap). Without `draws`, sum_j min(n_j, cap) rows are drawn: each group gives
min(n_j, cap) different rows, chosen at random, and none repeats. With `draws`, groups are drawn at these
rates, and small ones repeat where it takes more.

Cost: O(n log n) and two hashes per row.
Source: Raffel et al., "Exploring the limits of transfer learning" (T5), 2020, 3.5.2.
"""

import numpy as np
from pydantic import Field

from curate.budget import Budget
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, mixture
from curate.pool import Pool, column_of


class Capped(Mixer):
    """Groups in proportion to their sizes, none counted for more than a cap."""

    cap: int = Field(ge=1, description="rows that a group counts for at most")
    by: str = Field(default="source", description="column whose values are the groups")
    draws: Budget | None = Field(
        default=None, description=f"{DRAWS}; the rows under the cap, once each, when left out"
    )

    def needs(self) -> frozenset[str]:
        """The groups and what `draws` counts."""
        return frozenset({column_of(self.by)}) | (self.draws.needs() if self.draws else frozenset())

    def mix(self, pool: Pool) -> Schedule:
        """Draw and shuffle; phases are the groups."""
        deck = Deck.of(pool, column_of(self.by))
        capped = np.minimum(deck.sizes, self.cap)
        return mixture(deck, capped.astype(np.float64), self.draws, int(capped.sum()))
