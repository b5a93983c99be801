"""Admission: what may still be chosen as rows are chosen one by one: the budget, and the constraints beside it.

Included rows are chosen first. While a minimum is not met, only rows of groups that lack some are admitted, best
first by the selector's own order; then all others. A row that would bring a group above its maximum is barred for
good. So what is kept is the selector's greedy choice under the constraints, not the best of all feasible sets.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.budget import Budget
from curate.constraints import Bounds, Constraints
from curate.errors import ConfigError, DataError

if TYPE_CHECKING:
    from curate.pool import Pool

Verdict = Literal["yes", "later", "never"]


@dataclass
class _Bound:
    """A maximum or a minimum of a group of a column.

    label: as in reasons. column: what is counted of each row (`supervised_tokens`), None where rows are. weights: what
    each row counts, None for 1. held: so far.
    """

    label: str
    limit: int
    column: str | None
    weights: Sequence[int] | None
    held: int = 0

    def weight(self, row: int) -> int:
        return 1 if self.weights is None else self.weights[row]

    def __str__(self) -> str:
        return f"{self.label} ({self.limit:,})"


@dataclass
class _Bounds:
    """The bounds of a column's groups. labels: the group of each row; of: group -> its bound, where it has one."""

    labels: Sequence[int]
    of: Mapping[int, _Bound] = field(default_factory=dict)

    def at(self, row: int) -> _Bound | None:
        return self.of.get(self.labels[row])


class Admission:
    """Says of each row whether it may be chosen now; is told of each that is.

    include: int64, rows that are chosen already, before any other, in pool order.
    Raises DataError where an included row is not in the pool or breaks a maximum, or what is included or the
    minimums ask for is more than the budget; ConfigError for a group that is not in the pool.
    """

    def __init__(self, pool: "Pool", budget: Budget) -> None:
        constraints = pool.constraints or Constraints.model_construct()
        self._pool, self._budget = pool, budget
        self._by_column: dict[str, Sequence[int]] = {}
        self._counts = self._weights(budget.column)
        self._limit = _limit(pool, budget)
        self._spent, self._full = 0, False
        self._chosen: set[int] = set()
        self._most = [self._bounds("max_per", *each) for each in constraints.max_per.items()]
        self._least = [self._bounds("min_per", *each) for each in constraints.min_per.items()]
        every = [bound for bounds in self._least for bound in bounds.of.values()]
        self._lacking = {id(bound): bound for bound in every if bound.limit > 0}
        self._check_minimums()
        self.include = _rows_of(pool, constraints.include)
        for row in self.include.tolist():
            self._include(row)

    @property
    def spent(self) -> bool:
        """Whether nothing more may be chosen: the budget is met, or the next row did not fit into it."""
        return self._full or (self._limit is not None and self._spent >= self._limit)

    @property
    def lacking(self) -> bool:
        """Whether a minimum is not met yet, so that rows which lack none are admitted later."""
        return bool(self._lacking)

    def verdict(self, row: int) -> Verdict:
        """Whether the row may be chosen now, later (when minimums are met), or never.

        A row that does not fit into what is left of a budget in tokens or characters ends it, as in `Pool.take`.
        """
        if row in self._chosen or self.spent:
            return "never"
        passed = self._passed(row)
        if passed is not None:
            self._pool.remarks[row] = f"barred by {passed}"
            return "never"
        if self._lacking and not any(self._lacks(bounds.at(row), row) for bounds in self._least):
            return "later"
        if self._limit is not None and self._spent + self._cost(row) > self._limit:
            self._full = True
            return "never"
        return "yes"

    def add(self, row: int) -> None:
        """Count a row as chosen; a row that is counted already (an included one) changes nothing."""
        if row in self._chosen:
            return
        self._chosen.add(row)
        self._spent += self._cost(row)
        for bounds in self._most:
            if (bound := bounds.at(row)) is not None:
                bound.held += bound.weight(row)
        for bounds in self._least:
            if (bound := bounds.at(row)) is not None:
                if self._lacks(bound, row):
                    self._pool.remarks.setdefault(row, f"for {bound}")
                bound.held += bound.weight(row)
                if bound.held >= bound.limit:
                    self._lacking.pop(id(bound), None)

    def check(self) -> None:
        """Raise DataError naming each minimum, and the budget, that what could be chosen did not meet.

        Also where the budget does not hold the first row.
        """
        if self.spent and not self._chosen:
            raise DataError(
                f"the budget of {self._budget} ({self._limit:,} {self._budget.unit}) must hold the first row. "
                "Raise it."
            )
        wrong = [f"{bound} has {bound.held:,} that can be chosen" for bound in self._lacking.values()]
        if self._limit is not None and not self.spent:
            full = [
                str(bound) for bounds in self._most for bound in bounds.of.values() if self._is_full(bound)
            ]
            why = f"; at their maximum: {_some(full)}" if full else ""
            wrong.append(
                f"the budget of {self._budget} ({self._limit:,} {self._budget.unit}) has {self._spent:,} that can "
                f"be chosen{why}"
            )
        if wrong:
            raise DataError(f"the constraints cannot be met: {'; '.join(wrong)}. Loosen one of them.")

    def walk(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Choose along an order, int64, best first: the chosen rows, those of the order in its order, others first.

        Once until the minimums are met, then again from its start for what is left. O(rows of the order); raises as
        `check`.
        """
        for is_met in (False, True):
            for row in order.tolist():
                if self.spent or self.lacking == is_met:
                    break
                if self.verdict(row) == "yes":
                    self.add(row)
        self.check()
        place = np.full(self._pool.rows, -1, dtype=np.int64)
        place[order] = np.arange(len(order))
        chosen = np.array(sorted(self._chosen), dtype=np.int64)
        return chosen[np.argsort(place[chosen], kind="stable")]

    def _include(self, row: int) -> None:
        passed = self._passed(row)
        if passed is not None:
            raise DataError(f"include: {self._named(row)} would bring {passed} above its bound. Raise it.")
        if self._limit is not None and self._spent + self._cost(row) > self._limit:
            raise DataError(
                f"include: the {len(self.include)} rows to be included must fit into the budget of {self._budget} "
                f"({self._limit:,} {self._budget.unit}). {self._named(row)} does not fit. Raise the budget."
            )
        self._pool.remarks[row] = "must be included"
        self.add(row)

    def _named(self, row: int) -> str:
        return f"row `{self._pool.frame['id'][row]}`"

    def _cost(self, row: int) -> int:
        return 1 if self._counts is None else int(self._counts[row])

    def _passed(self, row: int) -> _Bound | None:
        """The maximum that the row would pass."""
        for bounds in self._most:
            bound = bounds.at(row)
            if bound is not None and bound.held + bound.weight(row) > bound.limit:
                return bound
        return None

    @staticmethod
    def _lacks(bound: _Bound | None, row: int) -> bool:
        return bound is not None and bound.held < bound.limit and bound.weight(row) > 0

    def _is_full(self, bound: _Bound) -> bool:
        return bound.held >= bound.limit if bound.weights is None else bound.held > 0

    def _bounds(self, kind: str, column: str, given: Bounds) -> _Bounds:
        from curate.pool import column_of

        groups = self._pool.groups(column_of(column))
        every = groups.names[:-1] if self._pool.frame[column_of(column)].null_count() else groups.names
        limits = given if isinstance(given, Mapping) else dict.fromkeys(every, given)
        if unknown := [name for name in limits if name not in groups.names]:
            raise ConfigError(
                f"constraints.{kind}.{column}: no row of the pool has {_some(unknown)}; there are "
                f"{_some(list(groups.names))}."
            )
        place = {name: index for index, name in enumerate(groups.names)}
        of = {
            place[name]: _Bound(f"{kind} of {column} {name}", *self._resolved(kind, column, limit))
            for name, limit in limits.items()
        }
        return _Bounds(groups.labels.tolist(), of)

    def _weights(self, column: str | None) -> Sequence[int] | None:
        """What each row counts; the same list for every bound that counts it."""
        if column is None:
            return None
        if column not in self._by_column:
            self._by_column[column] = self._pool.counts(column).tolist()
        return self._by_column[column]

    def _resolved(
        self, kind: str, column: str, bound: Budget
    ) -> tuple[int, str | None, Sequence[int] | None]:
        """The bound as a number, what it counts, and what each row counts."""
        if bound.is_share:
            if bound.unit != "rows":
                raise ConfigError(
                    f"constraints.{kind}.{column}: a share is one of the selection's budget, in its unit, e.g. 40%. "
                    f"Got {bound}."
                )
            if self._limit is None:
                raise ConfigError(
                    f"constraints.{kind}.{column}: {bound} is a share of the selection's budget, and there is none. "
                    "Give a number of rows."
                )
            return bound.share_of(self._limit, up=kind == "min_per"), self._budget.column, self._counts
        return int(bound.amount), bound.column, self._weights(bound.column)

    def _check_minimums(self) -> None:
        """The minimums of one column must fit into the budget together, where they are in its unit."""
        for bounds in self._least:
            same = [bound for bound in bounds.of.values() if bound.column == self._budget.column]
            total = sum(bound.limit for bound in same)
            if self._limit is not None and total > self._limit:
                raise DataError(
                    f"the constraints cannot be met: {_some([str(bound) for bound in same])} are {total:,} "
                    f"{self._budget.unit} together, more than the budget of {self._budget} ({self._limit:,})."
                )


def _limit(pool: "Pool", budget: Budget) -> int | None:
    """The budget as a number in its unit; None for all."""
    if budget.is_all:
        return None
    if budget.column is None:
        return budget.rows(pool.rows)
    return budget.limit(int(pool.counts(budget.column).sum()))


def _rows_of(pool: "Pool", ids: Sequence[str]) -> NDArray[np.int64]:
    """The rows with these ids or uids, ascending. Raises DataError for those that no row has."""
    if not ids:
        return np.zeros(0, dtype=np.int64)
    frame = pool.frame.select("id", "uid")
    wanted = pl.Series(list(ids)).implode()
    found = np.flatnonzero(frame.select(pl.col("id").is_in(wanted) | pl.col("uid").is_in(wanted)).to_series())
    hit = frame[found.tolist()]
    missing = sorted(set(ids) - set(hit["id"]) - set(hit["uid"]))
    if missing:
        raise DataError(
            f"include: {_some(missing)} not among the {pool.rows:,} rows that can be chosen here. An earlier stage "
            "may have dropped them: see dropped.parquet."
        )
    return found.astype(np.int64)


def _some(names: Iterable[str], most: int = 5) -> str:
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
