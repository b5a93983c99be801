"""Cluster: group the living rows by their embeddings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.clusterer import Clusterer
from curate.reader import Reader
from curate.stage import Artifacts, PoolResult, PoolStage


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

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Cluster float32 [rows, d]; a row without an embedding has no cluster."""
        column = pool.frame(["embedding"])["embedding"]
        known = column.is_not_null().to_numpy()
        embeddings = np.ascontiguousarray(column.drop_nulls().to_numpy(), dtype=np.float32)
        found = self.method.cluster(embeddings, self.seed)
        places = pl.Series("row", np.flatnonzero(known), dtype=pl.Int64)
        labels = pl.DataFrame(
            [places, pl.Series("cluster", found.labels), pl.Series("cluster_distance", found.distance)]
        )
        rows = pl.DataFrame({"row": pl.int_range(len(pool), eager=True, dtype=pl.Int64)})
        frame = rows.join(labels, on="row", how="left", maintain_order="left").drop("row")
        return PoolResult(frame, {"clusters": len(found.centroids), **found.diagnostics})
