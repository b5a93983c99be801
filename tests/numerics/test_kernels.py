"""Similarity kernels: symmetric, exact on their grid, sparse as the dense one where it holds something."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import DataError
from curate.numerics import kernels
from curate.numerics.kernels import DenseKernel, dense_kernel, nearest, sparse_kernel
from curate.numerics.kmeans import unit_rows

LIMIT = 2.0**30
GRID = 2.0**16


def points(rows: int, width: int = 6, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32))


def cosines(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return np.maximum(wide @ wide.T, 0)


def values(kernel: DenseKernel) -> np.ndarray:
    return kernel.values.numpy()


@pytest.mark.parametrize("rows", [1, 7, 1100])
def test_dense_holds_the_cosines_that_are_positive(rows: int) -> None:
    vectors = points(rows)
    np.testing.assert_allclose(values(dense_kernel(vectors, LIMIT)), cosines(vectors), atol=1e-5)


def test_dense_is_symmetric_to_the_last_bit() -> None:
    found = values(dense_kernel(points(1100, 31), LIMIT))
    assert np.array_equal(found, found.T)


def test_a_row_is_wholly_similar_to_itself() -> None:
    assert (dense_kernel(points(40, 31), LIMIT).diagonal() == 1).all()


def test_opposed_rows_are_unrelated() -> None:
    assert values(dense_kernel(np.array([[1, 0], [-1, 0]], dtype=np.float32), LIMIT)).tolist() == [
        [1, 0],
        [0, 1],
    ]


def test_similarities_are_whole_multiples_of_the_grid() -> None:
    scaled = values(dense_kernel(points(60, 31), LIMIT)).astype(np.float64) * GRID
    assert np.array_equal(scaled, np.round(scaled))


def test_a_row_without_direction_is_similar_to_nothing() -> None:
    vectors = points(4)
    vectors[2] = 0
    dense, sparse = dense_kernel(vectors, LIMIT), sparse_kernel(vectors, 3, LIMIT)
    assert not values(dense)[2].any() and not values(sparse.dense())[2].any()


def test_a_dense_kernel_above_the_limit_says_its_size_and_what_to_do() -> None:
    with pytest.raises(DataError, match=r"100 rows takes .* GiB.*`kernel: sparse`"):
        dense_kernel(points(100), 39_999)
    assert dense_kernel(points(100), 40_000).bytes == 40_000


def test_a_sparse_kernel_above_the_limit_says_what_to_do() -> None:
    with pytest.raises(DataError, match="fewer `neighbours`"):
        sparse_kernel(points(100), 10, 1000)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 40), neighbours=st.integers(1, 45), seed=st.integers(0, 1000))
def test_sparse_holds_what_either_row_counts_among_its_nearest(rows: int, neighbours: int, seed: int) -> None:
    vectors = points(rows, seed=seed)
    whole = values(dense_kernel(vectors, LIMIT))
    near = np.argsort(-cosines(vectors), axis=1, kind="stable")[:, : min(neighbours, rows)]
    held = np.eye(rows, dtype=np.bool_)
    np.put_along_axis(held, near, True, axis=1)
    found = values(sparse_kernel(vectors, neighbours, LIMIT).dense())
    # Two products of one pair may round to neighbouring points of the grid.
    np.testing.assert_allclose(found, np.where(held | held.T, whole, 0), rtol=0, atol=1 / GRID)
    assert np.array_equal(found, found.T)


def test_sparse_sums_and_diagonal_are_those_of_the_zeros_written_out() -> None:
    sparse = sparse_kernel(points(50), 5, LIMIT)
    whole = values(sparse.dense()).astype(np.float64)
    assert np.array_equal(sparse.sums(), whole.sum(1))
    assert np.array_equal(sparse.diagonal(), np.ones(50))
    places, similar = sparse.similar(7)
    assert np.array_equal(np.flatnonzero(whole[7]), places) and np.array_equal(whole[7][places], similar)


def test_a_row_among_many_copies_is_still_similar_to_itself() -> None:
    vectors = np.repeat(points(2), 20, axis=0)
    assert (sparse_kernel(vectors, 3, LIMIT).diagonal() == 1).all()


def test_the_two_searches_find_the_same() -> None:
    vectors = points(700, 16)
    by_faiss, products = nearest(vectors, 9)
    by_torch = np.concatenate([places for _, _, places in kernels._search_by_torch(vectors, 9, "cpu")])
    assert np.array_equal(by_faiss, by_torch)
    np.testing.assert_allclose(products[:, 0], 1, atol=1e-6)


def test_searched_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = points(100, 16)
    whole, _ = nearest(vectors, 9)
    monkeypatch.setattr(kernels, "SEARCH_ROWS", 7)
    assert np.array_equal(nearest(vectors, 9)[0], whole)


def test_sparse_takes_no_more_than_is_announced() -> None:
    sparse = sparse_kernel(points(400, 16), 20, LIMIT)
    assert sparse.bytes < kernels.sparse_bytes(400, 20)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_as_on_the_cpu() -> None:
    vectors = points(1100, 64)
    np.testing.assert_allclose(
        dense_kernel(vectors, LIMIT, "cuda").values.cpu().numpy(), cosines(vectors), atol=1e-5
    )
    here, there = (sparse_kernel(vectors, 12, LIMIT, device) for device in ("cpu", "cuda"))
    assert np.array_equal(here.columns, there.columns)
