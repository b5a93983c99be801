"""Diversity of a set of vectors."""

import numpy as np
from numpy.typing import NDArray

_BLOCK_ELEMENTS = 1 << 24


def nearest_other(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine of each row to the nearest other one, float32 [rows].

    vectors: float32 [rows >= 2, d], of unit length. O(rows² d), in blocks of 64 MiB. Raises ValueError for one row.
    """
    rows = len(vectors)
    if rows < 2:
        raise ValueError(f"the nearest other row needs at least two rows. Got {rows}.")
    found = np.empty(rows, dtype=np.float32)
    step = max(1, _BLOCK_ELEMENTS // rows)
    for start in range(0, rows, step):
        products = vectors[start : start + step] @ vectors.T
        here = np.arange(len(products))
        products[here, start + here] = -np.inf
        found[start : start + step] = products.max(axis=1)
    return found
