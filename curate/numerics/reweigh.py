"""Reweigh: cluster weights, moved by how the rows of each cluster did."""

import numpy as np
from numpy.typing import NDArray


def group_means(values: NDArray[np.float64], labels: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    """The mean of each group's values, float64 [groups]; NaN for a group without any.

    values: float64 [rows], NaN where a row has none. labels: int64 [rows], the group of each row.
    """
    known = ~np.isnan(values)
    counts = np.bincount(labels[known], minlength=groups)
    sums = np.bincount(labels[known], weights=values[known], minlength=groups)
    means = np.full(groups, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def reweighed(weights: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """w_j <- s_j w_j, normalised; softmax(s)_j in the place of s_j where any score is at most 0.

    weights: float64 [groups], at least 0. scores: float64 [groups], NaN for a group that was not scored: it
    keeps its weight, and the others share what they had together. Returns float64 [groups] with the sum of
    `weights`. Source: Yu et al., Diversify and Conquer, 2024, equation 6 (which leaves the sum open).

    >>> reweighed(np.array([0.5, 0.5]), np.array([3.0, 1.0])).tolist()
    [0.75, 0.25]
    """
    moved = ~np.isnan(scores) & (weights > 0)
    result = weights.copy()
    if not moved.any():
        return result
    chosen = scores[moved]
    factors = chosen if chosen.min() > 0 else np.exp(chosen - chosen.max())
    products = factors * weights[moved]
    result[moved] = products / products.sum() * weights[moved].sum()
    return result
