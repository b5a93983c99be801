"""Upsample at the end: a base mixture, and for the last fraction of training another one, domain-heavy.

Formula: of N draws the last F = round(fraction · N) follow `weights`, the first N - F follow
`start_weights`, or the groups' sizes when left out. The second phase goes on where the first left a
group's random order, so rows not yet seen come first, and a row is drawn at most ceil(d_j / n_j) times of
the d_j draws of its group. Each phase is shuffled by itself: the boundary is exact.

Cost: O(n log n) and two hashes per row.
Source: Blakeney et al., "Does your data spark joy? Performance gains from domain upsampling at the end of
training", 2024. `fraction` is of draws, not of tokens.
"""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.budget import Budget
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, shuffle
from curate.numerics.apportion import apportion
from curate.selector import Pool, column_of

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class UpsampleEnd(Mixer):
    """A base mixture, then another one for the last fraction of training."""

    weights: Mapping[str, Weight] = Field(
        min_length=1, description="mixture of the final phase: group -> weight, at least 0; all groups"
    )
    fraction: float = Field(default=0.2, gt=0, lt=1, description="share of the draws in the final phase")
    start_weights: Mapping[str, Weight] | None = Field(
        default=None, description="mixture before the final phase; proportional to size when left out"
    )
    by: str = Field(default="source", description="column whose values are the groups")
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; as many as selected rows when left out")

    def needs(self) -> frozenset[str]:
        """The groups and what `draws` counts."""
        return frozenset({column_of(self.by)}) | (self.draws.needs() if self.draws else frozenset())

    def mix(self, pool: Pool) -> Schedule:
        """Draw both phases, `main` and `final`. Raises ConfigError for unknown or missing groups."""
        deck = Deck.of(pool, column_of(self.by))
        final = deck.weights(self.weights, "weights")
        start = deck.sizes.astype(np.float64)
        if self.start_weights is not None:
            start = deck.weights(self.start_weights, "start_weights")

        def phases_at(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            last = round(self.fraction * count)
            return apportion(start, count - last), apportion(final, last)

        def counts_at(count: int) -> NDArray[np.int64]:
            first, second = phases_at(count)
            return first + second

        before, after = phases_at(deck.draw_count(self.draws, pool.rows, counts_at))
        parts = []
        for name, first, counts in (("main", np.zeros_like(before), before), ("final", before, after)):
            rows, _ = deck.deal(first, counts)
            parts.append(rows[shuffle(pool, rows, name)])
        return Schedule(np.concatenate(parts), ["main"] * len(parts[0]) + ["final"] * len(parts[1]))
