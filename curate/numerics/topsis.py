"""TOPSIS: rank alternatives by their distance to the best and the worst value of every criterion.

Hwang and Yoon, Multiple Attribute Decision Making, 1981.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def topsis(
    criteria: NDArray[np.float64], weights: Sequence[float], maximise: Sequence[bool]
) -> NDArray[np.float64]:
    """Relative closeness to the ideal, float64 [alternatives], in [0, 1]; 1 is best.

    criteria X: float64 [alternatives, criteria]. weights w: one per criterion, not negative, not all 0;
    only their ratios matter. maximise: whether a criterion is better high.
    R_ij = X_ij / sqrt(sum_i X_ij^2), V = R diag(w), A+ and A- the best and the worst of each column,
    C_i = d-_i / (d+_i + d-_i) with Euclidean distances d. A column of zeros stays 0; d+ + d- = 0 gives .5.
    Rows with a NaN take no part and stay NaN. O(n k).
    Raises ValueError for shapes that differ, weights as above, or an infinite criterion.
    """
    factors, best_is_high = np.asarray(weights, dtype=np.float64), np.asarray(maximise, dtype=bool)
    if criteria.ndim != 2 or factors.shape != (criteria.shape[1],) or best_is_high.shape != factors.shape:
        raise ValueError(
            "criteria must be [alternatives, k], with k weights and k directions. "
            f"Got shapes {criteria.shape}, {factors.shape} and {best_is_high.shape}."
        )
    if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.sum() > 0):
        raise ValueError(f"weights must be finite, not negative, and not all 0. Got {list(weights)}.")
    if np.isinf(criteria).any():
        raise ValueError("criteria must be finite or NaN. Got an infinite value.")
    closeness = np.full(len(criteria), np.nan)
    known = ~np.isnan(criteria).any(axis=1)
    if not known.any():
        return closeness
    values = criteria[known]
    largest = np.abs(values).max(axis=0)
    scaled = values / np.where(largest > 0, largest, 1)
    norms = np.sqrt(np.square(scaled).sum(axis=0))
    weighted = scaled / np.where(norms > 0, norms, 1) * factors
    highest, lowest = weighted.max(axis=0), weighted.min(axis=0)
    to_best = np.linalg.norm(weighted - np.where(best_is_high, highest, lowest), axis=1)
    to_worst = np.linalg.norm(weighted - np.where(best_is_high, lowest, highest), axis=1)
    total = to_best + to_worst
    closeness[known] = np.where(total > 0, to_worst / np.where(total > 0, total, 1), 0.5)
    return closeness
