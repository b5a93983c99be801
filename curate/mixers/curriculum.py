"""Curriculum: rows from easy to hard by any column, as a sorted list or at a pace.

`order` says which end is easy: `ascending`, the small values come first; `descending`, the large ones.
Without pacing every row is drawn once, in order of difficulty, equal ones in random order. With
`interleave`, rows are first cut into `levels`; within a level the groups alternate, each spread evenly over
it and easy first (CORGI's global interleaving).
With pacing, draw t of T is uniform, with replacement, among the easiest g(t) rows of N: linear, quadratic,
root, step, exponential and logarithmic in t/(aT), from bN to N (`numerics.pacing`). At least one row is open.
Levels: each distinct value where there are at most `levels` of them, else that many quantile bins; equal
values share a level. Phases name each draw's level, "level 2 of 5".

Cost: O(n log n) and one hash per draw.
Source: Wu, Dyer, Neyshabur, "When do curricula work?", 2021; Lee et al., "Instruction tuning with human
curriculum" (CORGI), 2024.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from curate.budget import Budget
from curate.errors import DataError
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import named
from curate.numerics.pacing import Pacing, pacing
from curate.numerics.ranking import interleaved
from curate.numerics.seeds import derive, uniform
from curate.selector import Pool, column_of


class Curriculum(Mixer):
    """Rows from easy to hard by any column."""

    by: str = Field(description="scorer (`loss`) or column (`tokens`, `meta.level`) that measures difficulty")
    order: Literal["ascending", "descending"] = Field(
        description="ascending: small values are easy and come first; descending: large values do"
    )
    pacing: Literal["none"] | Pacing = Field(
        default="none", description="how fast harder rows open; none: every row once, sorted"
    )
    a: float = Field(
        default=0.8, gt=0, allow_inf_nan=False, description="share of the draws after which all rows are open"
    )
    b: float = Field(default=0.2, ge=0, le=1, description="share of the rows open at the start")
    interleave: str | None = Field(
        default=None, description="column whose groups alternate within a level, without pacing"
    )
    levels: int = Field(default=10, ge=1, description="levels of difficulty, at most")
    draws: Budget | None = Field(
        default=None,
        description="with pacing: draws in rows or a share; as many as selected rows if left out",
    )

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.pacing != "none" and self.interleave is not None:
            raise ValueError("`interleave` orders whole levels: it needs `pacing: none`")
        if self.pacing == "none" and self.draws is not None:
            raise ValueError("without pacing every row is drawn once: `draws` needs a `pacing`")
        if self.draws is not None and self.draws.column is not None:
            raise ValueError(
                f"the pace is counted in draws: `draws` must be rows or a share. Got {self.draws}."
            )
        return self

    def needs(self) -> frozenset[str]:
        """The difficulty and the groups."""
        return frozenset({column_of(self.by)} | ({column_of(self.interleave)} if self.interleave else set()))

    def mix(self, pool: Pool) -> Schedule:
        """Order the rows. Raises DataError where rows have no difficulty."""
        column = column_of(self.by)
        difficulty = pool.values(column) * (1.0 if self.order == "ascending" else -1.0)
        missing = int(np.isnan(difficulty).sum())
        if missing or pool.rows == 0:
            raise DataError(
                f"a curriculum needs `{column}` for every selected row. {missing} of {pool.rows} have null; "
                "drop them before with a `threshold` by it."
            )
        order = np.lexsort((pool.keys("curriculum"), difficulty))
        level = levels(difficulty, self.levels)
        if self.interleave is not None:
            groups = pool.groups(column_of(self.interleave))
            bounds = np.searchsorted(level[order], np.arange(1, level.max() + 1))
            order = np.concatenate(
                [
                    interleaved(part, groups.labels, np.maximum(groups.sizes(part), 1).astype(np.float64))
                    for part in np.split(order, bounds)
                ]
            )
        draws = order if self.pacing == "none" else order[self._paced(pool.rows, self.pacing, pool.seed)]
        count = int(level.max()) + 1
        return Schedule(draws, named([f"level {each + 1} of {count}" for each in range(count)], level[draws]))

    def _paced(self, rows: int, kind: Pacing, seed: int) -> NDArray[np.int64]:
        """For each draw the place in the order of difficulty, int64 [draws]."""
        steps = rows if self.draws is None else self.draws.rows(rows)
        pace = pacing(kind, steps, rows, self.a, self.b)[:steps]
        is_open = np.clip(np.floor(pace + 1e-9), 1, rows)
        chance = uniform(derive(seed, "curriculum", "pace"), [str(step) for step in range(steps)])
        places: NDArray[np.int64] = np.minimum(np.floor(chance * is_open), is_open - 1).astype(np.int64)
        return places


def levels(difficulty: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The level of each row, int64 [rows], 0 the easiest; none is empty, equal values share one."""
    distinct, level = np.unique(difficulty, return_inverse=True)
    if len(distinct) <= count:
        return level.astype(np.int64)
    edges = np.unique(np.quantile(difficulty, np.arange(1, count) / count, method="higher"))
    _, dense = np.unique(np.searchsorted(edges, difficulty, side="right"), return_inverse=True)
    return dense.astype(np.int64)
