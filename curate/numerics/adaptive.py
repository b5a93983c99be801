"""Adaptive strata: in each group the number that spreads widest, cut into strata (Adapt-∞)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.redundancy import redundancy
from curate.numerics.stratified import PLACE_DECIMALS, cuts, spread, strata


def members_of(labels: NDArray[np.int64], groups: int) -> list[NDArray[np.int64]]:
    """The rows of each group, ascending. labels: int64 [rows], -1 for a row of no group."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels + 1, minlength=groups + 1))
    return np.split(order, ends[:-1])[1:]


@dataclass(frozen=True)
class AdaptiveStrata:
    """choice: int64 [groups], which number each group uses. entropy: float64 [groups], its spread in bits.

    low, high: float64 [groups], the cuts; NaN for a group without a value. labels: int64 [rows], the stratum, 0 the
    highest; -1 for a row outside the cuts, without the value or of no group.
    """

    choice: NDArray[np.int64]
    entropy: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    labels: NDArray[np.int64]


def adaptive_strata(
    values: NDArray[np.float64], members: list[NDArray[np.int64]], low: float, high: float, bins: int
) -> AdaptiveStrata:
    """The number with the widest spread in each group (the first of equals), and the group's strata by it.

    values: float64 [numbers, rows], NaN where a row has none. members: the rows of each group. low, high: quantiles.
    Raises DataError where a cut is infinite.
    """
    groups = len(members)
    choice, entropy = np.zeros(groups, dtype=np.int64), np.zeros(groups)
    lows, highs = np.full(groups, np.nan), np.full(groups, np.nan)
    labels = np.full(values.shape[1], -1, dtype=np.int64)
    for group, rows in enumerate(members):
        spreads = [spread(number[rows]) for number in values]
        choice[group] = int(np.argmax(spreads))
        entropy[group] = max(spreads)
        chosen = values[choice[group], rows]
        known = chosen[~np.isnan(chosen)]
        if len(known):
            lows[group], highs[group] = cuts(known, low, high)
            if not np.isfinite([lows[group], highs[group]]).all():
                raise DataError(
                    f"scores must be finite between the quantiles {low:g} and {high:g} of a cluster, to be cut into "
                    f"strata. Got {lows[group]:g} to {highs[group]:g} in one of {len(rows)} rows. Narrow them."
                )
            labels[rows] = strata(chosen, lows[group], highs[group], bins)
    return AdaptiveStrata(choice, entropy, lows, highs, labels)


@dataclass(frozen=True)
class Pruned:
    """is_pruned: bool [rows]. nearest: float64 [rows], M, the largest cosine to a row of the group that stands before.

    to: int64 [rows], that row. NaN and -1 for rows of no group.
    """

    is_pruned: NDArray[np.bool_]
    nearest: NDArray[np.float64]
    to: NDArray[np.int64]


def prune(
    vectors: NDArray[np.float32], members: list[NDArray[np.int64]], order: NDArray[np.int64], share: float
) -> Pruned:
    """Take out of each group the share of rows (rounded down) with the largest M, of equals those that stand last.

    vectors: float32 [rows, d] of unit length. members: the rows of each group. order: int64 [rows], the place at which
    each row stands. O(sum of the squares of the groups' sizes, times d).
    """
    rows = len(order)
    found = Pruned(np.zeros(rows, dtype=np.bool_), np.full(rows, np.nan), np.full(rows, -1, dtype=np.int64))
    for group in members:
        standing = group[np.argsort(order[group], kind="stable")]
        nearest, to = redundancy(vectors[standing])
        found.nearest[standing] = nearest
        found.to[standing] = np.where(to < 0, -1, standing[to])
        kept = len(group) - int(np.round(share * len(group), PLACE_DECIMALS))
        found.is_pruned[standing[np.argsort(nearest, kind="stable")[kept:]]] = True
    return found
