"""Leverage scores: how much each row alone holds up the span of all of them.

ℓ_i = ‖U_i‖² = x_i (XᵀX)⁺ x_iᵀ, with X = UΣVᵀ; in [0, 1], and their sum is the rank. With rank k: the same of the best
rank-k approximation of X, from the k largest singular values.
By the eigenvectors of XᵀX, float64, in blocks: O(n d²) and d² numbers beside a block, where an SVD would hold n × d.
"""

import numpy as np
from numpy.typing import NDArray

_BLOCK_ELEMENTS = 1 << 22


def leverage_scores(vectors: NDArray[np.float32], rank: int | None = None) -> tuple[NDArray[np.float64], int]:
    """ℓ, float64 [rows], rounded to 9 decimals (equal ones stay equal), and the rank that it is of.

    vectors: [rows, d]. rank: k; None for all. Singular values below d · 2⁻²³ of the largest (the precision of float32)
    count as zero, so that the rank can be below the one asked for.
    """
    width = vectors.shape[1]
    step = max(1, _BLOCK_ELEMENTS // max(1, width))
    gram = np.zeros((width, width))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        gram += block.T @ block
    values, bases = np.linalg.eigh(gram)
    values, bases = values[::-1], bases[:, ::-1]
    largest = values[0] if width else 0.0
    found = int((values > largest * (width * 2.0**-23) ** 2).sum()) if largest > 0 else 0
    kept = found if rank is None else min(found, rank)
    scaled = bases[:, :kept] / np.sqrt(values[:kept])
    scores = np.empty(len(vectors))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64) @ scaled
        scores[start : start + step] = np.einsum("nk,nk->n", block, block)
    return np.round(scores, 9), kept
