"""Exact Jaccard similarity |A ∩ B| / |A ∪ B| of many pairs of sets at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK_MEMBERS = 1 << 22


@dataclass(frozen=True)
class Sets:
    """members: uint32 [all], ascending and unique within a set; offsets: int64 [sets + 1]."""

    members: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of members of each set, int64 [sets]."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, values: NDArray[np.uint64], offsets: NDArray[np.int64]) -> "Sets":
        """Sets of 64-bit values, the i-th being values[offsets[i]:offsets[i + 1]], repeats allowed.

        Values are replaced by their ranks among all values: half the memory, and nothing collides.
        O(n log n) for n values.
        """
        ranks = np.unique(values, return_inverse=True)[1].astype(np.uint64)
        rows = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint64), np.diff(offsets))
        keys = np.sort((rows << np.uint64(32)) | ranks)
        keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
        starts = np.arange(len(offsets), dtype=np.uint64) << np.uint64(32)
        return cls((keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), np.searchsorted(keys, starts))


def jaccard(sets: Sets, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.float64]:
    """Similarity of set left[i] and set right[i], float64 [pairs] in [0, 1]; NaN where both are empty.

    left, right: int [pairs]. O(m log m) for m members of the pairs of a block; memory 16 bytes times
    4 million members, or the largest pair.
    """
    sizes = sets.sizes
    pair_sizes = sizes[left] + sizes[right]
    common = np.zeros(len(left), dtype=np.int64)
    ends = np.cumsum(pair_sizes)
    first = 0
    while first < len(left):
        held = ends[first - 1] if first else 0
        after = max(first + 1, int(np.searchsorted(ends, held + _BLOCK_MEMBERS, side="right")))
        common[first:after] = _intersections(sets, left[first:after], right[first:after])
        first = after
    with np.errstate(invalid="ignore"):
        return np.asarray(common / (pair_sizes - common))


def _intersections(sets: Sets, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.int64]:
    chosen = np.concatenate([left, right])
    sizes = sets.sizes[chosen]
    before = np.cumsum(sizes) - sizes
    places = np.arange(sizes.sum()) + np.repeat(sets.offsets[chosen] - before, sizes)
    pairs = np.tile(np.arange(len(left), dtype=np.uint64), 2)
    keys = np.sort((np.repeat(pairs, sizes) << np.uint64(32)) | sets.members[places])
    twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
    return np.bincount(twice.astype(np.int64), minlength=len(left))
