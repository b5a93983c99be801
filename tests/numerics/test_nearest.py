"""Nearest rows that are left: equal to a search of all of them, whatever the lengths of the lists."""

import numpy as np
import pytest
from candidates import unit
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.numerics.nearest import NearestLeft, cosines

CIRCLE = unit(np.array([[1, 0], [1, 0.1], [1, 0.5], [0, 1], [-1, 0]]))


def plain(vectors: np.ndarray, query: np.ndarray, left: set[int]) -> int:
    """The nearest of the rows that are left, the earlier of equal ones."""
    exact = np.round(vectors.astype(np.float64) @ query.astype(np.float64), 12)
    return min(left, key=lambda row: (-exact[row], row))


def test_cosines_pair_by_pair_and_with_one() -> None:
    np.testing.assert_allclose(cosines(CIRCLE, np.array([0, 3]), CIRCLE[[0, 4]]), [1, 0], atol=1e-7)
    np.testing.assert_allclose(cosines(CIRCLE, np.array([0, 3, 4]), CIRCLE[0]), [1, 0, -1], atol=1e-7)


def test_rows_in_the_order_of_their_cosine() -> None:
    left = NearestLeft(CIRCLE, CIRCLE[:1], expected=5, depth=2)
    found = []
    while (nearest := left.nearest(0)) is not None:
        found.append(nearest[0])
        left.take(nearest[0])
    assert found == [0, 1, 2, 3, 4]


def test_asking_again_takes_nothing() -> None:
    left = NearestLeft(CIRCLE, CIRCLE[:1], expected=5)
    assert left.nearest(0) == left.nearest(0) == (0, pytest.approx(1, abs=1e-6))


def test_a_row_that_is_put_back_is_found_again() -> None:
    left = NearestLeft(CIRCLE, CIRCLE[:1], expected=5, depth=1)
    for row in (0, 1):
        left.take(row)
    assert left.nearest(0)[0] == 2
    left.put_back([1])
    assert left.nearest(0)[0] == 1


def test_equal_rows_come_in_their_order() -> None:
    """More of them than a list holds."""
    left = NearestLeft(np.repeat(CIRCLE[:1], 40, axis=0), CIRCLE[:1], expected=1, depth=3)
    found = []
    for _ in range(40):
        row, _ = left.nearest(0)
        found.append(row)
        left.take(row)
    assert found == list(range(40))


def test_lists_are_searched_again_only_when_they_are_gone() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(400, 8)))
    left = NearestLeft(vectors, vectors[:4], expected=40)
    for turn in range(40):
        left.take(left.nearest(turn % 4)[0])
    assert left.searches == 4


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 60),
    queries=st.integers(1, 6),
    depth=st.integers(1, 20),
    coarse=st.booleans(),
)
def test_equals_a_search_of_all_rows(seed: int, rows: int, queries: int, depth: int, coarse: bool) -> None:
    """coarse: vectors of few values, so that many cosines are equal; some rows are put back."""
    rng = np.random.default_rng(seed)
    draw = (
        (lambda *shape: rng.integers(-1, 2, shape) + 0.01)
        if coarse
        else lambda *shape: rng.normal(size=shape)
    )
    vectors, asked = unit(draw(rows, 4)), unit(draw(queries, 4))
    found, left = NearestLeft(vectors, asked, expected=rows, depth=depth), set(range(rows))
    for _ in range(2 * rows):
        query = int(rng.integers(queries))
        if not left or rng.random() < 0.1:
            gone = sorted(set(range(rows)) - left)[:3]
            found.put_back(gone)
            left |= set(gone)
        nearest = found.nearest(query)
        assert nearest is not None
        assert nearest[0] == plain(vectors, asked[query], left)
        found.take(nearest[0])
        left.remove(nearest[0])
