"""Phases: one mixture after another, each for a fraction of the training; upsampling at its end is two of them.

Formula: of N draws phase i takes those from round(F_(i-1) · N) to round(F_i · N), F the sums of the fractions, in
proportion to its `weights`, or to the groups' sizes when left out. A phase goes on where those before it left a
group's random order, so rows not yet seen come first, and over the whole training a row is drawn floor(d_j / n_j) or
ceil(d_j / n_j) times of the d_j draws of its group. Each phase is shuffled by itself: its boundary is exact.

Fractions are of draws, and so of optimizer steps, on which the learning rate depends too; not of tokens.

Cost: O(n log n) and two hashes per row.
Source: Blakeney et al., "Does your data spark joy? Performance gains from domain upsampling at the end of
training", 2024: the last 10 to 20 % go to a domain-heavy mixture.
Deviations: any number of phases; the paper's fractions are of tokens.
"""

from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from curate.budget import Budget
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, shuffle
from curate.mixers.weights import Weight
from curate.numerics.apportion import apportion
from curate.pool import Pool, column_of
from curate.settings import Fraction, Spec

SLACK = 1e-6
"""How far the fractions' sum may be from 1: three thirds written to six digits."""


class Phase(Spec):
    """One part of the training."""

    fraction: Annotated[Fraction, Field(gt=0)] = Field(description="share of the draws, 0.2 or 20%")
    weights: Mapping[str, Weight] | None = Field(
        default=None, description="group -> weight, at least 0, all groups; by their sizes when left out"
    )
    name: str | None = Field(default=None, min_length=1, description="default: `phase 1 of 2`")


class Phases(Mixer):
    """One mixture after another, each for a fraction of the training."""

    phases: tuple[Phase, ...] = Field(
        min_length=1,
        description="in order, e.g. [{fraction: 0.8}, {fraction: 0.2, weights: {web: 0, math: 3, code: 3}}]",
    )
    by: str = Field(default="source", description="column whose values are the groups")
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; as many as selected rows when left out")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(phase.fraction for phase in self.phases)
        if abs(total - 1) > SLACK:
            raise ValueError(f"the fractions of the phases must sum to 1. Got {total:g}.")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"the names of the phases must differ. Got {', '.join(self.names)}.")
        return self

    @property
    def names(self) -> list[str]:
        """The name of each phase."""
        count = len(self.phases)
        return [phase.name or f"phase {place + 1} of {count}" for place, phase in enumerate(self.phases)]

    def needs(self) -> frozenset[str]:
        """The groups and what `draws` counts."""
        return frozenset({column_of(self.by)}) | (self.draws.needs() if self.draws else frozenset())

    def mix(self, pool: Pool) -> Schedule:
        """Draw the phases, one after the other. Raises ConfigError for unknown or missing groups."""
        deck = Deck.of(pool, column_of(self.by))
        weights = [
            deck.sizes.astype(np.float64)
            if phase.weights is None
            else deck.weights(phase.weights, f"phases[{place}].weights")
            for place, phase in enumerate(self.phases)
        ]

        def counts_at(count: int) -> NDArray[np.int64]:
            """For each phase the draws of each group, int64 [phases, groups]."""
            return np.array(
                [apportion(w, n) for w, n in zip(weights, np.diff(self._ends(count)).tolist(), strict=True)]
            )

        count = deck.draw_count(self.draws, pool.rows, lambda draws: counts_at(draws).sum(axis=0))
        counts = counts_at(count)
        before = np.cumsum(counts, axis=0) - counts
        parts = []
        for name, first, of_groups in zip(self.names, before, counts, strict=True):
            rows, _ = deck.deal(first, of_groups)
            parts.append(rows[shuffle(pool, rows, name)])
        phases = [name for name, part in zip(self.names, parts, strict=True) for _ in range(len(part))]
        begins = dict(zip(self.names, self._ends(count).tolist(), strict=False))
        return Schedule(np.concatenate(parts), phases, notes={"first_draw_of_phase": begins})

    def _ends(self, count: int) -> NDArray[np.int64]:
        """Where the phases begin among `count` draws, and the end, int64 [phases + 1]."""
        sums = np.cumsum([phase.fraction for phase in self.phases])
        sums[-1] = 1.0
        return np.array([0, *(round(round(share, 9) * count) for share in sums.tolist())])
