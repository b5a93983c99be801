"""Rank orders, turns, and exact weighted draws."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.numerics.ranking import (
    chance_weights,
    choose_in_turn,
    group_rank,
    interleaved,
    probabilities,
    ranked,
    weighted_order,
)

NAN = float("nan")


def test_highest_first_keeps_equal_values_in_order_and_leaves_nan_out() -> None:
    assert ranked(np.array([1.0, 3.0, NAN, 3.0, 0.0]), highest=True).tolist() == [1, 3, 0, 4]


def test_lowest_first_keeps_equal_values_in_order() -> None:
    assert ranked(np.array([1.0, 0.0, NAN, 0.0]), highest=False).tolist() == [1, 3, 0]


def test_group_rank_counts_within_the_group_in_the_given_order() -> None:
    labels = np.array([0, 1, 0, 0, 1])
    assert group_rank(np.array([3, 1, 0, 4]), labels).tolist() == [0, 0, 1, 1]


def test_group_rank_of_nothing() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert group_rank(empty, empty).tolist() == []


def test_equal_weights_take_turns() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert interleaved(np.arange(6), labels, np.ones(3)).tolist() == [0, 3, 5, 1, 4, 2]


def test_size_weights_mirror_the_pool_in_every_prefix() -> None:
    labels = np.repeat([0, 1], [60, 20])
    order = labels[interleaved(np.arange(80), labels, np.array([60.0, 20.0]))]
    ahead = np.abs(np.cumsum(order) - np.arange(1, 81) / 4)
    assert ahead.max() <= 1


def test_positive_qualities_are_their_own_weights() -> None:
    weights, softmax = chance_weights(np.array([1.0, 3.0, NAN]))
    np.testing.assert_allclose(np.exp(weights), [1, 3, NAN])
    assert not softmax


def test_one_zero_quality_makes_it_the_softmax_for_all() -> None:
    weights, softmax = chance_weights(np.array([0.0, 3.0]))
    np.testing.assert_allclose(weights, [0, 3])
    assert softmax


def test_probabilities_are_shares_of_the_group_and_do_not_overflow() -> None:
    shares = probabilities(np.array([1000.0, 1000 + np.log(3), 5.0, NAN]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(shares, [0.25, 0.75, 1.0, NAN])


def test_weighted_order_has_the_law_of_drawing_without_replacement() -> None:
    """Chi-square over the six orders of three rows of weight 1, 2, 5: P(i, j, k) = w_i/W · w_j/(W - w_i).

    20,000 seeded draws, 5 degrees of freedom: 20.5 is the 0.999 quantile.
    """
    weights = np.array([1.0, 2.0, 5.0])
    uniform = np.random.default_rng(5).random((20_000, 3))
    orders = [tuple(weighted_order(np.log(weights), row).tolist()) for row in uniform]
    total = weights.sum()
    statistic = 0.0
    for order in permutations(range(3)):
        i, j, _ = order
        expected = 20_000 * weights[i] / total * weights[j] / (total - weights[i])
        statistic += (orders.count(order) - expected) ** 2 / expected
    assert statistic < 20.5


def test_columns_take_turns_to_choose() -> None:
    """Column 0 takes row 0, column 1 row 2 (row 0 is gone), column 0 row 1, column 1 what is left."""
    similarity = np.array([[0.9, 0.95], [0.8, 0.1], [0.7, 0.5], [0.1, 0.2]])
    assert choose_in_turn(similarity).tolist() == [0, 2, 1, 3]


def test_one_column_chooses_by_rank() -> None:
    assert choose_in_turn(np.array([[0.2], [0.9], [0.5]])).tolist() == [2, 0, 1]


def test_more_columns_than_rows() -> None:
    assert choose_in_turn(np.array([[0.1, 0.9, 0.5]])).tolist() == [0]


def test_a_tie_goes_to_the_earlier_row() -> None:
    assert choose_in_turn(np.array([[0.5, 0.5]] * 3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("column", [0, 1])
def test_a_row_with_a_null_is_never_chosen(column: int) -> None:
    similarity = np.array([[0.1, 0.1], [0.9, 0.9], [0.5, 0.5]])
    similarity[1, column] = NAN
    np.testing.assert_array_equal(choose_in_turn(similarity), [1, NAN, 0])


def test_no_row_is_chosen_of_none() -> None:
    assert choose_in_turn(np.zeros((0, 3))).tolist() == []


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5))
def test_turns_are_those_of_the_plainest_way(seed: int, rows: int, columns: int) -> None:
    """Values from a few, so that there are ties; some null."""
    generator = np.random.default_rng(seed)
    similarity = generator.choice([0.1, 0.2, 0.3, 0.4, NAN], (rows, columns), p=[0.24] * 4 + [0.04])
    left = [row for row in range(rows) if not np.isnan(similarity[row]).any()]
    expected = np.full(rows, NAN)
    for turn in range(len(left)):
        best = max(left, key=lambda row: (similarity[row, turn % columns], -row))
        expected[best] = turn
        left.remove(best)
    np.testing.assert_array_equal(choose_in_turn(similarity), expected)
