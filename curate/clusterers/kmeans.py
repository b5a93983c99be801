"""k-means: clusters of rows around centroids, by faiss.

minimise Σ_i dist(x_i, c_{label(i)}), Lloyd's iterations from random rows, the best of `redo` starts.
Spherical (default): on unit vectors with cosine distance; otherwise squared Euclidean.

k = auto: the k with the largest mean silhouette among powers of two from 64 to 4096 whose clusters hold
`min_cluster_rows` rows on average; in a pool too small for two such k, powers of two from 2. The mean is
over `silhouette_rows` random rows, each against all rows; ties within 1e-6 go to the smaller k.

Labels do not depend on faiss' numbering: clusters are numbered by size, the largest first, ties by their
first row; a cluster that no row is nearest to is left out, so fewer than k may remain.

Cost: 2·min(n, k·max_points_per_centroid)·k·d flops an iteration on one core (see `numerics.kmeans`), and
one assignment of all rows on all cores. 84,636 rows of 256 numbers: 13 s of processor time for k = 1024
(0.34 GB peak memory), 53 s for auto, which tries 64 to 2048 (0.5 GB).
Source: Diversify and Conquer (Yu et al. 2024) for kMQ and the choice of k; faiss (Johnson et al. 2017).
Deviations: 25 iterations and one start where the paper has 300 and 5; set them to reproduce.
"""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.clusterer import Clusterer, Clusters
from curate.errors import DataError
from curate.numerics.kmeans import assign, by_size, silhouette, train, unit_rows
from curate.numerics.seeds import derive

_LEAST_K, _MOST_K = 64, 4096


class KMeans(Clusterer):
    """Spherical or Euclidean k-means with a given or a found number of clusters."""

    k: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(default="auto", description="clusters, or auto")
    spherical: bool = Field(default=True, description="cosine distance on unit vectors; else Euclidean")
    iterations: int = Field(default=25, ge=1, description="Lloyd's iterations (300 in the paper)")
    redo: int = Field(
        default=1, ge=1, description="random starts, of which the best is kept (5 in the paper)"
    )
    max_points_per_centroid: int = Field(
        default=256, ge=1, description="trains on at most k times this many random rows"
    )
    silhouette_rows: int = Field(default=10_000, ge=2, description="auto: rows whose silhouette is taken")
    min_cluster_rows: int = Field(
        default=32, ge=2, description="auto: least mean number of rows in a cluster"
    )

    def cluster(self, embeddings: NDArray[np.float32], seed: int) -> Clusters:
        """Cluster float32 [rows, d] embeddings.

        Deterministic for a seed, whatever the number of threads. Raises DataError for fewer rows than
        clusters and for embeddings that are not finite.
        """
        rows = len(embeddings)
        if rows < (1 if self.k == "auto" else self.k):
            raise DataError(
                f"kmeans: k must be at most the number of rows. Got k = {self.k} and {rows} rows."
            )
        finite = np.isfinite(embeddings).all(axis=1)
        if not finite.all():
            raise DataError(
                f"kmeans: embeddings must be finite. {rows - finite.sum()} of {rows} rows are not, first "
                f"row {np.argmin(finite)} of the pool. Check the embedding model on it."
            )
        if self.k != "auto":
            return self._clusters(embeddings, self.k, seed)
        return self._best(embeddings, seed)

    def _best(self, embeddings: NDArray[np.float32], seed: int) -> Clusters:
        """The clusters of the candidate k with the largest mean silhouette."""
        first, *others = candidate_k(len(embeddings), self.min_cluster_rows)
        best = self._clusters(embeddings, first, seed)
        best_value = self._mean_silhouette(embeddings, best, seed)
        tried = {str(first): best_value}
        for k in others:
            clusters = self._clusters(embeddings, k, seed)
            value = tried[str(k)] = self._mean_silhouette(embeddings, clusters, seed)
            if value is not None and (best_value is None or value > best_value):
                best, best_value = clusters, value
        return replace(best, diagnostics={**best.diagnostics, "silhouette": tried})

    def _mean_silhouette(
        self, embeddings: NDArray[np.float32], clusters: Clusters, seed: int
    ) -> float | None:
        """Rounded to 1e-6, so that ties are ties; None for a single cluster, where it is not defined."""
        if len(clusters.centroids) < 2:
            return None
        sample = _sample(len(embeddings), self.silhouette_rows, derive(seed, "kmeans", "silhouette"))
        return round(float(silhouette(embeddings, clusters.labels, self.spherical, sample).mean()), 6)

    def _clusters(self, embeddings: NDArray[np.float32], k: int, seed: int) -> Clusters:
        own_seed = derive(seed, "kmeans", str(k))
        chosen = _sample(len(embeddings), k * self.max_points_per_centroid, own_seed)
        points = unit_rows(embeddings[chosen]) if self.spherical else embeddings[chosen]
        centroids = train(points, k, self.iterations, self.redo, self.spherical, own_seed)
        labels, distance = assign(embeddings, centroids, self.spherical)
        order = by_size(labels, k)
        number = np.full(k, -1, dtype=np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        return Clusters(number[labels], distance, centroids[order], {"k": k, "empty": k - len(order)})


def candidate_k(rows: int, min_cluster_rows: int) -> list[int]:
    """The numbers of clusters that `k: auto` tries, ascending; never empty for rows ≥ 1."""
    most = min(_MOST_K, rows // min_cluster_rows)
    least = _LEAST_K if most >= 2 * _LEAST_K else 2
    powers = [2**exponent for exponent in range(1, 13) if least <= 2**exponent <= most]
    return powers or [min(2, rows)]


def _sample(rows: int, size: int, seed: int) -> NDArray[np.int64]:
    """`size` rows without replacement, ascending; all where there are no more."""
    if size >= rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
