"""TOPSIS against its closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curate.numerics.topsis import topsis

EQUAL, DIRECTIONS = (1.0, 1.0), (True, False)


def closeness(criteria: list[list[float]], weights: tuple[float, float] = EQUAL) -> list[float]:
    return topsis(np.array(criteria, dtype=np.float64), weights, DIRECTIONS).tolist()


def test_the_published_form() -> None:
    assert closeness([[3, 1], [1, 1], [0, 2]]) == pytest.approx([1, 0.44949, 0], abs=1e-5)


def test_a_column_of_zeros_says_nothing() -> None:
    assert closeness([[0, 1], [0, 3], [0, 2]]) == pytest.approx([1, 0, 0.5])


def test_equal_rows_are_in_the_middle() -> None:
    assert closeness([[2, 1], [2, 1]]) == [0.5, 0.5]


def test_one_row_is_in_the_middle() -> None:
    assert closeness([[2, 1]]) == [0.5]


def test_a_null_row_takes_no_part() -> None:
    found = closeness([[3, 1], [np.nan, 9], [1, 1], [0, 2]])
    assert np.isnan(found[1])
    assert [found[0], *found[2:]] == pytest.approx([1, 0.44949, 0], abs=1e-5)


def test_all_null_is_null() -> None:
    assert np.isnan(closeness([[np.nan, 1]])).all()


def test_no_row() -> None:
    assert topsis(np.empty((0, 2)), EQUAL, DIRECTIONS).shape == (0,)


def test_a_criterion_without_weight_does_not_count() -> None:
    assert closeness([[3, 1], [1, 9], [0, 2]], (0, 1)) == pytest.approx([1, 0, 7 / 8])


def test_tiny_and_huge_values_keep_their_ratio() -> None:
    small = closeness([[3e-200, 1e200], [1e-200, 1e200], [0, 2e200]])
    assert small == pytest.approx([1, 0.44949, 0], abs=1e-5)


@given(
    arrays(np.float64, (7, 2), elements=st.integers(-100, 100).map(float)),
    st.sampled_from([0.25, 8.0, 1024.0]),
)
def test_in_the_unit_interval_and_free_of_units(criteria: np.ndarray, scale: float) -> None:
    found = topsis(criteria, EQUAL, DIRECTIONS)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(
        topsis(criteria * [scale, 1], (3, 3), DIRECTIONS), found, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("weights", [(-1, 2), (0, 0), (np.nan, 1), (1,)])
def test_weights_must_be_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="weights"):
        topsis(np.ones((2, 2)), weights, DIRECTIONS)


def test_infinite_values_are_refused() -> None:
    with pytest.raises(ValueError, match="finite or NaN"):
        closeness([[np.inf, 1]])
