"""Leverage scores: the diagonal of the hat matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.numerics.leverage import leverage_scores


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 40), width=st.integers(1, 12), rank=st.integers(1, 12))
def test_the_hat_matrix(seed: int, rows: int, width: int, rank: int) -> None:
    """x_i (XᵀX)⁺ x_iᵀ, of a matrix of any rank; their sum is the rank."""
    rng = np.random.default_rng(seed)
    matrix = (rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, width))).astype(np.float32)
    exact = matrix.astype(np.float64)
    expected = np.einsum("nd,dn->n", exact, np.linalg.pinv(exact, rcond=width * 2.0**-23))
    found, kept = leverage_scores(matrix)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert found.sum() == pytest.approx(kept, abs=1e-6)
    assert kept <= min(rows, width, rank)


def test_a_lone_direction_has_leverage_one() -> None:
    found, rank = leverage_scores(np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32))
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, 1 / 3, 1])
    assert rank == 2


def test_rank_one_sees_the_largest_direction_alone() -> None:
    found, rank = leverage_scores(np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32), rank=1)
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-12)
    assert rank == 1


def test_rank_k_of_the_singular_vectors() -> None:
    matrix = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    left = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)[0][:, :3]
    np.testing.assert_allclose(leverage_scores(matrix, rank=3)[0], (left**2).sum(axis=1), atol=1e-9)


def test_zero_vectors_have_none() -> None:
    found, rank = leverage_scores(np.zeros((3, 2), dtype=np.float32))
    assert (found.tolist(), rank) == ([0, 0, 0], 0)
