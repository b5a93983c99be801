"""Predictive strength, and the classifier's part of PreSelect: which rows are examples of it, and how well it tells."""

import math

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def predictive_strength(losses: Numbers) -> Numbers:
    """The share of the pairs of models whose losses are in the order of their abilities, float64 [rows], in [0, 1].

    PS = sum over i < j of 1[C_i > C_j] / (N (N - 1) / 2). losses: float64 [rows, N], C_i of the i-th model, the
    least able first. A tie is no success, and counts as a pair. NaN where a loss is missing. O(rows N²).
    Without ties PS = (τ + 1) / 2, τ being Kendall's of losses and reversed order. Raises ValueError for N < 2.
    """
    models = losses.shape[1]
    if models < 2:
        raise ValueError(f"predictive strength compares at least 2 models. Got {models}.")
    found = np.zeros(len(losses))
    for model in range(models - 1):
        found += (losses[:, model, None] > losses[:, model + 1 :]).sum(axis=1)
    found /= models * (models - 1) / 2
    return np.where(np.isnan(losses).any(axis=1), np.nan, found)


def highest_and_lowest(
    values: Numbers, keys: Numbers, fraction: float | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Equally many rows of the highest and of the lowest values, int64 [n] each; NaN is in neither.

    fraction: of the rows that have a value, for each of the two; None for the rows of the very highest value,
    or as many of them as there are rows below. No value is in both. keys: float64 [rows], the smallest
    wins among equal values that do not all fit.
    """
    rows = np.flatnonzero(~np.isnan(values))
    if not len(rows):
        return rows, rows
    order = rows[np.lexsort((keys[rows], values[rows]))]
    ordered = values[order]
    if fraction is None:
        top = int((ordered == ordered[-1]).sum())
        count = min(top, len(order) - top)
    else:
        count = min(math.floor(fraction * len(order)), len(order) // 2)
    lowest = order[:count]
    best_first = rows[np.lexsort((keys[rows], -values[rows]))]
    highest = best_first[:count]
    if count and values[lowest[-1]] == values[highest[-1]]:
        shared = values[lowest[-1]]
        below, above = int((ordered < shared).sum()), int((ordered > shared).sum())
        count = min(count, max(below, above))  # it goes to the side that has fewer
        lowest, highest = order[:count], best_first[:count]
    return highest, lowest


def auc(scores: Numbers, positive: NDArray[np.bool_]) -> float:
    """The chance that a positive row scores above a negative one, ties half; NaN without one of each. O(n log n)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return math.nan
    above = float(mean_rank[inverse][positive].sum()) - yes * (yes + 1) / 2
    return above / (yes * no)
