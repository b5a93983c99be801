"""Selector: which rows are kept, in which rank, and why; and why the others are not."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.budget import Budget
from curate.component import Component
from curate.pool import Pool


@dataclass(frozen=True)
class Selection:
    """kept, with rank and reason; dropped, with reason. Indices are rows of the pool's frame.

    kept: int64 [kept], distinct, in rank order (best first).
    reasons: one text per kept row, the rule and value that won it its place.
    dropped_reasons: one text per row that is not kept, in pool order.
    notes: what to say of the whole selection, as JSON values: iterations, convergence, which kernel.
    """

    kept: NDArray[np.int64]
    reasons: Sequence[str]
    dropped_reasons: Sequence[str]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, kept: NDArray[np.int64], reasons: pl.Series, notes: Mapping[str, Any] | None = None
    ) -> "Selection":
        """From the kept rows and one reason, String [rows], for every row of the pool."""
        is_dropped = np.ones(len(reasons), dtype=np.bool_)
        is_dropped[kept] = False
        dropped = reasons.filter(pl.Series(is_dropped)).to_list()
        return cls(kept, reasons.gather(kept).to_list(), dropped, notes or {})


class Selector(Component, ABC):
    """(columns, budget, seed) -> Selection."""

    def needs(self) -> frozenset[str]:
        """The columns that this selector reads beside position, uid and source."""
        return frozenset()

    def check(self, higher_is_better: Mapping[str, bool | None]) -> None:
        """Raise ConfigError for what the directions of the scores already show cannot work.

        Called before any work, so that a missing `order` is not found after hours of scoring.
        """

    def expected_rows(self, rows: int) -> int | None:
        """How many of `rows` it will keep; None where only the scores or the counts can tell."""
        budget = dict(self).get("budget")
        return min(rows, budget.rows(rows)) if isinstance(budget, Budget) and budget.column is None else None

    def expected_memory_bytes(self, rows: int, width: int) -> int | None:
        """The most that its arrays take beside its input, for a plan; None where that is a few numbers a row.

        width: of the embeddings.
        """
        return None

    @property
    def takes_constraints(self) -> bool:
        """Whether it chooses by `Pool.take` or `Pool.admission`, and so keeps constraints."""
        return True

    @abstractmethod
    def select(self, pool: Pool) -> Selection:
        """Choose rows. Deterministic for a pool and its seed; ties are broken by position.

        Raises DataError where the budget or a constraint cannot be met, naming it.
        """
