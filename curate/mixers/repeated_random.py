"""Repeated random (RS2): each epoch trains on a fresh random subset of the rows.

A mixer, for a selection cannot say which row is drawn in which epoch: the schedule holds all rounds, one after the
other, and is trained with `epochs: 1`.

Formula: each round has k = round(r · N) rows. Without replacement across rounds, one shuffle of the pool is consumed
in slices of k; when it runs out, its tail is finished and the slice filled from the next shuffle. So where k divides
N each N / k rounds are a partition of the pool, and no row is drawn more than once more often than another. With
replacement, each round is drawn by itself, k distinct rows: R rounds see 1 - (1 - r)^R of the pool in the mean.
Phases name the round.

Cost: O(R k log N), one hash per row and shuffle; with replacement there are as many shuffles as rounds.
Source: Okanovic et al., "Repeated random sampling for minimizing the time-to-accuracy of learning" (RS2), 2023.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from curate.budget import Budget
from curate.errors import DataError
from curate.mixer import Mixer, Schedule
from curate.numerics.ranking import ranked
from curate.pool import Pool


class RepeatedRandom(Mixer):
    """Rounds of fresh random subsets, to be trained with `epochs: 1`."""

    budget: Budget = Field(description="rows of each round: a share of the selected rows (10%), or a number")
    rounds: int = Field(ge=1, description="rounds, each in the place of an epoch")
    replacement: bool = Field(
        default=False,
        description="draw each round by itself; else no row comes again before all have come",
    )

    @model_validator(mode="after")
    def _in_rows(self) -> Self:
        if self.budget.column is not None:
            raise ValueError(f"`budget` must be rows or a share of them. Got {self.budget}.")
        return self

    def mix(self, pool: Pool) -> Schedule:
        """All rounds. Raises DataError where a round is larger than the pool."""
        size = self.budget.rows(pool.rows)
        if not 0 < size <= pool.rows:
            raise DataError(f"a round of {self.budget} rows needs as many selected rows. Got {pool.rows}.")
        total = size * self.rounds
        shuffles = self.rounds if self.replacement else -(-total // pool.rows)
        taken = size if self.replacement else pool.rows
        orders = [ranked(pool.keys("shuffle", str(each)), highest=False)[:taken] for each in range(shuffles)]
        phases = [f"round {place // size + 1} of {self.rounds}" for place in range(total)]
        return Schedule(np.concatenate(orders)[:total], phases)
