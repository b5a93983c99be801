"""Strata: rows by equal bins of a number, drawn in turn; and how evenly a number spreads (CCS, Adapt-∞)."""

import numpy as np
from numpy.typing import NDArray

from curate.numerics.ranking import group_rank

HISTOGRAM_EDGES = np.linspace(-4.0, 4.0, 50)
"""Edges of the 49 bins of a z-scored value, float64 [50]."""

PLACE_DECIMALS = 6
"""Rounding of a quantile's place: (n - 1) * share is 28.999999999999996 for 101 * 0.29, and means 29."""


def cuts(values: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """The values at two quantiles, the lower one rounded down to a row and the upper one up.

    values: float64 [n >= 1], none NaN. Places are (n - 1) * low and (n - 1) * high of the ascending values, so
    at most a share `low` of them lies below the cuts and `1 - high` above, and of few values none does.
    """
    ascending = np.sort(values)
    lower = int(np.floor(np.round((len(values) - 1) * low, PLACE_DECIMALS)))
    upper = int(np.ceil(np.round((len(values) - 1) * high, PLACE_DECIMALS)))
    return float(ascending[lower]), float(ascending[upper])


def strata(values: NDArray[np.float64], low: float, high: float, bins: int) -> NDArray[np.int64]:
    """The stratum of each value, int64 [rows]: 0 is the highest, bins - 1 the lowest; -1 outside, and for NaN.

    values: float64 [rows]. low, high: finite, both included. The bins are of one width, (left, right], the last
    one closed. Where low equals high, all that lies there is in stratum 0.
    """
    inside = (values >= low) & (values <= high)
    labels = np.full(len(values), -1, dtype=np.int64)
    if high == low:
        labels[inside] = 0
        return labels
    places = (high - values[inside]) / (high - low) * bins
    labels[inside] = np.minimum(np.floor(places).astype(np.int64), bins - 1)
    return labels


def in_turn(order: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same rows, one of each group in a turn while the group has some; in a turn groups ascend by label.

    order: int64 [order], rows, best first. labels: int64 [rows], the group of each row of the pool. Every prefix
    shares its rows equally over the groups, the deficit of a short one spread over the rest, one row more going
    to the groups with the lowest labels. O(n log n).
    """
    return order[np.lexsort((labels[order], group_rank(order, labels)))]


def histogram_entropy(z: NDArray[np.float64]) -> float:
    """Entropy in bits of the histogram over HISTOGRAM_EDGES, in [0, log2 49]; what lies outside does not count.

    z: float64 [rows], none NaN. 0 where nothing lies inside.
    """
    counts = np.histogram(z, HISTOGRAM_EDGES)[0]
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(np.abs((shares * np.log2(shares)).sum()))


def spread(values: NDArray[np.float64]) -> float:
    """Entropy in bits of the z-scored values, float64 [rows]; NaN is left out.

    0 where none is left, one is infinite or they do not vary: their z-score is not defined.
    """
    known = values[~np.isnan(values)]
    if not len(known) or not np.isfinite(known).all() or known.min() == known.max():
        return 0.0
    deviation = known.std()
    return histogram_entropy((known - known.mean()) / deviation) if deviation > 0 else 0.0
