"""Decomposition: rows cut into pieces of power-of-two lengths, and the order in which buckets of pieces are drawn.

Source: Pouransari et al., "Dataset decomposition: faster LLM training with variable sequence length curriculum", 2024.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pieces:
    """Pieces of rows, by row and then by place: int64 [pieces] each. start, length: tokens of the row."""

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Pieces":
        """Some of them, bool [pieces]."""
        return Pieces(self.row[chosen], self.start[chosen], self.length[chosen])


def decompose(lengths: NDArray[np.int64], smallest: int, largest: int) -> Pieces:
    """Cut rows into pieces: as many of `largest` tokens as fit, then one of each power of two in what is left.

    lengths: int64 [rows], tokens. smallest, largest: powers of two. The last piece of a row is its remainder, of 1 to
    smallest - 1 tokens; the pieces of a row are all of it. O(rows log largest).

    >>> decompose(np.array([21]), 4, 8).length.tolist()
    [8, 8, 4, 1]
    """
    all_rows = np.arange(len(lengths))
    whole = lengths // largest
    row = [np.repeat(all_rows, whole)]
    start = [(np.arange(len(row[0])) - np.repeat(np.cumsum(whole) - whole, whole)) * largest]
    length = [np.full(len(row[0]), largest)]
    power = largest // 2
    while power >= smallest:
        has = np.flatnonzero(lengths & power)
        row.append(has)
        start.append(lengths[has] // (2 * power) * (2 * power))
        length.append(np.full(len(has), power))
        power //= 2
    left = np.flatnonzero(lengths % smallest)
    row.append(left)
    start.append(lengths[left] // smallest * smallest)
    length.append(lengths[left] % smallest)
    rows, starts = np.concatenate(row).astype(np.int64), np.concatenate(start).astype(np.int64)
    order = np.lexsort((starts, rows))
    return Pieces(rows[order], starts[order], np.concatenate(length).astype(np.int64)[order])


def supervised_pieces(
    pieces: Pieces, lengths: NDArray[np.int64], mask: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether a piece has a supervised token beyond its first, bool [pieces].

    lengths: int64 [rows]; mask: bool [tokens], the rows' masks end to end. The first token of a piece has nothing
    before it that could predict it.
    """
    before = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    first = (np.cumsum(lengths) - lengths)[pieces.row] + pieces.start
    after_first = before[np.minimum(first + 1, len(mask))]
    found: NDArray[np.bool_] = before[first + pieces.length] > after_first
    return found


def bucket_order(
    steps: NDArray[np.int64], odds: NDArray[np.float64], cycles: int, chance: NDArray[np.float64]
) -> NDArray[np.int64]:
    """From which bucket each step is drawn, int64 [all steps].

    steps: int64 [buckets], the steps that a bucket has. odds: float64 [buckets], above 0. chance: float64 [all
    steps], uniform in (0, 1). Each cycle has its share of every bucket's steps, to within one; in it the next step is
    of a bucket with chance in proportion to its odds, among those that have steps left in this cycle.
    O(steps · buckets).
    """
    order = np.empty(int(steps.sum()), dtype=np.int64)
    place = 0
    taken = np.zeros(len(steps), dtype=np.int64)
    for cycle in range(1, cycles + 1):
        until = (2 * cycle * steps + cycles) // (2 * cycles)
        left = until - taken
        taken = until
        while left.any():
            sums = np.cumsum(np.where(left > 0, odds, 0.0))
            bucket = int(np.searchsorted(sums, chance[place] * sums[-1], side="right"))
            order[place] = bucket
            left[bucket] -= 1
            place += 1
    return order


def filled(
    places: NDArray[np.int64], lengths: NDArray[np.int64], batch_tokens: int
) -> list[NDArray[np.int64]]:
    """Pieces cut into steps in their order, each as long as it stays within `batch_tokens`.

    places, lengths: int64 [pieces], the latter at most `batch_tokens`. Returns the places of each step.
    """
    ends = np.cumsum(lengths)
    steps, start = [], 0
    while start < len(places):
        before = int(ends[start - 1]) if start else 0
        end = int(np.searchsorted(ends, before + batch_tokens, side="right"))
        steps.append(places[start:end])
        start = end
    return steps
