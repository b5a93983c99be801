"""Pool: the candidates as a selector or mixer sees them: columns, groups, random keys, budgets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.admission import Admission
from curate.budget import Budget
from curate.constraints import Constraints
from curate.errors import ConfigError, DataError
from curate.numerics.apportion import apportion
from curate.numerics.ranking import group_rank, interleaved
from curate.numerics.seeds import derive, uniform

Order = Literal["highest", "lowest"]
Allocation = Literal["proportional", "equal"]

PLAIN_COLUMNS = frozenset(
    {"position", "uid", "id", "rank", "source", "group", "start", "messages", "tools", "rejected", "prompt"}
    | {"response", "record", "tokens", "supervised_tokens", "supervised_characters", "cluster"}
    | {"cluster_distance"}
)
"""Columns of a row whose names have no dot; every other name without a dot is a scorer's."""


def column_of(by: str) -> str:
    """The column that `by` names: `tokens`, `meta.level`, `score.el2n` as they are, `el2n` as `score.el2n`.

    A name is kept if it is one of PLAIN_COLUMNS or has a dot; otherwise `score.` is put before it.
    """
    return by if by in PLAIN_COLUMNS or "." in by else f"score.{by}"


def label_of(column: str) -> str:
    """A column's name in a reason: the scorer's name for a score."""
    return column.removeprefix("score.")


def highest_first(higher_is_better: Mapping[str, bool | None], column: str, order: Order | None) -> bool:
    """Whether the highest value is the best: as `order` says, else as the column's scorer states.

    Raises ConfigError where neither says.
    """
    if order is not None:
        return order == "highest"
    stated = higher_is_better.get(column)
    if stated is None:
        label = label_of(column)
        raise ConfigError(
            f"`{label}` does not state whether high or low is better. "
            f"Write `order: highest` or `order: lowest` beside `by: {label}`."
        )
    return stated


@dataclass(frozen=True)
class Groups:
    """labels: int64 [rows], index into `names`, which are in ascending order (null last, as "null")."""

    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of these rows each group has, int64 [groups]."""
        return np.bincount(self.labels[rows], minlength=len(self.names))


@dataclass(frozen=True)
class Target:
    """What a selector knows of the target, as far as its `needs` name it.

    vectors: float32 [target rows, d], their embeddings (`artifact:target_embedding`).
    rows: their `prompt` and `response` (`artifact:target_rows`).
    """

    vectors: NDArray[np.float32] | None = None
    rows: pl.DataFrame | None = None


@dataclass(frozen=True)
class Pool:
    """The columns that a selector or mixer sees, one row per candidate, in pool order.

    frame: always `position` (int64, ascending, unique), `uid`, `source`; plus what `needs()` names.
    higher_is_better: direction of each score column, as its scorer states it.
    seed: the seed of this stage, already derived from the run's seed and the stage's name.
    artifacts: name -> folder of what earlier stages made beside columns; `needs()` names `artifact:<name>`.
    constraints: bounds on what may be chosen; `take` and `admission` keep them.
    remarks: row -> what the constraints did to it, filled by `take` and `admission`, added to the row's reason.
    """

    frame: pl.DataFrame
    higher_is_better: Mapping[str, bool | None]
    seed: int
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    target: Target = Target()
    constraints: Constraints | None = None
    remarks: dict[int, str] = field(default_factory=dict, compare=False)

    @property
    def rows(self) -> int:
        """The number of candidates."""
        return self.frame.height

    def values(self, column: str) -> NDArray[np.float64]:
        """A column as numbers, float64 [rows], NaN where null; text must hold numbers, else DataError."""
        series = self._column(column)
        numbers = series.cast(pl.Float64, strict=False)
        wrong = numbers.is_null() & series.is_not_null()
        if wrong.any():
            example = series.filter(wrong)[0]
            raise DataError(
                f"column `{column}` must hold numbers to rank by. Got {example!r} ({wrong.sum()} such rows)."
            )
        return numbers.fill_null(float("nan")).to_numpy()

    def vectors(self, column: str) -> NDArray[np.float32]:
        """A column of vectors, float32 [rows, d], NaN where null."""
        series = self._column(column)
        known = series.is_not_null().to_numpy()
        width = series.dtype.shape[0] if isinstance(series.dtype, pl.Array) else 0
        found = np.full((len(series), width), np.nan, dtype=np.float32)
        found[known] = series.drop_nulls().to_numpy()
        return found

    def texts(self, column: str) -> pl.Series:
        """A column as text for reasons, String [rows]; numbers to four digits."""
        series = self._column(column)
        if series.dtype.is_float():
            series = series.round_sig_figs(4).cast(pl.String).str.strip_suffix(".0")
        return series.cast(pl.String)

    def groups(self, column: str) -> Groups:
        """The rows by the values of a column."""
        series = self._column(column)
        known = series.unique().sort(nulls_last=True)
        labels = pl.DataFrame({"value": series}).join(
            pl.DataFrame({"value": known, "label": np.arange(len(known))}),
            on="value", how="left", nulls_equal=True, maintain_order="left",
        )  # fmt: skip
        names = known.cast(pl.String).fill_null("null").to_list()
        return Groups(labels["label"].to_numpy().astype(np.int64), tuple(names))

    def keys(self, *purpose: str) -> NDArray[np.float64]:
        """One random number in (0, 1) per row, float64 [rows], from the seed, the purpose and the row's uid.

        Exact duplicates (equal uids) draw independently, by how many of them stand before.
        """
        return uniform(derive(self.seed, *purpose), self._column("uid").to_list(), self.occurrences())

    def occurrences(self) -> NDArray[np.int64]:
        """How many rows of an equal uid stand before each row, int64 [rows]."""
        uids = self._column("uid")
        if not uids.is_duplicated().any():
            return np.zeros(self.rows, dtype=np.int64)
        counts = uids.to_frame("uid").select(pl.int_range(pl.len()).over("uid")).to_series()
        return counts.to_numpy().astype(np.int64)

    def highest_first(self, column: str, order: Order | None) -> bool:
        """As the function `highest_first`, with the directions of this pool."""
        return highest_first(self.higher_is_better, column, order)

    def counts(self, column: str) -> NDArray[np.int64]:
        """A column of counts, such as `supervised_tokens`, int64 [rows]. Raises DataError where a row has none."""
        counts = self._column(column)
        if counts.null_count():
            raise DataError(f"every row must have {column}. {counts.null_count()} have none.")
        return counts.cast(pl.Int64).to_numpy()

    def admission(self, budget: Budget) -> Admission:
        """For a selector whose next choice depends on the last: what the budget and the constraints still admit."""
        return Admission(self, budget)

    def take(self, order: NDArray[np.int64], budget: Budget) -> NDArray[np.int64]:
        """The longest prefix of `order` that the budget allows; it stops at the first row that does not fit.

        order: int64, the rows that can be chosen, best first. A share is of the whole pool; 100% takes all
        of `order`. With constraints, rows that they bar are passed over, and those that they ask for come in
        (`curate.admission`); what is returned is in the order of `order`, included rows outside it first.
        Raises DataError where the budget is larger than what can be chosen, or holds no row.
        """
        if self.constraints is not None:
            return self.admission(budget).walk(order)
        if len(order) == 0:
            raise DataError(
                f"a budget of {budget} cannot be met: none of the {self.rows} rows can be chosen."
            )
        if budget.is_all:
            return order
        if budget.column is None:
            limit = budget.rows(self.rows)
            self._check_budget(budget, limit, len(order))
            return order[:limit]
        counts = self.counts(budget.column)
        sums = np.cumsum(counts[order])
        limit = budget.limit(int(counts.sum()))
        self._check_budget(budget, limit, int(sums[-1]))
        fits = int(np.searchsorted(sums, limit, side="right"))
        if fits == 0:
            raise DataError(
                f"budget must hold the first row, {int(sums[0])} {budget.unit}. Got {budget} ({limit})."
            )
        return order[:fits]

    def take_balanced(
        self, order: NDArray[np.int64], budget: Budget, groups: Groups, allocation: Allocation
    ) -> NDArray[np.int64]:
        """The best rows of each group, in rank order, the budget shared over the groups.

        proportional: to the rows that a group has in `order`; equal: the same to each. Rows are shared by
        largest remainder, the excess of small groups passed on. Tokens or characters are spent row by row, groups
        in that proportion (`ranking.interleaved`), until the next row does not fit. Raises as `take`.
        """
        sizes = groups.sizes(order)
        weights = sizes.astype(np.float64) if allocation == "proportional" else np.ones(len(sizes))
        if budget.column is not None or self.constraints is not None:
            chosen = self.take(interleaved(order, groups.labels, weights), budget)
            outside = chosen[~np.isin(chosen, order)]
            return np.concatenate([outside, order[np.isin(order, chosen)]])
        shares = apportion(weights, len(self.take(order, budget)), caps=sizes)
        return order[group_rank(order, groups.labels) < shares[groups.labels[order]]]

    def _check_budget(self, budget: Budget, limit: int, available: int) -> None:
        if limit > available:
            what = f"{budget} ({limit} {budget.unit})" if str(limit) != str(budget) else f"{limit}"
            raise DataError(
                f"budget must be at most the {available} {budget.unit} that can be chosen, of a pool of {self.rows} "
                f"rows. Got {what}."
            )

    def _column(self, column: str) -> pl.Series:
        if column not in self.frame.columns:
            raise ConfigError(
                f"no column `{column}` here; there are {', '.join(self.frame.columns)}. "
                "A score needs its scorer in a `score` stage before this one."
            )
        return self.frame[column]
