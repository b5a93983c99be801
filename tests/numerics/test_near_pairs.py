"""Near pairs against all cosines in float64."""

import numpy as np
import pytest

from curate.numerics import near_pairs as module
from curate.numerics.near_pairs import near_pairs


def unit(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 64, 1 << 24])
def test_pairs_are_those_of_all_cosines(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", block)
    vectors, others = unit(50, 0), unit(9, 1)
    first, second, cosine = near_pairs(vectors, others, 0.5, 100)
    every = vectors.astype(np.float64) @ others.astype(np.float64).T
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == set(
        zip(*(axis.tolist() for axis in np.nonzero(every >= 0.5)), strict=True)
    )
    assert np.allclose(cosine, every[first, second])


def test_only_the_nearest_are_kept_in_order_and_ties_go_to_the_earlier() -> None:
    others = np.array([[0.6, 0.8], [1, 0], [1, 0]], dtype=np.float32)
    first, second, cosine = near_pairs(np.array([[1, 0]], dtype=np.float32), others, 0.1, 2)
    assert (first.tolist(), second.tolist(), cosine.tolist()) == ([0, 0], [1, 2], [1.0, 1.0])


def test_zeros_are_near_to_nothing() -> None:
    zeros = np.zeros((2, 3), dtype=np.float32)
    assert len(near_pairs(zeros, zeros, 0.01, 5)[0]) == 0


@pytest.mark.parametrize(("rows", "others"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_compare(rows: int, others: int) -> None:
    first, second, cosine = near_pairs(unit(rows, 0), unit(others, 1), 0.5, 5)
    assert len(first) == len(second) == len(cosine) == 0
