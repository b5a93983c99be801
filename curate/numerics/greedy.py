"""Greedy maximisation of a submodular function: the row with the largest gain, again and again.

On a monotone function and a budget in rows, what is chosen is worth at least 1 − 1/e (63 %) of the best possible
set (Nemhauser, Wolsey, Fisher 1978); in practice it is nearly all. Equal gains: the earlier row.

    greedy             looks at every gain for every choice; for functions that hold their gains up to date
    lazy_greedy        the same choices, gain by gain (Minoux 1978): a gain only ever falls, so an old one bounds the
                       new one, and only rows whose old gain still leads are looked at again, in growing blocks
    stochastic_greedy  the best of a random sample for each choice (Mirzasoleiman et al. 2015): 1 − 1/e − ε in
                       expectation with a sample of (n/k) ln(1/ε)

What may be chosen is not theirs to know: they ask an `Admission` before each choice.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.numerics.submodular import Objective

FEW, MANY = 8, 4096
"""The smallest and the largest block of candidates that lazy greedy looks at together."""


class Admission(Protocol):
    """Who says what may be chosen. Rows are indices of the objective.

    include: int64, rows that are chosen (and counted) before any other. verdict: "never" is for good; "later" ends
    for all such rows at the same choice, so that one of them can be asked for all. A verdict is asked only of the
    row that is to be chosen next. add: counts a row as chosen. spent: nothing more may be chosen.
    """

    @property
    def include(self) -> NDArray[np.int64]:
        """Rows that are chosen before any other."""

    @property
    def spent(self) -> bool:
        """Whether nothing more may be chosen."""

    def verdict(self, row: int) -> Literal["yes", "later", "never"]:
        """Whether this row may be chosen next."""

    def add(self, row: int) -> None:
        """Count it as chosen."""


@dataclass(frozen=True)
class Chosen:
    """rows: int64 [chosen], in order. gains: float64 [chosen], what each added.

    bounds: float64 [all rows], for a row that is not chosen, the most that it would have added at the end; for a
    chosen one its gain; NaN where it is unknown. evaluations: the gains that were computed.
    """

    rows: NDArray[np.int64]
    gains: NDArray[np.float64]
    bounds: NDArray[np.float64]
    evaluations: int


class _Choice:
    """The rows chosen so far, and those that wait."""

    def __init__(self, objective: Objective, admission: Admission, begun: Chosen | None = None) -> None:
        self._objective, self._admission = objective, admission
        self.rows: list[int] = [] if begun is None else begun.rows.tolist()
        self.gains: list[float] = [] if begun is None else begun.gains.tolist()
        self._waiting: list[int] = []
        included = admission.include.tolist() if begun is None else []
        for row in included:
            self._choose(row, float(objective.gains(np.array([row]))[0]))
        self._evaluations = len(included) if begun is None else begun.evaluations

    def offer(self, row: int, gain: float) -> bool:
        """Choose the row if it is admitted, put it aside if it may be later; whether it was chosen."""
        verdict = self._admission.verdict(row)
        if verdict == "yes":
            self._admission.add(row)
            self._choose(row, gain)
        elif verdict == "later":
            self._waiting.append(row)
        return verdict == "yes"

    def released(self) -> list[int]:
        """The rows put aside that are in the running again."""
        while self._waiting and not self._admission.spent:
            verdict = self._admission.verdict(self._waiting[-1])
            if verdict == "later":
                return []
            if verdict == "yes":
                rows, self._waiting = self._waiting, []
                return rows
            self._waiting.pop()
        return []

    def result(self, bounds: NDArray[np.float64], evaluations: int) -> Chosen:
        """bounds: of the rows that are not chosen."""
        rows, gains = np.array(self.rows, dtype=np.int64), np.array(self.gains, dtype=np.float64)
        bounds[rows] = gains
        return Chosen(rows, gains, bounds, evaluations + self._evaluations)

    def _choose(self, row: int, gain: float) -> None:
        self._objective.add(row)
        self.rows.append(row)
        self.gains.append(gain)


def greedy(objective: Objective, admission: Admission, begun: Chosen | None = None) -> Chosen:
    """Exact greedy that reads all gains for each choice; until the budget is spent or no row is left.

    begun: what was chosen before, that the admission has counted (with its included rows) and the objective holds.
    """
    choice = _Choice(objective, admission, begun)
    shut = np.zeros(objective.rows)
    shut[choice.rows] = -np.inf
    evaluations, any_left = 0, True
    while any_left and not admission.spent:
        gains = objective.gains() + shut
        evaluations += objective.rows
        any_left = False
        for row in _descending(gains):
            shut[row] = -np.inf
            if any_left := choice.offer(row, float(gains[row])):
                break
            if admission.spent:
                break
        shut[choice.released()] = 0
    return choice.result(objective.gains(), evaluations)


def lazy_greedy(objective: Objective, admission: Admission, few: int = FEW, many: int = MANY) -> Chosen:
    """The choices of `greedy`, looking again only at rows whose last known gain still leads.

    few, many: the smallest and largest block of rows looked at together; they change the work, not the result.
    """
    choice = _Choice(objective, admission)
    bounds = objective.gains()
    evaluations = objective.rows
    known_at = [len(choice.rows)] * objective.rows
    chosen = set(choice.rows)
    queue = [(-gain, row) for row, gain in enumerate(bounds.tolist()) if row not in chosen]
    heapq.heapify(queue)
    block, looked_at = few, 0
    while queue and not admission.spent:
        now = len(choice.rows)
        stale: list[int] = []
        while queue and len(stale) < block and known_at[queue[0][1]] < now:
            stale.append(heapq.heappop(queue)[1])
        if stale:
            fresh = objective.gains(np.array(stale, dtype=np.int64))
            bounds[stale] = fresh
            for row, gain in zip(stale, fresh.tolist(), strict=True):
                known_at[row] = now
                heapq.heappush(queue, (-gain, row))
            looked_at += len(stale)
            block = min(2 * block, many)
            continue
        bound, row = heapq.heappop(queue)
        if choice.offer(row, -bound):
            evaluations += looked_at
            block, looked_at = min(max(few, looked_at // 2), many), 0
            for waiting in choice.released():
                heapq.heappush(queue, (-float(bounds[waiting]), waiting))
    return choice.result(bounds, evaluations + looked_at)


def stochastic_greedy(
    objective: Objective, admission: Admission, sample: int, order: NDArray[np.int64], seed: int
) -> Chosen:
    """The best of a fresh random sample of the rows that are left, for each choice.

    sample: rows of a sample. order: int64 [rows], all rows in an order of their own, not of the pool's: samples are
    drawn by places in it. The bound of a row that was in no sample is NaN.
    """
    choice = _Choice(objective, admission)
    random = np.random.default_rng(seed)
    chosen = set(choice.rows)
    left = [row for row in order.tolist() if row not in chosen]
    place = {row: index for index, row in enumerate(left)}
    bounds = np.full(objective.rows, np.nan)
    evaluations = 0
    while left and not admission.spent:
        drawn = random.choice(len(left), min(sample, len(left)), replace=False, shuffle=False)
        rows = np.sort(np.array([left[index] for index in drawn.tolist()], dtype=np.int64))
        gains = objective.gains(rows)
        bounds[rows] = gains
        evaluations += len(rows)
        for index in np.argsort(-gains, kind="stable").tolist():
            row = int(rows[index])
            taken = choice.offer(row, float(gains[index]))
            if admission.spent and not taken:
                break
            last = left.pop()
            if last != row:
                left[place[row]], place[last] = last, place[row]
            del place[row]
            if taken:
                break
        for row in choice.released():
            place[row] = len(left)
            left.append(row)
    return choice.result(bounds, evaluations)


def _descending(values: NDArray[np.float64]) -> Iterator[int]:
    """The places of values above −∞, largest first, equal ones by place; sorts no more than it is asked for."""
    best = int(values.argmax())
    if values[best] == -np.inf:
        return
    yield best
    given, wanted = 1, 32
    while given < len(values):
        least = -np.inf if wanted >= len(values) else np.partition(values, -wanted)[-wanted]
        places = np.flatnonzero((values >= least) & (values > -np.inf))
        places = places[np.argsort(-values[places], kind="stable")]
        yield from places[given:].tolist()
        if len(places) < wanted:
            return
        given, wanted = len(places), wanted * 32
