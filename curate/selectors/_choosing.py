"""Choices one by one, for selectors whose next choice depends on the last."""

import numpy as np
from numpy.typing import NDArray

from curate.budget import Budget
from curate.pool import Pool


class Choosing:
    """The rows chosen so far, under a budget and the pool's constraints, and those that wait for a minimum.

    kept: in the order of choice, included rows first. barred: those asked for that a maximum
    bars; `Pool.remarks` says which.
    """

    def __init__(self, pool: Pool, budget: Budget) -> None:
        self._pool, self._budget = pool, budget
        self._admission = pool.admission(budget)
        self._waiting: list[int] = []
        self.included = self._admission.include.tolist()
        self.kept: list[int] = list(self.included)
        self.barred: list[int] = []

    @property
    def spent(self) -> bool:
        """Whether nothing more may be chosen."""
        return self._admission.spent

    def ask(self, row: int) -> bool:
        """Choose the row if it is admitted; whether it was. It must be the one that is to be chosen next."""
        verdict = self._admission.verdict(row)
        if verdict == "yes":
            self._admission.add(row)
            self.kept.append(row)
        elif verdict == "later":
            self._waiting.append(row)
        elif row in self._pool.remarks:
            self.barred.append(row)
        return verdict == "yes"

    @property
    def is_released(self) -> bool:
        """Whether rows that waited may be chosen now."""
        return bool(self._waiting) and not self._admission.lacking

    def released(self) -> list[int]:
        """The rows that waited and may be chosen now, in the order in which they were asked for."""
        if not self.is_released:
            return []
        rows, self._waiting = self._waiting, []
        return rows

    def finish(self) -> NDArray[np.int64]:
        """The kept rows, int64, in order. Raises DataError where the budget or a constraint is not met."""
        kept = np.array(self.kept, dtype=np.int64)
        if self._pool.constraints is None and not self.spent:
            return self._pool.take(kept, self._budget)
        self._admission.check()
        return kept
