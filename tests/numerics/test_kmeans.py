import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import silhouette_samples

from curate.numerics import kmeans as module
from curate.numerics.kmeans import assign, by_size, silhouette, train, unit_rows


def points(rows: int = 60, d: int = 5, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, d)).astype(np.float32)


@given(seed=st.integers(0, 50), k=st.integers(2, 12))
def test_spherical_silhouette_is_that_of_cosine_distance(seed: int, k: int) -> None:
    x, labels = points(seed=seed), np.random.default_rng(seed).integers(0, k, 60)
    expected = silhouette_samples(x.astype(np.float64), labels, metric="cosine")
    assert np.allclose(silhouette(x, labels, spherical=True), expected, atol=1e-6)


@given(seed=st.integers(0, 50), k=st.integers(2, 12))
def test_silhouette_is_that_of_squared_euclidean_distance(seed: int, k: int) -> None:
    x, labels = points(seed=seed), np.random.default_rng(seed).integers(0, k, 60)
    expected = silhouette_samples(x.astype(np.float64), labels, metric="sqeuclidean")
    assert np.allclose(silhouette(x, labels, spherical=False), expected, atol=1e-9)


def test_a_zero_row_is_at_cosine_distance_one_from_all_others() -> None:
    x = points()
    x[[4, 9]] = 0
    labels = np.arange(60) % 4
    expected = silhouette_samples(x.astype(np.float64), labels, metric="cosine")
    assert np.allclose(silhouette(x, labels, spherical=True), expected, atol=1e-6)


def test_silhouette_of_a_sample_is_against_all_rows() -> None:
    x, labels, rows = points(), np.arange(60) % 4, np.array([3, 50, 7])
    assert np.array_equal(silhouette(x, labels, True, rows), silhouette(x, labels, True)[rows])


def test_silhouette_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = points(), np.arange(60) % 4
    whole = silhouette(x, labels, spherical=True)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 20)
    assert np.allclose(whole, silhouette(x, labels, spherical=True), atol=1e-12)


def test_a_row_alone_in_its_cluster_has_silhouette_zero() -> None:
    assert silhouette(points(5), np.array([0, 1, 1, 1, 1]), spherical=True)[0] == 0


def test_equal_rows_in_two_clusters_have_silhouette_zero() -> None:
    assert silhouette(np.ones((4, 3), dtype=np.float32), np.array([0, 0, 1, 1]), False).tolist() == [0] * 4


def test_one_cluster_has_no_silhouette() -> None:
    with pytest.raises(ValueError, match="at least two clusters. Got 1"):
        silhouette(points(4), np.zeros(4, dtype=np.int32), spherical=True)


@pytest.mark.parametrize("spherical", [True, False])
def test_assignment_equals_the_nearest_by_brute_force(spherical: bool) -> None:
    x, centroids = points(), unit_rows(points(7, seed=1))
    labels, distance = assign(x, centroids, spherical)
    if spherical:
        exact = 1 - unit_rows(x).astype(np.float64) @ centroids.T.astype(np.float64)
    else:
        exact = np.linalg.norm(x[:, None].astype(np.float64) - centroids[None], axis=2)
    assert np.array_equal(labels, exact.argmin(axis=1))
    assert np.allclose(distance, exact.min(axis=1), atol=1e-6)


def test_ties_go_to_the_lowest_centroid() -> None:
    centroids = unit_rows(points(3))[[2, 0, 0, 1]]
    assert 2 not in assign(points(), centroids, spherical=True)[0]


def test_products_that_differ_by_rounding_are_a_tie() -> None:
    centroids = np.array([[1, 0], [1 + 2e-7, 0]], dtype=np.float32)
    assert assign(np.ones((1, 2), dtype=np.float32), centroids, spherical=True)[0].tolist() == [0]


def test_assignment_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centroids = points(), points(7, seed=1)
    whole = assign(x, centroids, spherical=False)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 20)
    assert np.array_equal(whole[0], assign(x, centroids, spherical=False)[0])


def test_a_zero_row_stays_zero() -> None:
    found = unit_rows(np.array([[0, 0], [3, 4]], dtype=np.float32))
    assert np.array_equal(found, np.array([[0, 0], [0.6, 0.8]], dtype=np.float32))


def test_clusters_are_ordered_by_size_then_by_first_row() -> None:
    assert by_size(np.array([5, 2, 2, 0, 5, 3]), 6).tolist() == [5, 2, 0, 3]


def test_training_finds_separated_groups() -> None:
    centres = unit_rows(np.eye(4, dtype=np.float32))
    x = unit_rows(np.repeat(centres, 30, axis=0) + 0.05 * points(120, 4))
    found = train(x, 4, iterations=10, redo=3, spherical=True, seed=0)
    assert np.allclose(np.sort((found @ centres.T).max(axis=1)), 1, atol=0.01)


def test_training_restores_the_number_of_threads() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        train(points(), 4, iterations=2, redo=1, spherical=False, seed=0)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
