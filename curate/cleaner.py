"""Cleaner: drops rows that nobody should train on, each with its reason."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.component import Component


class Filter(Component, ABC):
    """Judges each row by itself."""

    def needs(self) -> frozenset[str]:
        """The columns that this filter reads."""
        return frozenset({"prompt", "response"})

    @abstractmethod
    def judge(self, rows: pl.DataFrame) -> Sequence[str | None]:
        """For each row the reason to drop it, or None to keep it."""


@dataclass(frozen=True)
class Duplicates:
    """survivor: int64 [rows], the row that stands for each row (itself where it survives).

    similarity: float64 [rows], of each dropped row to the nearest member of its group; NaN for survivors.
    """

    survivor: NDArray[np.int64]
    similarity: NDArray[np.float64]


class Deduplicator(Component, ABC):
    """Finds groups of equal or nearly equal rows and keeps one of each.

    Works in two steps so that the heavy one is distributed: `sign` turns each row's text into small
    columns (row stage), `group` sees those columns of the whole pool (pool stage).
    """

    signature: ClassVar[Mapping[str, pl.DataType]]
    """The columns that `sign` adds, stored as `<method>.<column>`."""

    def needs(self) -> frozenset[str]:
        """The columns that `sign` reads."""
        return frozenset({"prompt", "response"})

    def group_needs(self) -> frozenset[str]:
        """Further columns that `group` reads beside the signature (a score, by which to survive)."""
        return frozenset()

    @abstractmethod
    def sign(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The signature of each row, without looking at the others. Pure."""

    @abstractmethod
    def group(self, signatures: pl.DataFrame) -> Duplicates:
        """Groups over the whole pool, in pool order. The survivor rule is stated in the docstring."""
