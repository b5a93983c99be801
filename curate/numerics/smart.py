"""SMART: how much each task is worth, by a graph cut over tasks; which of its rows, by facility location.

Renduchintala, Bhatia, Ramakrishnan, "SMART: submodular data mixture strategy for instruction tuning", 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.apportion import apportion
from curate.numerics.greedy import Chosen, greedy, lazy_greedy
from curate.numerics.kernels import dense_bytes, dense_kernel, sparse_kernel
from curate.numerics.kmeans import unit_rows
from curate.numerics.submodular import FacilityLocation, GraphCut, SparseFacilityLocation


@dataclass
class Until:
    """Admits every row until what they cost reaches the limit. costs: int64 [rows]."""

    costs: NDArray[np.int64]
    limit: int
    include: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    total: int = 0

    @property
    def spent(self) -> bool:
        """Whether the rows cost the limit or more."""
        return self.total >= self.limit

    def verdict(self, row: int) -> Literal["yes", "later", "never"]:
        """Yes."""
        return "yes"

    def add(self, row: int) -> None:
        """Count it."""
        self.total += int(self.costs[row])


@dataclass(frozen=True)
class TaskMixture:
    """tasks: int64 [chosen], as the graph cut chose them. gains, shares: float64 [chosen]; shares sum to 1.

    members: the rows of each chosen task that have an embedding, ascending.
    """

    tasks: NDArray[np.int64]
    gains: NDArray[np.float64]
    shares: NDArray[np.float64]
    members: tuple[NDArray[np.int64], ...]


def task_mixture(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], redundancy: float, first: int | None
) -> TaskMixture:
    """The share of each task in the mixture.

    vectors: float32 [rows, d], NaN for a row without one, which does not count. labels: int64 [rows], its task. A
    task is the mean of its vectors, the kernel max(0, cosine); greedy graph cut: the gain of e is the sum over all
    tasks i of s_ie - 2 λ sum over chosen j of s_ej - λ s_ee, equal gains in the order of the labels.
    redundancy: λ. first: only the first so many tasks get a share; None for all that have a vector.
    Raises DataError where no row has a vector. O(rows d + tasks² d).
    """
    known = np.flatnonzero(~np.isnan(vectors).any(axis=1))
    if not len(known):
        raise DataError(
            f"SMART needs embeddings, and all {len(vectors)} rows have none. Check the embedding model."
        )
    by_task = known[np.argsort(labels[known], kind="stable")]
    present, starts = np.unique(labels[by_task], return_index=True)
    members = np.split(by_task, starts[1:])
    means = np.stack([vectors[rows].mean(axis=0, dtype=np.float64) for rows in members])
    kernel = dense_kernel(unit_rows(means.astype(np.float32)), max_bytes=np.inf)
    admission = Until(np.ones(len(present), dtype=np.int64), len(present) if first is None else first)
    chosen = greedy(GraphCut(kernel, redundancy), admission)
    own = tuple(members[task] for task in chosen.rows)
    return TaskMixture(present[chosen.rows], chosen.gains, taylor_softmax(chosen.gains), own)


def taylor_softmax(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares proportional to 1 + g + g²/2, float64 [gains], summing to 1.

    Below g = -1, where the parabola would rise again, it stays at its minimum, 1/2: a smaller gain never has the
    larger share. Second-order Taylor expansion of the softmax.

    >>> taylor_softmax(np.array([2.0, 1.0, 0.0])).round(3).tolist()
    [0.588, 0.294, 0.118]
    """
    bounded = np.maximum(gains, -1.0)
    weights = 1 + bounded + bounded**2 / 2
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def split(shares: NDArray[np.float64], total: int, caps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of each task, int64 [tasks], with the sum `total`, none above its cap.

    shares: float64 [tasks], in greedy order, summing to 1. The whole part of each quota; what is left goes one each
    to the first tasks; what is above a cap goes one each, again and again, to the first tasks that have rows left.
    Raises DataError where the caps sum to less than `total`.

    >>> split(np.array([10, 5, 2]) / 17, 10, np.array([9, 9, 9])).tolist()
    [6, 3, 1]
    """
    if caps.sum() < total:
        raise DataError(f"the tasks must hold the {total:,} rows to be chosen. They hold {caps.sum():,}.")
    counts = np.floor(np.round(total * shares, 9)).astype(np.int64)  # 2.9999999999999996 is 3
    counts[: total - int(counts.sum())] += 1
    excess = int(np.maximum(counts - caps, 0).sum())
    counts = np.minimum(counts, caps)
    return counts + apportion(np.ones(len(caps)), excess, caps=caps - counts)


@dataclass(frozen=True)
class Representatives:
    """rows: int64 [ordered]; gains: float64 [ordered], what each added; tasks: int64 [ordered], the place of its task.

    The first task's rows in the order of facility location, then the second's. bounds: float64 [all rows], the most
    that a row that was not ordered would have added; NaN for one of no task. sparse: tasks with a sparse kernel.
    """

    rows: NDArray[np.int64]
    gains: NDArray[np.float64]
    tasks: NDArray[np.int64]
    bounds: NDArray[np.float64]
    sparse: int


def representatives(
    vectors: NDArray[np.float32],
    members: Sequence[NDArray[np.int64]],
    costs: NDArray[np.int64],
    limits: NDArray[np.int64],
    neighbours: int,
    max_bytes: float,
    device: str = "cpu",
) -> Representatives:
    """The rows of each task in the order of facility location, until what they cost reaches the task's limit.

    vectors: float32 [rows, d]. members: the rows of each task. costs: int64 [rows]. limits: int64 [tasks]. A task's
    kernel is dense where it fits into max_bytes, else of each row's nearest `neighbours`. Raises DataError where
    that does not fit either.
    """
    found: list[Chosen] = []
    bounds = np.full(len(costs), np.nan)
    sparse = 0
    for own, limit in zip(members, limits.tolist(), strict=True):
        points, admission = unit_rows(vectors[own]), Until(costs[own], limit)
        objective: FacilityLocation | SparseFacilityLocation
        if dense_bytes(len(own)) <= max_bytes:
            objective = FacilityLocation(dense_kernel(points, max_bytes, device))
        else:
            objective = SparseFacilityLocation(sparse_kernel(points, neighbours, max_bytes, device))
            sparse += 1
        chosen = lazy_greedy(objective, admission)
        bounds[own] = chosen.bounds
        found.append(chosen)
    rows = [own[chosen.rows] for own, chosen in zip(members, found, strict=True)]
    tasks = np.repeat(np.arange(len(found)), [len(each) for each in rows])
    gains = np.concatenate([chosen.gains for chosen in found])
    return Representatives(np.concatenate(rows), gains, tasks, bounds, sparse)


def reach(costs: Sequence[NDArray[np.int64]], shares: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    """How much of each task `in_proportion` can take before all together cost the limit, int64 [tasks], at most.

    costs: of the rows of each task, int64 each. At a place t a task has spent t * share, half a row more or less, or
    all it has; so where the ideal shares of the limit and a row for each task are spent, the limit is passed.
    """
    totals = np.array([each.sum() for each in costs])
    largest = max(int(each.max()) for each in costs)
    wanted = min(limit + len(costs) * largest, int(totals.sum()))
    return apportion(shares, wanted, caps=totals) + largest


def in_proportion(
    costs: NDArray[np.int64], tasks: NDArray[np.int64], shares: NDArray[np.float64]
) -> NDArray[np.int64]:
    """An order of rows in every prefix of which what the tasks cost is in proportion to their shares, int64 [rows].

    costs: int64 [rows]; tasks: int64 [rows], ascending, the rows of a task in their order. A row stands where half of
    it is spent, (what stands before it in its task + cost / 2) / share: with costs of 1, Sainte-Lague's divisors.
    """
    sums = np.cumsum(costs, dtype=np.float64)
    first = np.searchsorted(tasks, tasks, side="left")
    before = sums - costs - (sums - costs)[first]
    return np.argsort((before + costs / 2) / shares[tasks], kind="stable")
