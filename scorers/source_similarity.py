"""Source similarity: how near a whole source is to the target; every row of a source has the same score.

Formula: cosine of the mean of the source's sentence embeddings with the mean of the target rows'. With
    `by`, any other column takes the place of the source (`cluster`, `meta.task`).
Direction: high is better. `curate show RUN --health` lists as many distinct values as there are sources.
Cost: no model beside that of the `embed` stage; O(n d).
Source: Poth et al., What to Pre-Train on? Efficient Intermediate Task Selection, 2021 (arXiv 2104.08247):
    mean sentence embedding of a dataset, datasets ranked by cosine to the target's.
Deviations: the mean is over examples, not tokens; rows without an embedding do not count.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.pool import Pool
from curate.scorer import Numbers, PoolScorer


class SourceSimilarity(PoolScorer):
    """Cosine of the source's mean embedding to the target's."""

    reads_target = True
    higher_is_better = True

    by: str = Field(default="source", description="the column whose values are ranked")

    def needs(self) -> frozenset[str]:
        """The embeddings, and what groups them."""
        return frozenset({"embedding", self.by})

    def score(self, pool: Pool, target: NDArray[np.float32] | None) -> Numbers:
        """Float64 [rows], in [-1, 1]; null for a source without any embedding."""
        assert target is not None
        vectors, groups = pool.vectors("embedding"), pool.groups(self.by)
        known = ~np.isnan(vectors).any(axis=1)
        sums = np.zeros((len(groups.names), vectors.shape[1]))
        np.add.at(sums, groups.labels[known], vectors[known])
        lengths, centroid = np.linalg.norm(sums, axis=1), target.mean(axis=0, dtype=np.float64)
        cosines = np.full(len(sums), np.nan)
        np.divide(sums @ (centroid / np.linalg.norm(centroid)), lengths, out=cosines, where=lengths > 0)
        return cosines[groups.labels]
