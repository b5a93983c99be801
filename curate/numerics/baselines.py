"""Honest baselines: random subsets of as many tokens, or of the same lengths, as another subset or schedule."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.ranking import group_rank, ranked


def rounds(draws: NDArray[np.integer]) -> list[tuple[NDArray[np.int64], int]]:
    """Draws with repeats as rounds of distinct rows: (rows, ascending; in how many rounds just these).

    draws: int [draws], rows. Round k holds the rows that are drawn k times or more, so each round lies
    within the one before it, and of every set of rows a baseline can be drawn without replacement.
    """
    rows, times = np.unique(draws, return_counts=True)
    levels = [0, *np.unique(times).tolist()]
    return [(rows[times >= level].astype(np.int64), level - below) for below, level in pairwise(levels)]


def repeated_to_tokens(
    lengths: NDArray[np.integer], draws: NDArray[np.int64], tokens: int
) -> NDArray[np.int64]:
    """The draws again and again, or the first of them, as many as come nearest to `tokens`; at least one.

    lengths: int [rows], tokens, above 0. draws: int64 [at least 1], rows; as they are where their tokens
    are off by less than the longest of them. int64 [as many as it takes].
    """
    once = int(lengths[draws].sum())
    if abs(once - tokens) < int(lengths[draws].max()):
        return draws
    stream = np.tile(draws, tokens // once + 1)
    return stream[: _nearest(np.cumsum(lengths[stream], dtype=np.int64), tokens)]


def random_to_tokens(
    lengths: NDArray[np.integer], keys: NDArray[np.float64], budget_tokens: int
) -> NDArray[np.int64]:
    """Rows in random order, as many as come nearest to the budget; at least one. int64 [chosen].

    lengths: int [rows], tokens. keys: float64 [rows], one random number each (`seeds.uniform`); rows are
    taken from the smallest. Off the budget by at most half the row at the end, unless that is the first.
    Raises DataError where the budget is more than all tokens.
    """
    order = ranked(keys, highest=False)
    sums = np.cumsum(lengths[order], dtype=np.int64)
    total = int(sums[-1]) if len(sums) else 0
    if budget_tokens > total:
        raise DataError(f"a budget must be at most the {total} tokens of the pool. Got {budget_tokens}.")
    return order[: _nearest(sums, budget_tokens)]


def _nearest(sums: NDArray[np.int64], tokens: int) -> int:
    """How many rows, at least 1, whose ascending sums come nearest to `tokens`; the fewer of two as near."""
    return int(np.argmin(np.abs(sums - tokens))) + 1


def length_bins(reference_lengths: NDArray[np.integer], bins: int = 20) -> NDArray[np.int64]:
    """Inner edges of the bins, int64 [at most bins - 1], ascending: quantiles of the reference.

    A length x is in bin `searchsorted(edges, x, side="right")`: the edges are the first lengths of the
    bins 1, 2, …; equal lengths are never split. An edge is midway between two lengths of the reference:
    on one of them, the reference would be shorter than the rest of its bin, by half a bin's width over
    its rows.
    """
    quantiles = np.quantile(reference_lengths, np.arange(1, bins) / bins, method="midpoint")
    edges: NDArray[np.int64] = np.unique(np.ceil(quantiles).astype(np.int64))
    return edges[edges > int(reference_lengths.min())]


def length_matched(
    lengths: NDArray[np.integer],
    reference_lengths: NDArray[np.integer],
    keys: NDArray[np.float64],
    bins: int = 20,
) -> NDArray[np.int64]:
    """A random subset with the reference's length histogram and its total of tokens. int64 [reference].

    lengths: int [rows], tokens of the pool's rows. reference_lengths: int [reference]. keys: float64
    [rows], one random number each. Returned in the order of their keys.

    Each quantile bin of the reference gives as many rows, those of the smallest keys; a row shorter or
    longer than all of the reference is in no bin. Then rows are
    swapped inside bins to bring the total to the reference's: the next row by key for the bin's last
    chosen one, wherever that lowers the difference and until it is below half a mean row; then the best
    single swaps, while any helps. Where the reference is a subset of the pool, no swap helping means
    that the difference is less than half of a row: some swap of x tokens leads towards the reference,
    0 < x < a row, and |d - x| >= d only if d <= x / 2.
    O(n log n). Raises DataError where a bin of the pool holds fewer rows than the reference's.
    """
    if len(reference_lengths) == 0:
        raise DataError("a length-matched subset needs a reference of at least one row. Got none.")
    order = ranked(keys, highest=False)
    drawn: NDArray[np.int64] = lengths[order].astype(np.int64)
    edges = length_bins(reference_lengths, bins)
    outside = len(edges) + 1
    labels = np.searchsorted(edges, drawn, side="right").astype(np.int64)
    labels[(drawn < reference_lengths.min()) | (drawn > reference_lengths.max())] = outside
    wanted = np.bincount(np.searchsorted(edges, reference_lengths, side="right"), minlength=outside + 1)
    held = np.bincount(labels, minlength=outside + 1)
    if (held < wanted).any():
        short = int(np.flatnonzero(held < wanted)[0])
        bounds = [int(reference_lengths.min()), *edges.tolist(), int(reference_lengths.max()) + 1]
        raise DataError(
            "the pool must hold as many rows as the reference in each bin of lengths. "
            f"It has {held[short]} of {bounds[short]} to {bounds[short + 1] - 1} tokens, "
            f"the reference {wanted[short]}."
        )
    chosen = group_rank(np.arange(len(order)), labels) < wanted[labels]
    excess = int(drawn[chosen].sum()) - int(reference_lengths.sum(dtype=np.int64))
    excess = _swap_in_order(chosen, drawn, labels, excess, float(reference_lengths.mean()) / 2)
    while excess:
        best = _best_swap(chosen, drawn, labels, excess)
        if best is None:
            break
        out, into, change = best
        chosen[out], chosen[into] = False, True
        excess -= change
    return order[chosen]


def _swap_in_order(
    chosen: NDArray[np.bool_],
    lengths: NDArray[np.int64],
    labels: NDArray[np.int64],
    excess: int,
    enough: float,
) -> int:
    """Swap in place what lowers |excess|; rows are in the order of their keys. Returns what is left of it."""
    if abs(excess) <= enough:
        return excess
    last: dict[int, list[int]] = {}
    for row in np.flatnonzero(chosen).tolist():
        last.setdefault(int(labels[row]), []).append(row)
    for row in np.flatnonzero(~chosen).tolist():
        if abs(excess) <= enough:
            break
        rows = last.get(int(labels[row]))
        if not rows:
            continue
        change = int(lengths[rows[-1]] - lengths[row])
        if abs(excess - change) < abs(excess):
            chosen[rows.pop()], chosen[row] = False, True
            excess -= change
    return excess


def _best_swap(
    chosen: NDArray[np.bool_], lengths: NDArray[np.int64], labels: NDArray[np.int64], excess: int
) -> tuple[int, int, int] | None:
    """(row out, row in, tokens saved) of one bin that brings the excess nearest to 0; None if none helps."""
    best: tuple[int, int, int] | None = None
    left = abs(excess)
    for label in np.unique(labels[chosen]):
        inside = np.flatnonzero(chosen & (labels == label))
        outside = np.flatnonzero(~chosen & (labels == label))
        if len(outside) == 0:
            continue
        outside = outside[np.argsort(lengths[outside], kind="stable")]
        after = np.minimum(np.searchsorted(lengths[outside], lengths[inside] - excess), len(outside) - 1)
        for candidate in (after, np.maximum(after - 1, 0)):
            change = lengths[inside] - lengths[outside[candidate]]
            rest = np.abs(excess - change)
            first = int(np.argmin(rest))
            if rest[first] < left:
                left = int(rest[first])
                best = (int(inside[first]), int(outside[candidate[first]]), int(change[first]))
    return best
