"""Ranking: orders of rows by a number, by weighted chance, and in turn over groups. Ties by position."""

import numpy as np
from numpy.typing import NDArray


def ranked(values: NDArray[np.float64], highest: bool) -> NDArray[np.int64]:
    """Rows in rank order, int64 [rows with a value]; rows with NaN are left out.

    values: float64 [rows]. highest: whether the largest comes first. Equal values keep their order.
    """
    rows = np.flatnonzero(~np.isnan(values))
    signed = -values[rows] if highest else values[rows]
    return rows[np.argsort(signed, kind="stable")].astype(np.int64)


def group_rank(order: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The how-many-eth of its group each row of an order is, from 0, int64 [order].

    order: int64 [order], rows. labels: int64 [rows], the group of each row of the pool.
    """
    groups = labels[order]
    by_group = np.argsort(groups, kind="stable")
    run = groups[by_group]
    first = np.flatnonzero(np.r_[True, run[1:] != run[:-1]]) if len(run) else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.r_[first, len(run)])
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[by_group] = np.arange(len(order)) - np.repeat(first, lengths)
    return ranks


def interleaved(
    order: NDArray[np.int64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The same rows with the groups in proportion to `weights` in every prefix, int64 [order].

    weights: float64 [groups], above 0. Row r (from 0) of group j stands at (r + 1/2) / w_j
    (Sainte-Lague's divisors); equal places keep the given order. With equal weights the groups take
    turns; with weights = sizes every prefix mirrors the pool.
    """
    places = (group_rank(order, labels) + 0.5) / weights[labels[order]]
    return order[np.argsort(places, kind="stable")]


def choose_in_turn(similarity: NDArray[np.floating]) -> NDArray[np.float64]:
    """When each row is chosen, from 0, as the columns take turns to choose their best row that is left.

    similarity: [rows, columns]. Returns float64 [rows]; NaN for a row with a NaN, which is never chosen. Ties
    go to the earlier row. O(n m log n) for n rows and m columns.
    """
    when = np.full(len(similarity), np.nan)
    live = np.flatnonzero(~np.isnan(similarity).any(axis=1))
    orders = [
        live[np.argsort(-similarity[live, column], kind="stable")] for column in range(similarity.shape[1])
    ]
    nexts = [0] * len(orders)
    taken = np.zeros(len(similarity), dtype=np.bool_)
    for turn in range(len(live)):
        column = turn % len(orders)
        order = orders[column]
        while taken[order[nexts[column]]]:
            nexts[column] += 1
        chosen = order[nexts[column]]
        taken[chosen] = True
        when[chosen] = turn
    return when


def chance_weights(quality: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Log of the weight of each row, float64 [rows], and whether the softmax was taken.

    The weight is the quality itself where all are above 0, else exp(quality): the logarithm of the
    latter is the quality, so that nothing overflows. NaN stays NaN.
    """
    present = quality[~np.isnan(quality)]
    if len(present) and present.min() > 0:
        return np.log(quality), False
    return quality, True


def weighted_order(log_weights: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """A random order: each next row is drawn among those left with probability proportional to weight.

    log_weights, uniform: float64 [rows], the latter in (0, 1), one per row. Returns int64 [rows with
    a weight]. Exact sampling without replacement by the Gumbel trick, the same in distribution as
    Efraimidis and Spirakis (2006), u^(1/w): the rows by log w - log(-log u), largest first.
    """
    return ranked(log_weights - np.log(-np.log(uniform)), highest=True)


def probabilities(log_weights: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row's weight as a share of its group's, float64 [rows]; NaN where it has none."""
    present = ~np.isnan(log_weights)
    if not present.any():
        return np.full(len(log_weights), np.nan)
    groups = int(labels.max()) + 1
    largest = np.full(groups, -np.inf)
    np.maximum.at(largest, labels[present], log_weights[present])
    weights = np.exp(log_weights - largest[labels])
    totals = np.bincount(labels[present], weights=weights[present], minlength=groups)
    shares: NDArray[np.float64] = np.full(len(weights), np.nan)
    np.divide(weights, totals[labels], out=shares, where=present)
    return shares
