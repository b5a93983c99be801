"""Deck: each group's rows in a random order, dealt as often as a mixture asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.budget import Budget
from curate.errors import ConfigError, DataError
from curate.mixer import Schedule
from curate.numerics.apportion import apportion
from curate.numerics.ranking import group_rank, ranked
from curate.numerics.seeds import derive, uniform
from curate.pool import Pool

DRAWS = "rows drawn in one epoch: a number, a share of the selected rows, or supervised tokens or characters"
"""Description of every mixer's `draws`."""


@dataclass(frozen=True)
class Deck:
    """names: the groups, in ascending order. rows: for each group, int64 [its rows], in random order.

    Dealing goes round: a group of n rows that is dealt d gives each row floor(d / n) or ceil(d / n)
    times, whole repeats and a random remainder without replacement.
    """

    pool: Pool
    names: tuple[str, ...]
    rows: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, pool: Pool, column: str) -> "Deck":
        """The rows of a pool by the values of a column. Raises DataError for an empty pool."""
        if pool.rows == 0:
            raise DataError("a mixture needs at least one selected row. Got none.")
        groups = pool.groups(column)
        order = ranked(pool.keys("mix"), highest=False)
        by_group = order[np.argsort(groups.labels[order], kind="stable")]
        ends = np.cumsum(groups.sizes(order))
        return cls(pool, groups.names, tuple(np.split(by_group, ends[:-1])))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The rows of each group, int64 [groups]."""
        return np.array([len(rows) for rows in self.rows], dtype=np.int64)

    def weights(self, given: Mapping[str, float], where: str) -> NDArray[np.float64]:
        """The given weight of each group, float64 [groups].

        Raises ConfigError, listing them all, where groups are not given or given ones do not exist.
        """
        missing = [name for name in self.names if name not in given]
        unknown = [name for name in given if name not in self.names]
        if missing or unknown:
            wrong = [f"without a weight: {', '.join(missing)}"] if missing else []
            wrong += [f"not among the selected rows: {', '.join(unknown)}"] if unknown else []
            raise ConfigError(
                f"`{where}` must give one weight to each group of the selected rows "
                f"({', '.join(self.names)}). Got {'; '.join(wrong)}. "
                "A group that must not be drawn has weight 0."
            )
        weights = np.array([given[name] for name in self.names], dtype=np.float64)
        if not weights.any():
            raise ConfigError(f"`{where}` must have a weight above 0. Got none.")
        return weights

    def deal(
        self, first: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[str]]:
        """For each group the `counts` next rows of its round, from place `first`; and each draw's group.

        first, counts: int64 [groups]. Returns int64 [draws], not shuffled, and one name per draw.
        """
        parts = [
            rows[(start + np.arange(count)) % len(rows)]
            for rows, start, count in zip(self.rows, first, counts, strict=True)
        ]
        names = [name for name, count in zip(self.names, counts, strict=True) for _ in range(count)]
        return np.concatenate(parts), names

    def draw_count(
        self, draws: Budget | None, default: int, counts_at: Callable[[int], NDArray[np.int64]]
    ) -> int:
        """How many draws a schedule has.

        draws: None for `default`. counts_at: draws -> how often each group is dealt, int64 [groups], from
        the start of its round. For tokens or characters: the most draws, found by halving, whose sum is within
        the budget. Raises DataError where no draw is.
        """
        if draws is None:
            return default
        if draws.column is None:
            return draws.rows(self.pool.rows)
        counts = self.pool.counts(draws.column)
        sums = [np.concatenate([[0], np.cumsum(counts[rows])]) for rows in self.rows]
        limit = draws.limit(int(counts.sum()))

        def spent(count: int) -> int:
            return sum(
                int(dealt // (len(each) - 1) * each[-1] + each[dealt % (len(each) - 1)])
                for each, dealt in zip(sums, counts_at(count), strict=True)
            )

        if spent(1) > limit:
            raise DataError(
                f"draws must hold at least one row, {spent(1)} supervised {draws.unit}. Got {draws}."
            )
        if not counts.any():
            raise DataError(f"draws in {draws.unit} need rows with supervised {draws.unit}. All rows have 0.")
        low, high = 1, 2
        while spent(high) <= limit:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if spent(middle) <= limit else (low, middle)
        return low


def mixture(deck: Deck, weights: NDArray[np.float64], draws: Budget | None, default: int) -> Schedule:
    """Draws in proportion to weights, float64 [groups], shuffled; phases are the groups' names."""

    def counts_at(count: int) -> NDArray[np.int64]:
        return apportion(weights, count)

    counts = counts_at(deck.draw_count(draws, default, counts_at))
    rows, names = deck.deal(np.zeros_like(counts), counts)
    order = shuffle(deck.pool, rows, "mix")
    return Schedule(rows[order], [names[place] for place in order.tolist()])


def shuffle(pool: Pool, draws: NDArray[np.int64], *purpose: str) -> NDArray[np.int64]:
    """A random order of draws, int64 [draws], places in `draws`.

    The key of a draw comes from the seed, the row's uid and how often the row was drawn before, so that
    it does not depend on the order of the pool.
    """
    repeat = group_rank(np.arange(len(draws)), draws) if len(draws) else draws
    uids = pool.frame["uid"].gather(draws).to_list()
    keys = uniform(derive(pool.seed, "shuffle", *purpose), uids, pool.occurrences()[draws] * 2**32 + repeat)
    return ranked(keys, highest=False)


def named(names: Sequence[str], labels: NDArray[np.int64]) -> list[str]:
    """The name of each label."""
    return [names[label] for label in labels.tolist()]
