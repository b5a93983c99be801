"""Predictive strength against its closed forms and Kendall's tau; its examples; the area under the curve."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.numerics.predictive_strength import auc, highest_and_lowest, predictive_strength

losses = st.lists(st.lists(st.floats(0, 10, allow_nan=False), min_size=5, max_size=5), min_size=1, max_size=8)


def of(*row: float) -> float:
    return float(predictive_strength(np.array([row]))[0])


@pytest.mark.parametrize(
    ("row", "strength"),
    [
        ((3.0, 2.0, 1.0), 1.0),
        ((1.0, 2.0, 3.0), 0.0),
        ((2.0, 3.0, 1.0), 2 / 3),
        ((3.0, 1.0, 2.0), 2 / 3),
        ((1.0, 3.0, 2.0), 1 / 3),
        ((2.0, 2.0, 2.0), 0.0),
        ((3.0, 2.0, 2.0), 2 / 3),
        ((1.0, 0.5), 1.0),
    ],
    ids=["order", "reversed", "swap", "other swap", "two swaps", "all tied", "one tie", "two models"],
)
def test_closed_forms(row: tuple[float, ...], strength: float) -> None:
    assert of(*row) == pytest.approx(strength, abs=1e-15)


def test_null_where_one_model_has_none() -> None:
    found = predictive_strength(np.array([[3.0, np.nan, 1.0], [3.0, 2.0, 1.0]]))
    np.testing.assert_array_equal(found, [np.nan, 1.0])


def test_a_family_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 models. Got 1"):
        predictive_strength(np.ones((4, 1)))


@settings(deadline=None)
@given(losses)
def test_it_is_the_naive_count(rows: list[list[float]]) -> None:
    found = predictive_strength(np.array(rows))
    naive = [sum(row[i] > row[j] for i, j in combinations(range(5), 2)) / 10 for row in rows]
    np.testing.assert_allclose(found, naive, atol=1e-15)


@settings(deadline=None)
@given(st.permutations(range(6)))
def test_without_ties_it_is_kendall_s_tau_plus_one_halved(order: list[int]) -> None:
    concordant = sum(np.sign(order[i] - order[j]) for i, j in combinations(range(6), 2))
    assert of(*map(float, order)) == pytest.approx((concordant / 15 + 1) / 2)


def drawn(values: list[float], fraction: float | None) -> tuple[list[int], list[int]]:
    numbers = np.array(values)
    highest, lowest = highest_and_lowest(numbers, np.arange(len(values)) / 100, fraction)
    return sorted(highest.tolist()), sorted(lowest.tolist())


def test_without_a_fraction_the_highest_value_and_as_many_of_the_lowest() -> None:
    assert drawn([1, 0, 0.5, 1, 0.5, 0], None) == ([0, 3], [1, 5])


def test_more_of_the_highest_than_there_are_below() -> None:
    assert drawn([1, 1, 1, 1, 0, 0.5], None) == ([0, 1], [4, 5])


def test_the_smallest_keys_win_among_equals() -> None:
    values, keys = np.array([1.0, 1, 1, 0, 0]), np.array([0.9, 0.1, 0.2, 0.5, 0.4])
    highest, _ = highest_and_lowest(values, keys, None)
    assert sorted(highest.tolist()) == [1, 2]


def test_a_fraction_is_of_the_rows_with_a_value() -> None:
    values = [float(value) for value in range(10)] + [float("nan")] * 10
    assert drawn(values, 0.2) == ([8, 9], [0, 1])


def test_one_value_alone_has_no_examples() -> None:
    assert drawn([1, 1, 1], None) == ([], [])
    assert drawn([1, 1, 1], 0.5) == ([], [])
    assert drawn([float("nan")], None) == ([], [])


def test_a_value_at_both_ends_goes_to_the_side_that_has_fewer() -> None:
    assert drawn([0, 1, 1, 1, 1, 2, 2], 0.5) == ([5, 6], [0, 1])
    assert drawn([0, 0, 1, 1, 1, 1, 2], 0.5) == ([2, 6], [0, 1])
    assert drawn([0, 1, 1, 1, 1], 0.4) == ([1], [0])


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, np.nan]), max_size=30), st.sampled_from([None, 0.1, 0.3, 0.5])
)
def test_all_that_is_good_is_above_all_that_is_bad(values: list[float], fraction: float | None) -> None:
    numbers = np.array(values, dtype=np.float64)
    highest, lowest = highest_and_lowest(numbers, np.zeros(len(values)), fraction)
    assert len(highest) == len(lowest) == len(set(highest)) == len(set(lowest))
    if len(highest):
        assert numbers[highest].min() > numbers[lowest].max()


def naive_auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    return float(np.mean(pairs))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20))
def test_auc_is_the_share_of_pairs(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    positive = np.array([label for _, label in rows])
    if positive.all() or not positive.any():
        assert np.isnan(auc(scores, positive))
    else:
        assert auc(scores, positive) == pytest.approx(naive_auc(scores, positive))
