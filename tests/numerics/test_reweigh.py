"""Cluster weights: the closed forms, and what stays as it is."""

import numpy as np
import pytest

from curate.numerics.reweigh import group_means, reweighed


def moved(weights: list[float], scores: list[float]) -> list[float]:
    return reweighed(np.array(weights), np.array(scores)).tolist()


def test_twice_the_same_scores() -> None:
    once = moved([0.5, 0.5], [3.0, 1.0])
    assert once == pytest.approx([0.75, 0.25])
    assert moved(once, [3.0, 1.0]) == pytest.approx([0.9, 0.1])


def test_equal_scores_change_nothing() -> None:
    assert moved([0.25] * 4, [2.5] * 4) == pytest.approx([0.25] * 4)
    assert moved([0.7, 0.3], [-1.0, -1.0]) == pytest.approx([0.7, 0.3])


def test_a_cluster_that_was_not_scored_keeps_its_weight() -> None:
    assert moved([0.2, 0.4, 0.4], [np.nan, 3.0, 1.0]) == pytest.approx([0.2, 0.6, 0.2])


def test_no_score_at_all_changes_nothing() -> None:
    assert moved([0.2, 0.8], [np.nan, np.nan]) == [0.2, 0.8]


@pytest.mark.parametrize("scores", [[0.0, np.log(3)], [-1.0, np.log(3) - 1]])
def test_a_score_of_zero_or_less_makes_it_the_softmax(scores: list[float]) -> None:
    assert moved([0.5, 0.5], scores) == pytest.approx([0.25, 0.75])


def test_the_sum_stays() -> None:
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(9))
    scores = random.normal(size=9)
    scores[[2, 5]] = np.nan
    after = reweighed(weights, scores)
    assert after.sum() == pytest.approx(1)
    assert after[[2, 5]].tolist() == weights[[2, 5]].tolist()
    assert (after > 0).all()


def test_an_empty_cluster_gets_nothing() -> None:
    assert moved([0.0, 0.5, 0.5], [5.0, 3.0, 1.0]) == pytest.approx([0.0, 0.75, 0.25])


def test_large_scores_do_not_overflow() -> None:
    assert moved([0.5, 0.5], [-2000.0, 2000.0]) == pytest.approx([0.0, 1.0])


def test_means_leave_out_rows_without_a_value() -> None:
    means = group_means(np.array([1.0, 3.0, np.nan, 5.0, np.nan]), np.array([0, 0, 0, 1, 2]), 4)
    np.testing.assert_array_equal(means, [2.0, 5.0, np.nan, np.nan])


def test_the_input_is_left_alone() -> None:
    weights = np.array([0.5, 0.5])
    reweighed(weights, np.array([3.0, 1.0]))
    assert weights.tolist() == [0.5, 0.5]
