"""Curriculum: rows from easy to hard by any column, as a sorted list or at a pace.

`order` says which end is easy: `ascending`, the small values come first; `descending`, the large ones. The one is the
curriculum, the other the anti-curriculum. `random` is their baseline: the same rows, levels and pace, in an order
that does not know the difficulty.
Without pacing every row is drawn once, in order of difficulty, equal ones in random order. With `groups`, rows are
first cut into `levels`, and `arrangement` says how the groups lie:
interleaved: level by level, in each the groups alternate, evenly spread and easy first (CORGI's global interleaving);
clustered: level by level, in each one group after the other, easy first; blocked: one group after the other, each
from its easiest row to its hardest. Groups stand in the order of their names.
With pacing, draw t of T is uniform, with replacement, among the easiest g(t) rows of N: linear, quadratic,
root, step, exponential and logarithmic in t/(aT), from bN to N (`numerics.pacing`). At least one row is open.
Levels: each distinct value where there are at most `levels` of them, else that many quantile bins; equal
values share a level. Phases name each draw's level, "level 2 of 5", and where groups are arranged its group.

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
from curate.pool import Groups, Pool, column_of


class Curriculum(Mixer):
    """Rows from easy to hard by any column."""

    by: str = Field(description="scorer (`loss`) or column (`tokens`, `meta.level`) that measures difficulty")
    order: Literal["ascending", "descending", "random"] = Field(
        description="ascending: small values are easy and come first; descending: large values do; random: the "
        "baseline"
    )
    pacing: Literal["none"] | Pacing = Field(
        default="none", description="how fast harder rows open; none: every row once, sorted"
    )
    a: float = Field(
        default=0.8, gt=0, allow_inf_nan=False, description="share of the draws after which all rows are open"
    )
    b: float = Field(default=0.2, ge=0, le=1, description="share of the rows open at the start")
    groups: str | None = Field(
        default=None, description="column whose groups are arranged, without pacing, e.g. source"
    )
    arrangement: Literal["interleaved", "clustered", "blocked"] = Field(
        default="interleaved",
        description="of the groups: alternating within a level; one after the other within a level; or one after "
        "the other, each with all its levels",
    )
    levels: int = Field(default=10, ge=1, description="levels of difficulty, at most")
    draws: Budget | None = Field(
        default=None,
        description="with pacing: draws in rows or a share; as many as selected rows if left out",
    )

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.groups is None and self.arrangement != "interleaved":
            raise ValueError(f"`arrangement: {self.arrangement}` needs `groups`, the column that it arranges")
        if self.groups is not None and (self.pacing != "none" or self.order == "random"):
            what = "`order: random`" if self.order == "random" else f"`pacing: {self.pacing}`"
            raise ValueError(f"`groups` arranges sorted levels. {what} has none; leave one of them out.")
        if self.pacing == "none" and self.draws is not None:
            raise ValueError("without pacing every row is drawn once: `draws` needs a `pacing`")
        if self.draws is not None and self.draws.column is not None:
            raise ValueError(
                f"the pace is counted in draws: `draws` must be rows or a share. Got {self.draws}."
            )
        return self

    def needs(self) -> frozenset[str]:
        """The difficulty and the groups."""
        return frozenset({column_of(self.by)} | ({column_of(self.groups)} if self.groups else set()))

    def mix(self, pool: Pool) -> Schedule:
        """Order the rows. Raises DataError where rows have no difficulty."""
        column = column_of(self.by)
        difficulty = pool.values(column) * (-1.0 if self.order == "descending" else 1.0)
        missing = int(np.isnan(difficulty).sum())
        if missing or pool.rows == 0:
            raise DataError(
                f"a curriculum needs `{column}` for every selected row. {missing} of {pool.rows} have null; "
                "drop them before with a `threshold` by it."
            )
        level, keys = levels(difficulty, self.levels), pool.keys("curriculum")
        order = np.argsort(keys, kind="stable") if self.order == "random" else np.lexsort((keys, difficulty))
        names = [f"level {each + 1} of {level.max() + 1}" for each in range(level.max() + 1)]
        if self.groups is not None:
            groups = pool.groups(column_of(self.groups))
            order = self._arranged(order, level, groups)
            if self.arrangement != "interleaved":
                both = [f"{group}, {name}" for name in names for group in groups.names]
                return Schedule(order, named(both, (level * len(groups.names) + groups.labels)[order]))
        draws = order if self.pacing == "none" else order[self._paced(pool.rows, self.pacing, pool.seed)]
        return Schedule(draws, named(names, level[draws]))

    def _arranged(
        self, order: NDArray[np.int64], level: NDArray[np.int64], groups: Groups
    ) -> NDArray[np.int64]:
        """The sorted rows with their groups arranged, int64 [rows]."""
        labels = groups.labels[order]
        if self.arrangement == "blocked":
            return order[np.argsort(labels, kind="stable")]
        if self.arrangement == "clustered":
            return order[np.lexsort((labels, level[order]))]
        bounds = np.searchsorted(level[order], np.arange(1, level.max() + 1))
        parts = [
            interleaved(part, groups.labels, np.maximum(groups.sizes(part), 1).astype(np.float64))
            for part in np.split(order, bounds)
        ]
        return np.concatenate(parts)

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
