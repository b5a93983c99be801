"""Selector: which rows are kept, in which rank, and why; and why the others are not."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.component import Component


@dataclass(frozen=True)
class Pool:
    """The columns that a selector or mixer sees, one row per candidate, in pool order.

    frame: always `position` (int64, ascending, unique), `uid`, `source`; plus what `needs()` names.
    higher_is_better: direction of each score column, as its scorer states it.
    seed: the seed of this stage, already derived from the run's seed and the stage's name.
    """

    frame: pl.DataFrame
    higher_is_better: Mapping[str, bool | None]
    seed: int

    @property
    def rows(self) -> int:
        """The number of candidates."""
        return self.frame.height


@dataclass(frozen=True)
class Selection:
    """kept, with rank and reason; dropped, with reason. Indices are rows of the pool's frame.

    kept: int64 [kept], distinct, in rank order (best first).
    reasons: one text per kept row, the rule and value that won it its place.
    dropped_reasons: one text per row that is not kept, in pool order.
    """

    kept: NDArray[np.int64]
    reasons: Sequence[str]
    dropped_reasons: Sequence[str]


class Selector(Component, ABC):
    """(columns, budget, seed) -> Selection."""

    def needs(self) -> frozenset[str]:
        """The columns that this selector reads beside position, uid and source."""
        return frozenset()

    @abstractmethod
    def select(self, pool: Pool) -> Selection:
        """Choose rows. Deterministic for a pool and its seed; ties are broken by position.

        Raises DataError where the budget or a constraint cannot be met, naming it.
        """
