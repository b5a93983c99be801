"""Combining: several criteria into one score, by their values or by their ranks. TOPSIS is in topsis.py."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def weighted_z_scores(criteria: Numbers, weights: Sequence[float], maximise: Sequence[bool]) -> Numbers:
    """sum_k w_k z_k / sum_k w_k, float64 [rows]; z_k of a criterion to be low has its sign turned.

    criteria: float64 [rows, k]. z: less the mean, over the standard deviation of the rows that have all; a
    constant criterion counts 0. Rows with a NaN stay NaN.
    """
    return _each(criteria, maximise, weights, _z)


def rank_average(criteria: Numbers, weights: Sequence[float], maximise: Sequence[bool]) -> Numbers:
    """The weighted mean of the rows' ranks, each from 0 (worst) to 1 (best), float64 [rows]; ties share theirs.

    As `weighted_z_scores` otherwise. A single row has rank 1/2. O(k n log n).
    """
    return _each(criteria, maximise, weights, _rank)


def product(criteria: Numbers, weights: Sequence[float], maximise: Sequence[bool]) -> Numbers:
    """prod_k x_k^w_k with x_k scaled to [0, 1] over the pool, 1 the best, float64 [rows].

    Only for criteria that are not negative: one to be high is divided by its maximum, so that a 0 makes the
    product 0; one to be low counts min/x (1 where both are 0). Raises ValueError for a negative value.
    """
    factors = np.asarray(weights, dtype=np.float64)
    found = np.full(len(criteria), np.nan)
    known = ~np.isnan(criteria).any(axis=1)
    values = criteria[known]
    if (values < 0).any():
        raise ValueError(f"a product needs criteria at or above 0. Got {values.min()}.")
    scaled = np.ones_like(values)
    for column, high in enumerate(maximise):
        one = values[:, column]
        if high:
            largest = one.max(initial=0)
            scaled[:, column] = one / largest if largest > 0 else 0
        else:
            smallest = one.min(initial=np.inf)
            np.divide(smallest, one, out=scaled[:, column], where=one > 0)
    found[known] = np.prod(scaled**factors, axis=1)
    return found


def _each(criteria: Numbers, maximise: Sequence[bool], weights: Sequence[float], scale: object) -> Numbers:
    assert callable(scale)
    factors = np.asarray(weights, dtype=np.float64)
    found = np.full(len(criteria), np.nan)
    known = ~np.isnan(criteria).any(axis=1)
    if known.any():
        signed = criteria[known] * np.where(np.asarray(maximise, dtype=bool), 1.0, -1.0)
        columns = np.column_stack([scale(signed[:, column]) for column in range(signed.shape[1])])
        found[known] = columns @ factors / factors.sum()
    return found


def _z(values: Numbers) -> Numbers:
    if values.min() == values.max():  # whose standard deviation may be a rounding error, not 0
        return np.zeros(len(values))
    standard: Numbers = (values - values.mean()) / values.std()
    return standard


def _rank(values: Numbers) -> Numbers:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean = last - (counts + 1) / 2
    return mean[inverse] / (len(values) - 1) if len(values) > 1 else np.full(len(values), 0.5)
