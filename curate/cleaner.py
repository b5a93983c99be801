"""Cleaner: drops rows that nobody should train on, each with its reason."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.component import Component

Part = Literal["row", "prompt", "response"]
"""The text that a cleaner looks at; row: the prompt, a newline, the response (or the response alone)."""

Keep = Annotated[str, Field(pattern=r"^-?[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""Who survives: `first`, `longest`, or a score's name (the highest wins; with a leading `-` the lowest)."""


def text_of(rows: pl.DataFrame, part: Part) -> pl.Series:
    """The text of each row, str [rows], from the columns `prompt` and `response`."""
    if part != "row":
        return rows[part]
    both = pl.concat_str("prompt", "response", separator="\n")
    return rows.select(pl.when(pl.col("prompt") == "").then("response").otherwise(both)).to_series()


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

    similarity: float64 [rows], of each dropped row to its survivor; NaN for survivors.
    """

    survivor: NDArray[np.int64]
    similarity: NDArray[np.float64]


class Columns(Protocol):
    """The pool's columns, read when asked for. `curate.reader.Reader` is one."""

    def __len__(self) -> int:
        """The number of rows."""

    def frame(self, names: Iterable[str]) -> pl.DataFrame:
        """The named columns of all rows, in pool order."""

    def take(self, names: Iterable[str], indices: NDArray[np.integer]) -> pl.DataFrame:
        """The named columns of the rows with these indices, in the order given."""


@dataclass(frozen=True)
class FrameColumns:
    """Columns of a frame in memory."""

    rows: pl.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self, names: Iterable[str]) -> pl.DataFrame:
        """The named columns of all rows."""
        return self.rows.select(sorted(names))

    def take(self, names: Iterable[str], indices: NDArray[np.integer]) -> pl.DataFrame:
        """The named columns of the rows with these indices, in the order given."""
        return self.rows.select(sorted(names))[np.asarray(indices)]


class Deduplicator(Component, ABC):
    """Finds groups of equal or nearly equal rows and keeps one of each.

    Works in two steps so that the heavy one is distributed: `sign` turns each row's text into small
    columns (row stage), `group` sees those columns of the whole pool (pool stage) and may take the text
    of the few rows that it has to compare.
    """

    keep: Keep = Field(
        default="longest",
        description="who survives: first, longest (most characters of prompt and response), or a "
        "score's name (highest wins; -name: lowest); ties go to the first",
    )

    def needs(self) -> frozenset[str]:
        """The columns that `sign` reads."""
        return frozenset({"prompt", "response"})

    def group_needs(self) -> frozenset[str]:
        """The columns that `group` reads or takes, beside the signature."""
        return self.preference_columns()

    @property
    @abstractmethod
    def signature(self) -> Mapping[str, pl.DataType]:
        """The columns that `sign` adds, by their full names `<method>.<column>`."""

    @abstractmethod
    def sign(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The signature columns of each row, without looking at the others. Pure."""

    @abstractmethod
    def group(self, pool: Columns) -> Duplicates:
        """Groups over the whole pool, in pool order. The survivor rule is that of `keep`."""

    @abstractmethod
    def similarities(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Of each row to the first, as `group` compares them, float64 [rows] in [0, 1], from the columns of `needs`."""

    @abstractmethod
    def reason(self, survivor: str, similarity: float) -> str:
        """Why a row was dropped. survivor: the id of the row that stands for it."""

    @property
    def length_column(self) -> str:
        """The signature column with the characters of prompt and response together."""
        return f"{self.name}.characters"

    def preference_columns(self) -> frozenset[str]:
        """The columns that `preference` reads beside the signature."""
        return frozenset() if self.keep in ("first", "longest") else frozenset({self._score})

    def preference(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """The higher the sooner a row survives, float64 [rows]; NaN (no score) loses to all."""
        if self.keep == "first":
            return np.zeros(len(rows))
        column = self.length_column if self.keep == "longest" else self._score
        values = rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return -values if self.keep.startswith("-") else values

    @property
    def _score(self) -> str:
        return f"score.{self.keep.removeprefix('-')}"

    @staticmethod
    def characters(rows: pl.DataFrame) -> pl.Series:
        """Characters (code points) of prompt and response together, UInt32 [rows]."""
        return rows.select(pl.col("prompt").str.len_chars() + pl.col("response").str.len_chars()).to_series()
