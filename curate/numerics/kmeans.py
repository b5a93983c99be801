"""k-means on embeddings: training by faiss, assignment and silhouette in blocks.

Spherical: points and centroids have unit length, distance is cosine distance 1 − x·c (Dhillon and Modha
2001). Otherwise: Euclidean. Never holds rows × k at once.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BLOCK_ELEMENTS = 1 << 22
_CACHED_ELEMENTS = 1 << 16
"""512 KiB of float64, so that passes over them stay in a core's cache."""


def unit_rows(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1, float32 [rows, d]; a zero row stays zero."""
    scaled = np.empty(points.shape, dtype=np.float32)
    for part in _blocks(len(points), points.shape[1], _CACHED_ELEMENTS):
        norms = np.linalg.norm(points[part].astype(np.float64), axis=1, keepdims=True)
        scaled[part] = points[part] / np.where(norms > 0, norms, 1)
    return scaled


def train(
    points: NDArray[np.float32], k: int, iterations: int, redo: int, spherical: bool, seed: int
) -> NDArray[np.float32]:
    """k centroids, float32 [k, d], by Lloyd's iterations from random rows; the best of `redo` starts.

    points: float32 [rows ≥ k, d], of unit length if spherical. Runs on one thread: with more, faiss adds
    up in another order and the centroids depend on the number of cores. 2·rows·k·d flops an iteration.
    """
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        found = faiss.Kmeans(
            points.shape[1],
            k,
            niter=iterations,
            nredo=redo,
            spherical=spherical,
            seed=seed % 2**31,
            min_points_per_centroid=1,
            max_points_per_centroid=len(points),
        )
        found.train(np.ascontiguousarray(points, dtype=np.float32))
    finally:
        faiss.omp_set_num_threads(threads)
    return np.asarray(found.centroids, dtype=np.float32).reshape(k, points.shape[1])


def assign(
    points: NDArray[np.float32], centroids: NDArray[np.float32], spherical: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest centroid of each row, int32 [rows], and the distance to it, float32 [rows].

    Ties go to the lowest centroid; products that differ by less than 1e-6 of ‖x‖·max‖c‖ are a tie, since
    matrix products round differently from one block or number of threads to another. Spherical: cosine
    distance in [0, 2], points need not have unit length; otherwise Euclidean distance.
    """
    labels = np.empty(len(points), dtype=np.int32)
    distance = np.empty(len(points), dtype=np.float32)
    half_norms = 0.0 if spherical else 0.5 * np.einsum("kd,kd->k", centroids, centroids)
    longest = np.linalg.norm(centroids, axis=1).max()
    for part in _blocks(len(points), len(centroids)):
        block = unit_rows(points[part]) if spherical else points[part]
        nearness = block @ centroids.T - half_norms
        least = nearness.max(axis=1) - 1e-6 * longest * np.linalg.norm(block, axis=1)
        labels[part] = nearest = (nearness >= least[:, None]).argmax(axis=1)
        own = centroids[nearest].astype(np.float64)
        if spherical:
            distance[part] = np.clip(1 - np.einsum("nd,nd->n", block, own), 0, 2)
        else:
            distance[part] = np.linalg.norm(block - own, axis=1)
    return labels, distance


def by_size(labels: NDArray[np.integer], k: int) -> NDArray[np.int64]:
    """The labels that occur, largest cluster first, ties by the first row: int64 [clusters that occur]."""
    sizes = np.bincount(labels, minlength=k)
    first = np.full(k, len(labels), dtype=np.int64)
    np.minimum.at(first, labels, np.arange(len(labels)))
    order = np.lexsort((first, -sizes))
    return order[sizes[order] > 0]


def silhouette(
    points: NDArray[np.float32],
    labels: NDArray[np.integer],
    spherical: bool,
    rows: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """Silhouette (b − a) / max(a, b) of the given rows (all by default), float64 [rows], in [−1, 1].

    a: mean distance to the other rows of the own cluster; b: the least mean distance to those of another;
    0 for a row alone in its cluster, and where a = b = 0 (Rousseeuw 1987; as sklearn.metrics).
    Distances are to *all* rows of a cluster: cosine (spherical) or squared Euclidean, whose mean over a
    cluster follows from its sums, Σ_y ‖x − y‖² = n‖x‖² − 2x·Σy + Σ‖y‖². Hence exact in O(rows·k·d), where
    pairs would cost O(rows·n·d). Raises ValueError for fewer than two clusters.
    """
    names, own = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"a silhouette needs at least two clusters. Got {len(names)}.")
    counts = np.bincount(own).astype(np.float64)
    sums, squares = _cluster_sums(points, own, len(names), spherical)
    asked = np.arange(len(points)) if rows is None else np.asarray(rows)
    result = np.empty(len(asked))
    for part in _blocks(len(asked), len(names)):
        block = _prepared(points[asked[part]], spherical)
        label = own[asked[part]]
        here = np.arange(len(block))
        norms = np.einsum("nd,nd->n", block, block)
        products = block @ sums.T
        if spherical:
            total = counts - products
            total[here, label] += norms - 1
        else:
            total = counts * norms[:, None] - 2 * products + squares
        means = np.maximum(total, 0) / counts
        within = means[here, label] * counts[label] / np.maximum(counts[label] - 1, 1)
        means[here, label] = np.inf
        between = means.min(axis=1)
        largest = np.maximum(within, between)
        defined = (counts[label] > 1) & (largest > 0)
        result[part] = np.where(defined, (between - within) / np.where(defined, largest, 1), 0)
    return result


def _cluster_sums(
    points: NDArray[np.float32], own: NDArray[np.integer], k: int, spherical: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Σ x, float64 [k, d], and Σ ‖x‖², float64 [k], of each cluster."""
    sums, squares = np.zeros((k, points.shape[1])), np.zeros(k)
    for part in _blocks(len(points), points.shape[1]):
        block = _prepared(points[part], spherical)
        order = np.argsort(own[part], kind="stable")
        names, starts = np.unique(own[part][order], return_index=True)
        sums[names] += np.add.reduceat(block[order], starts, axis=0)
        squares += np.bincount(own[part], weights=np.einsum("nd,nd->n", block, block), minlength=k)
    return sums, squares


def _prepared(points: NDArray[np.float32], spherical: bool) -> NDArray[np.float64]:
    return (unit_rows(points) if spherical else points).astype(np.float64)


def _blocks(rows: int, width: int, elements: int = _BLOCK_ELEMENTS) -> Iterator[slice]:
    step = max(1, elements // max(1, width))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
