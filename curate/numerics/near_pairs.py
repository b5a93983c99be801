"""Near pairs: rows whose cosine with rows of a small set reaches a threshold.

Candidates come from float32 products, block by block; they are judged by their cosines in float64, rounded to 12
decimals, so that the answer depends on neither blocks nor threads. O(rows · others · d) time.
"""

import numpy as np
from numpy.typing import NDArray

from curate.numerics.nearest import BLOCK_ELEMENTS, cosines, rounding


def near_pairs(
    vectors: NDArray[np.float32], others: NDArray[np.float32], least: float, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs with a cosine of at least `least`, above 0; of each row the `most` nearest, ties to the earlier.

    vectors: [n, d]; others: [m, d]; unit length, or zero, which is near to nothing. Returns the row, the other one,
    both int64 [pairs], and the cosine, float64 [pairs]; ascending by row, then from near to far.
    """
    off = rounding(vectors.shape[1])
    step = max(1, BLOCK_ELEMENTS // max(1, len(others)))
    found = []
    for start in range(0, len(vectors), step):
        rows, columns = np.nonzero(vectors[start : start + step] @ others.T >= least - off)
        rows = rows + start
        exact = np.minimum(cosines(vectors, rows, others[columns]), 1.0)  # lengths are 1 to float32 precision
        order = np.lexsort((columns, -exact, rows))
        order = order[exact[order] >= least]
        rows, columns, exact = rows[order], columns[order], exact[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < most
        found.append((rows[kept], columns[kept], exact[kept]))
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    first, second, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, cosine
