"""Scorer: adds one number per row, the column `score.<name>`.

A scorer declares what it reads; the engine takes the union over all scorers of a run and runs the
model once. A scorer's file holds its formula and little else.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.component import Component
from curate.model.request import Signal, TokenSignals, View


class Scorer(Component, ABC):
    """What all scorers state about themselves."""

    higher_is_better: ClassVar[bool | None]
    """The direction of a good row; None where both ends are bad or the field has not agreed."""

    parts: ClassVar[tuple[str, ...]] = ()
    """Per-row measurements behind the score, kept as columns `score.<name>.<part>`."""

    @property
    def column(self) -> str:
        """The column that this scorer adds."""
        return f"score.{self.name}"


class SignalScorer(Scorer, ABC):
    """A score computed from the signals of the model's one pass, row by row."""

    signals: ClassVar[tuple[Signal, ...]]
    views: ClassVar[tuple[View, ...]] = (View.FULL,)

    @abstractmethod
    def score(self, tokens: TokenSignals) -> NDArray[np.float64]:
        """float64 [examples]; NaN (null) where a row has no supervised token."""


class PooledSignalScorer(Scorer, ABC):
    """A score whose last step compares rows over the whole pool (DONOD's TOPSIS)."""

    signals: ClassVar[tuple[Signal, ...]]
    views: ClassVar[tuple[View, ...]] = (View.FULL,)

    @abstractmethod
    def measure(self, tokens: TokenSignals) -> Mapping[str, NDArray[np.float64]]:
        """The row's own measurements: for each name in `parts`, float64 [examples]."""

    @abstractmethod
    def combine(self, parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """The score over the pool, float64 [rows], from the parts of all rows; NaN stays NaN."""


class TextScorer(Scorer, ABC):
    """A score computed from the text of a row, without a model."""

    def needs(self) -> frozenset[str]:
        """The columns that this scorer reads."""
        return frozenset({"prompt", "response"})

    @abstractmethod
    def score(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """float64 [rows]; NaN (null) where the score is not defined."""
