"""Temperature: between proportional (T = 1) and equal (T large), small groups repeated.

Formula: p_j ∝ n_j^(1/T). T below 1 favours the large groups further.

Cost: O(n log n) and two hashes per row.
Source: Arivazhagan et al., "Massively multilingual neural machine translation in the wild", 2019.
"""

from pydantic import Field

from curate.budget import Budget
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, mixture
from curate.numerics.apportion import temperature_weights
from curate.pool import Pool, column_of


class Temperature(Mixer):
    """Draws in proportion to the groups' sizes to the power 1/T."""

    temperature: float = Field(gt=0, allow_inf_nan=False, description="T: 1 is proportional, large is equal")
    by: str = Field(default="source", description="column whose values are the groups")
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; as many as selected rows when left out")

    def needs(self) -> frozenset[str]:
        """The groups and what `draws` counts."""
        return frozenset({column_of(self.by)}) | (self.draws.needs() if self.draws else frozenset())

    def mix(self, pool: Pool) -> Schedule:
        """Draw and shuffle; phases are the groups."""
        deck = Deck.of(pool, column_of(self.by))
        return mixture(deck, temperature_weights(deck.sizes, self.temperature), self.draws, pool.rows)
