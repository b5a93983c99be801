"""Cluster: group the living rows by their embeddings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.clusterer import Clusterer
from curate.reader import Reader
from curate.stage import PoolResult, PoolStage


@dataclass(frozen=True)
class Cluster(PoolStage):
    """Adds `cluster` and `cluster_distance`."""

    method: Clusterer
    seed: int

    @property
    def needs(self) -> frozenset[str]:
        """The embeddings."""
        return frozenset({"embedding"})

    @property
    def adds(self) -> frozenset[str]:
        """Label and distance to the own centroid."""
        return frozenset({"cluster", "cluster_distance"})

    def identity(self) -> dict[str, Any]:
        """The method and its seed."""
        return {**self.method.identity(), "seed": self.seed}

    def apply(self, pool: Reader) -> PoolResult:
        """Cluster float32 [rows, d]."""
        embeddings = pool.frame(["embedding"])["embedding"].to_numpy()
        found = self.method.cluster(np.ascontiguousarray(embeddings, dtype=np.float32), self.seed)
        frame = pl.DataFrame({"cluster": found.labels, "cluster_distance": found.distance})
        return PoolResult(frame, {"clusters": len(found.centroids), **found.diagnostics})
