"""Target similarity: how near a row's embedding is to the target's.

Formula: cosine of the row's sentence embedding with the target rows': with the mean of their unit vectors
    (`centroid`), or with the nearest of them (`nearest`).
Direction: high is better.
Cost: no model beside that of the `embed` stage; O(n m d) for n rows and m target rows, O(n d) for the centroid.
Source: the usual baseline of targeted selection; "Averaging over examples" as in What to Pre-Train on?, Poth et
    al., 2021 (arXiv 2104.08247).
Deviations: the embedding is of the row's text as the `embed` stage read it.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.pool import Pool
from curate.scorer import Numbers, PoolScorer


class TargetSimilarity(PoolScorer):
    """Cosine of the row's embedding to the target's."""

    reads_target = True
    higher_is_better = True

    compare: Literal["centroid", "nearest"] = Field(
        default="centroid", description="the mean of the target's vectors, or the nearest of them"
    )

    def needs(self) -> frozenset[str]:
        """The embeddings."""
        return frozenset({"embedding"})

    def score(self, pool: Pool, target: NDArray[np.float32] | None) -> Numbers:
        """Float64 [rows], in [-1, 1]; null for a row without an embedding."""
        assert target is not None
        vectors = pool.vectors("embedding")
        if self.compare == "centroid":
            centroid = target.mean(axis=0)
            return np.asarray(vectors @ (centroid / np.linalg.norm(centroid)), dtype=np.float64)
        parts = np.array_split(vectors, max(1, len(vectors) // 4096))
        return np.concatenate([(part @ target.T).max(axis=1) for part in parts], dtype=np.float64)
