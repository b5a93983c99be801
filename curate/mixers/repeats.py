"""Repeats: how often a row is trained on, by its score; the best several times, the worst perhaps not at all.

Formula: rows are ranked from worst to best and cut into as many bins as `times` has numbers, of sizes that differ by
at most 1; equal scores are ranked at random. A row of bin i is drawn floor(t_i) times, and of the bin's m rows
round((t_i - floor(t_i)) · m), chosen at random, once more: t = 0.5 draws half of them. Copy j of a row that is drawn
c times stands at (j + u) / c of the training, u uniform in (0, 1) and the row's own: copies are 1 / c of the training
apart, and each stretch of the training has the same mixture of bins. Phases name the bin.

Cost: O(n log n) and three hashes per row.
Source: epochs by quality, as the mixtures of pre-training give them to sources (Gao et al., "The Pile", 2020, table
1), here to rows.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from curate.errors import DataError
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import named
from curate.pool import Order, Pool, column_of

Times = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Repeats(Mixer):
    """Epochs per row by score: equal bins from worst to best, each drawn so many times."""

    by: str = Field(description="scorer (`donod`) or column (`tokens`, `meta.votes`) that says what is good")
    order: Order | None = Field(
        default=None, description="which end is best: highest or lowest; as the scorer states when left out"
    )
    times: tuple[Times, ...] = Field(
        default=(0.5, 1.0, 2.0, 4.0),
        min_length=1,
        description="draws of each row, per bin, from the worst to the best; 0.5 draws half of the bin's rows",
    )

    def needs(self) -> frozenset[str]:
        """The score."""
        return frozenset({column_of(self.by)})

    def mix(self, pool: Pool) -> Schedule:
        """Repeat and spread. Raises DataError where rows have no score, ConfigError where no end is the best."""
        column = column_of(self.by)
        best_last = pool.values(column) * (1.0 if pool.highest_first(column, self.order) else -1.0)
        missing = int(np.isnan(best_last).sum())
        if missing or pool.rows == 0:
            raise DataError(
                f"repeats need `{column}` for every selected row. {missing} of {pool.rows} have null; "
                "drop them before with a `threshold` by it."
            )
        ranked = np.lexsort((pool.keys("repeats", "ties"), best_last))
        bins = np.empty(pool.rows, dtype=np.int64)
        bins[ranked] = np.arange(pool.rows) * len(self.times) // pool.rows
        times = np.floor(self.times)[bins].astype(np.int64)
        more = pool.keys("repeats", "more")
        for place, wanted in enumerate(self.times):
            inside = np.flatnonzero(bins == place)
            lucky = round((wanted - np.floor(wanted)) * len(inside))
            times[inside[np.argsort(more[inside], kind="stable")[:lucky]]] += 1
        if not times.any():
            raise DataError(f"`times` must draw some row of {pool.rows}. Got {list(self.times)}.")
        rows = np.repeat(np.arange(pool.rows), times)
        copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
        places = (copy + pool.keys("repeats", "place")[rows]) / times[rows]
        draws = rows[np.argsort(places, kind="stable")]
        names = [f"bin {n + 1} of {len(self.times)}: {each:g} times" for n, each in enumerate(self.times)]
        return Schedule(draws, named(names, bins[draws]))
