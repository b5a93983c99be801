import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.clusterers.kmeans import KMeans, candidate_k
from curate.errors import DataError
from curate.numerics.kmeans import assign


def blobs(groups: int, sizes: int | list[int], seed: int = 0, noise: float = 0.05) -> NDArray[np.float32]:
    """Rows around `groups` orthogonal directions, shuffled."""
    random = np.random.default_rng(seed)
    count = [sizes] * groups if isinstance(sizes, int) else sizes
    rows = np.repeat(np.eye(groups), count, axis=0)
    rows = rows + noise * random.normal(size=rows.shape)
    return (random.permutation(rows) * random.uniform(0.5, 2, (len(rows), 1))).astype(np.float32)


def test_separated_groups_are_found() -> None:
    x = blobs(4, [40, 30, 20, 10])
    found = KMeans(k=4, redo=5).cluster(x, seed=0)
    assert np.bincount(found.labels).tolist() == [40, 30, 20, 10]
    truth = x.argmax(axis=1)
    assert len({(a, b) for a, b in zip(found.labels.tolist(), truth.tolist(), strict=True)}) == 4


def test_auto_finds_the_number_of_separated_groups() -> None:
    found = KMeans(k="auto", redo=5, min_cluster_rows=10).cluster(blobs(8, 40), seed=0)
    assert len(found.centroids) == 8
    silhouettes = found.diagnostics["silhouette"]
    assert isinstance(silhouettes, dict) and max(silhouettes, key=silhouettes.__getitem__) == "8"


@pytest.mark.parametrize("spherical", [True, False])
def test_labels_are_the_nearest_centroids(spherical: bool) -> None:
    x = blobs(6, 30, noise=0.5)
    found = KMeans(k=10, spherical=spherical).cluster(x, seed=1)
    labels, distance = assign(x, found.centroids, spherical)
    assert np.array_equal(labels, found.labels)
    assert np.array_equal(distance, found.distance)


def test_types_and_shapes() -> None:
    found = KMeans(k=3).cluster(blobs(3, 10), seed=0)
    assert (found.labels.dtype, found.distance.dtype, found.centroids.dtype) == (
        np.int32,
        np.float32,
        np.float32,
    )
    assert (found.labels.shape, found.distance.shape, found.centroids.shape) == ((30,), (30,), (3, 3))


def test_clusters_are_numbered_by_size_then_first_row() -> None:
    labels = KMeans(k=12).cluster(blobs(6, 30, noise=0.5), seed=3).labels
    sizes = np.bincount(labels)
    first = [int(np.argmax(labels == name)) for name in range(len(sizes))]
    keys = [(-int(size), row) for size, row in zip(sizes, first, strict=True)]
    assert keys == sorted(keys)


def test_the_same_seed_gives_the_same_clusters() -> None:
    x = blobs(6, 30, noise=0.5)
    one, two = KMeans(k=8).cluster(x, seed=5), KMeans(k=8).cluster(x, seed=5)
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.centroids, two.centroids)


def test_another_seed_gives_other_clusters() -> None:
    x = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    assert not np.array_equal(KMeans(k=16).cluster(x, 0).labels, KMeans(k=16).cluster(x, 1).labels)


def test_the_number_of_threads_makes_no_difference() -> None:
    """Equal rows are what makes faiss' sums depend on the number of threads: ties break differently."""
    import faiss

    random = np.random.default_rng(0)
    x = random.normal(size=(750, 64)).astype(np.float32)[random.integers(0, 750, 3001)]
    before = faiss.omp_get_max_threads()
    try:
        found = []
        for threads in (1, 4):
            faiss.omp_set_num_threads(threads)
            found.append(KMeans(k=250, iterations=8).cluster(x, seed=0).centroids)
    finally:
        faiss.omp_set_num_threads(before)
    assert np.array_equal(*found)


def test_the_input_is_left_alone() -> None:
    x = blobs(3, 10)
    before = x.copy()
    KMeans(k=3).cluster(x, seed=0)
    assert np.array_equal(x, before)


def test_length_makes_no_difference_if_spherical() -> None:
    x = blobs(4, 20, noise=0.3)
    doubled = x * np.where(np.arange(len(x)) % 2, 2, 1)[:, None].astype(np.float32)
    assert np.array_equal(KMeans(k=4).cluster(x, 0).labels, KMeans(k=4).cluster(doubled, 0).labels)


def test_clusters_that_no_row_is_nearest_to_are_left_out() -> None:
    x = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    found = KMeans(k=5).cluster(x, seed=0)
    assert sorted(set(found.labels.tolist())) == [0, 1]
    assert len(found.centroids) == 2
    assert found.diagnostics["empty"] == 3


def test_as_many_clusters_as_rows() -> None:
    found = KMeans(k=4).cluster(np.eye(4, dtype=np.float32), seed=0)
    assert found.labels.tolist() == [0, 1, 2, 3]


def test_one_row_and_auto() -> None:
    assert KMeans().cluster(np.ones((1, 4), dtype=np.float32), seed=0).labels.tolist() == [0]


def test_fewer_rows_than_clusters_is_an_error() -> None:
    with pytest.raises(DataError, match="Got k = 5 and 3 rows"):
        KMeans(k=5).cluster(np.ones((3, 4), dtype=np.float32), seed=0)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="0 rows"):
        KMeans().cluster(np.ones((0, 4), dtype=np.float32), seed=0)


def test_embeddings_that_are_not_finite_are_an_error() -> None:
    x = np.ones((5, 2), dtype=np.float32)
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="1 of 5 rows are not, first row 3"):
        KMeans(k=2).cluster(x, seed=0)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, [1]),
        (20, [2]),
        (64, [2]),
        (4095, [2, 4, 8, 16, 32, 64]),
        (4096, [64, 128]),
        (84_636, [64, 128, 256, 512, 1024, 2048]),
        (10_000_000, [64, 128, 256, 512, 1024, 2048, 4096]),
    ],
)
def test_the_numbers_of_clusters_that_auto_tries(rows: int, expected: list[int]) -> None:
    assert candidate_k(rows, 32) == expected


def test_pickles() -> None:
    assert pickle.loads(pickle.dumps(KMeans(k=7))) == KMeans(k=7)


@pytest.mark.parametrize("k", [0, -3, "many"])
def test_an_impossible_k_is_refused(k: object) -> None:
    with pytest.raises(ValueError, match="k"):
        KMeans.model_validate({"k": k})
