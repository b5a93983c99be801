"""Redundancy: the largest cosine to an earlier row."""

import numpy as np
import pytest

from curate.numerics import redundancy as module
from curate.numerics.kmeans import unit_rows
from curate.numerics.redundancy import redundancy


def vectors(rows: int, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32))


def test_an_exact_duplicate_has_one_and_its_first_copy_has_not() -> None:
    points = vectors(5)
    points[3] = points[1]
    nearest, to = redundancy(points)
    assert nearest[3] == 1.0
    assert to[3] == 1
    assert (nearest[[0, 1, 2, 4]] < 1).all()


def test_the_first_row_is_redundant_to_none() -> None:
    nearest, to = redundancy(vectors(3))
    assert (nearest[0], to[0]) == (-1.0, -1)


def test_negative_cosines_are_kept() -> None:
    points = np.array([[1, 0], [-0.6, 0.8]], dtype=np.float32)
    assert redundancy(points)[0].tolist() == [-1.0, -0.6]


@pytest.mark.parametrize("tile", [1, 3, 4, 50])
def test_tiles_give_the_maximum_over_all_earlier_rows(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE_ROWS", tile)
    points = vectors(11)
    points[7] = points[2]
    points[9] = points[2]
    cosines = np.where(np.tri(11, k=-1) > 0, points.astype(float) @ points.T.astype(float), -np.inf)
    nearest, to = redundancy(points)
    np.testing.assert_allclose(nearest[1:], cosines.max(axis=1)[1:], atol=1e-6)
    assert to[1:].tolist() == np.round(cosines, 6).argmax(axis=1)[1:].tolist()
