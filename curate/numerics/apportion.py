"""Apportioning: whole numbers of rows for groups, in proportion to weights, below caps."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curate.errors import DataError


def apportion(weights: ArrayLike, total: int, caps: ArrayLike | None = None) -> NDArray[np.int64]:
    """Whole numbers that sum to `total`, in proportion to `weights`, none above its cap.

    weights: float [groups], at least 0; their sum need not be 1. A group of weight 0 gets nothing.
    caps: int [groups], the most that a group can take (its rows); None for no cap.
    Returns int64 [groups].

    Largest remainder (Hamilton): each group gets the whole part of its quota, and what is left goes,
    one each, to the largest fractional parts; equal ones in group order. A group whose quota is above
    its cap gets its cap, and the excess is shared among the others by the same weights, until all is
    given. Raises DataError where the caps of the groups with weight sum to less than `total`.

    >>> apportion([2, 1, 1], 10).tolist()
    [5, 3, 2]
    >>> apportion([2, 1, 1], 10, caps=[3, 9, 9]).tolist()
    [3, 4, 3]
    """
    share = np.asarray(weights, dtype=np.float64)
    if share.ndim != 1 or not np.isfinite(share).all() or (share < 0).any():
        raise DataError(f"weights must be finite numbers of at least 0. Got {share.tolist()}.")
    result = np.zeros(len(share), dtype=np.int64)
    room = np.full(len(share), total) if caps is None else np.asarray(caps, dtype=np.int64)
    room = np.where(share > 0, np.minimum(room, total), 0)
    if room.sum() < total:
        raise DataError(
            f"{total} rows must be shared among groups that hold at least as many. They hold {room.sum()}."
        )
    is_open = room > 0
    while is_open.any():
        left = total - int(result.sum())
        quota = np.where(is_open, left * (share / share[is_open].sum()), 0.0)
        full = is_open & (quota >= room)
        if not full.any():
            return result + _largest_remainder(quota, left)
        result[full] = room[full]
        is_open &= ~full
    return result


def _largest_remainder(quota: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    whole = np.floor(quota).astype(np.int64)
    remainder = np.round(quota - whole, 9)  # 2.9999999999999996 has the largest remainder, and becomes 3
    missing = total - int(whole.sum())
    whole[np.argsort(-remainder, kind="stable")[:missing]] += 1
    return whole


def temperature_weights(sizes: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """p_j proportional to n_j^(1/T), float64 [groups], summing to 1; an empty group has 0.

    T = 1 is proportional to size; the larger T, the nearer to equal.
    """
    rows = np.asarray(sizes, dtype=np.float64)
    present = rows > 0
    if not present.any():
        return np.zeros_like(rows)
    logs = np.where(present, np.log(np.maximum(rows, 1.0)) / temperature, -np.inf)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)
