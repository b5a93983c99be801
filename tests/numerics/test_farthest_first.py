"""Farthest-first traversal: equal to the plain one, whatever is brought up to date together."""

import numpy as np
import pytest
from candidates import unit
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.numerics.farthest_first import FarthestFirst


def traversed(vectors: np.ndarray, first: int, together: int) -> tuple[list[int], list[float]]:
    traversal = FarthestFirst(vectors, together)
    traversal.choose(first)
    rows, distances = [], []
    while (found := traversal.farthest()) is not None:
        rows.append(found[0])
        distances.append(found[1])
        traversal.choose(found[0])
    return rows, distances


def plain(vectors: np.ndarray, first: int) -> tuple[list[int], list[float]]:
    exact = vectors.astype(np.float64)
    least = np.clip(np.round(1 - exact @ exact[first], 12), 0, 2)
    rows, distances, left = [], [], set(range(len(vectors))) - {first}
    while left:
        row = min(left, key=lambda each: (-least[each], each))
        rows.append(row)
        distances.append(float(least[row]))
        left.remove(row)
        least = np.minimum(least, np.clip(np.round(1 - exact @ exact[row], 12), 0, 2))
    return rows, distances


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(2, 60), together=st.integers(1, 70), coarse=st.booleans())
def test_equals_the_plain_traversal(seed: int, rows: int, together: int, coarse: bool) -> None:
    """coarse: vectors of few values, so that there are ties and duplicates."""
    rng = np.random.default_rng(seed)
    vectors = unit(rng.integers(-1, 2, (rows, 3)) + 0.01 if coarse else rng.normal(size=(rows, 3)))
    chosen, distances = traversed(vectors, 0, together)
    expected, values = plain(vectors, 0)
    assert chosen == expected
    np.testing.assert_allclose(distances, values, atol=1e-11)


def test_corners_of_a_square() -> None:
    """From (1, 0): the opposite corner at distance 2, then the others at 1."""
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    assert traversed(square, 0, 4) == ([2, 1, 3], [2, 1, 1])


def test_a_barred_row_is_passed_over_until_it_is_put_back() -> None:
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    traversal = FarthestFirst(square)
    traversal.choose(0)
    traversal.bar(2)
    assert traversal.farthest() == (1, 1)
    traversal.put_back([2])
    assert traversal.farthest() == (2, 2)


def test_most_rows_are_not_looked_at_for_each_choice() -> None:
    """Clusters that are far apart: rows near to a centre keep their small bounds."""
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(20, 16)))
    vectors = unit(centres[rng.integers(0, 20, 2000)] + rng.normal(size=(2000, 16)) * 0.01)
    traversal = FarthestFirst(vectors, together=50)
    traversal.choose(0)
    for _ in range(19):
        row, _ = traversal.farthest()
        traversal.choose(row)
    assert (traversal._known == traversal.chosen - 1).sum() < 500


def test_the_first_must_be_chosen() -> None:
    with pytest.raises(ValueError, match="Choose the first"):
        FarthestFirst(np.eye(2, dtype=np.float32)).farthest()
