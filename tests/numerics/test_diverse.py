"""A diverse prefix: equal to the plain loop, for blocks of any size."""

import numpy as np
from candidates import unit
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.numerics.diverse import DiverseRows

THREE = np.array([[1, 0], [0.95, 0.312], [0, 1]], dtype=np.float32)


def walked(vectors: np.ndarray, threshold: float, block: int, most: int) -> tuple[list[int], list[int]]:
    """The kept rows of all in order, at most so many, and what each dropped one is near to."""
    kept: list[int] = []
    rows = DiverseRows(vectors, threshold, block)
    rows.walk(np.arange(len(vectors)), lambda row: kept.append(row) is None, lambda: len(kept) >= most)
    return kept, rows.near.tolist()


def plain(vectors: np.ndarray, threshold: float, most: int) -> tuple[list[int], list[int]]:
    kept: list[int] = []
    near = [-1] * len(vectors)
    for row in range(len(vectors)):
        if len(kept) >= most:
            break
        exact = np.round(
            [vectors[row].astype(np.float64) @ vectors[other].astype(np.float64) for other in kept], 12
        )
        if len(exact) and exact.max() > threshold:
            near[row] = kept[int(exact.argmax())]
        else:
            kept.append(row)
    return kept, near


def test_the_second_is_near_to_the_first() -> None:
    assert walked(THREE, 0.9, 512, 3) == ([0, 2], [-1, 0, -1])


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 60),
    block=st.integers(1, 70),
    threshold=st.floats(-0.5, 0.99),
    most=st.integers(1, 60),
    coarse=st.booleans(),
)
def test_equals_the_plain_loop(
    seed: int, rows: int, block: int, threshold: float, most: int, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.integers(-1, 2, (rows, 3)) + 0.01 if coarse else rng.normal(size=(rows, 3)))
    assert walked(vectors, threshold, block, most) == plain(vectors, threshold, most)


def test_a_cosine_at_the_threshold_is_not_too_near() -> None:
    """3/5 is a float32 cosine that products round either way."""
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0]], dtype=np.float32)
    exact = float(vectors[1, 0])
    assert walked(vectors, round(exact, 12), 8, 2)[0] == [0, 1]
    assert walked(vectors, exact - 1e-11, 8, 2)[0] == [0]


def test_a_row_that_is_refused_makes_nothing_too_near() -> None:
    rows = DiverseRows(THREE, 0.9)
    asked: list[int] = []

    def ask(row: int) -> bool:
        asked.append(row)
        return row != 0

    assert rows.walk(np.arange(3), ask, lambda: False) == 3
    assert asked == [0, 1, 2]


def test_rows_kept_before_count() -> None:
    rows = DiverseRows(THREE, 0.9)
    rows.keep(1)
    asked: list[int] = []
    rows.walk(np.array([0, 2]), lambda row: asked.append(row) is None, lambda: False)
    assert asked == [2]
