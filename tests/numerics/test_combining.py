"""Combining criteria: by hand, and what no scale or order of the rows may change."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.numerics.combining import product, rank_average, weighted_z_scores

NAN = float("nan")
Rule = Callable[[NDArray[np.float64], Sequence[float], Sequence[bool]], NDArray[np.float64]]
every_rule = pytest.mark.parametrize("rule", [weighted_z_scores, rank_average, product])


def columns(*values: Sequence[float]) -> NDArray[np.float64]:
    return np.column_stack([np.array(each, dtype=np.float64) for each in values])


# z-scores


def test_z_scores_by_hand() -> None:
    """Mean 2, standard deviation sqrt(2/3)."""
    found = weighted_z_scores(columns([1, 2, 3]), [1], [True])
    np.testing.assert_allclose(found, np.array([-1, 0, 1]) / np.sqrt(2 / 3))


def test_z_scores_of_a_criterion_to_be_low_turn_their_sign() -> None:
    found = weighted_z_scores(columns([1, 2, 3]), [1], [False])
    np.testing.assert_allclose(found, np.array([1, 0, -1]) / np.sqrt(2 / 3))


def test_z_scores_are_weighed() -> None:
    found = weighted_z_scores(columns([0, 2], [2, 0]), [3, 1], [True, True])
    np.testing.assert_allclose(found, [(-3 + 1) / 4, (3 - 1) / 4])


def test_z_scores_are_of_the_rows_that_have_all() -> None:
    """The third row would move the mean of the first criterion."""
    found = weighted_z_scores(columns([0, 2, 100], [0, 2, NAN]), [1, 1], [True, True])
    np.testing.assert_allclose(found, [-1, 1, NAN])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e-300, 1e300])
def test_a_constant_criterion_counts_0_whatever_its_rounding(constant: float) -> None:
    """The standard deviation of ten times 0.1 is 1.4e-17 in float64."""
    found = weighted_z_scores(columns([constant] * 10), [1], [True])
    np.testing.assert_array_equal(found, np.zeros(10))


@given(
    st.lists(st.integers(-100, 100), min_size=2, max_size=8),
    st.sampled_from([0.25, 2.0, 1024.0]),
    st.integers(-50, 50),
)
def test_z_scores_do_not_depend_on_unit_or_origin(values: list[int], unit: float, origin: int) -> None:
    one = weighted_z_scores(columns(values), [1], [True])
    other = weighted_z_scores(columns(np.array(values) * unit + origin), [1], [True])  # type: ignore[arg-type]
    np.testing.assert_allclose(one, other, atol=1e-9)


# ranks


def test_ranks_go_from_0_to_1() -> None:
    assert rank_average(columns([30, 10, 20]), [1], [True]).tolist() == [1, 0, 0.5]


def test_ranks_of_a_criterion_to_be_low() -> None:
    assert rank_average(columns([30, 10, 20]), [1], [False]).tolist() == [0, 1, 0.5]


def test_ties_share_the_mean_of_their_ranks() -> None:
    """Places 0; 1 and 2, shared; 3, of 3."""
    np.testing.assert_allclose(rank_average(columns([1, 5, 5, 9]), [1], [True]), [0, 0.5, 0.5, 1])


def test_ranks_are_weighed() -> None:
    found = rank_average(columns([1, 2, 3], [3, 2, 1]), [3, 1], [True, True])
    np.testing.assert_allclose(found, [0.25, 0.5, 0.75])


def test_ranks_are_of_the_rows_that_have_all() -> None:
    found = rank_average(columns([1, 2, 9], [1, 2, NAN]), [1, 1], [True, True])
    np.testing.assert_array_equal(found, [0, 1, NAN])


def test_a_single_row_has_rank_one_half() -> None:
    np.testing.assert_array_equal(rank_average(columns([7, NAN]), [1], [True]), [0.5, NAN])


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8))
def test_ranks_do_not_depend_on_the_scale_even_a_curved_one(values: list[int]) -> None:
    cubes = [value**3 for value in values]
    np.testing.assert_array_equal(
        rank_average(columns(values), [1], [True]), rank_average(columns(cubes), [1], [True])
    )


# product


def test_a_product_is_of_shares_of_the_maximum() -> None:
    found = product(columns([1, 2, 4], [8, 4, 2]), [1, 1], [True, True])
    np.testing.assert_allclose(found, [0.25, 0.25, 0.25])


def test_a_product_weighs_by_powers() -> None:
    found = product(columns([1, 2], [2, 2]), [2, 1], [True, True])
    np.testing.assert_allclose(found, [0.25, 1])


def test_a_criterion_to_be_low_counts_its_minimum_over_the_value() -> None:
    np.testing.assert_allclose(product(columns([1, 2, 4]), [1], [False]), [1, 0.5, 0.25])


def test_0_is_the_worst_of_what_is_to_be_high() -> None:
    assert product(columns([0, 2], [5, 5]), [1, 1], [True, True]).tolist() == [0, 1]


def test_0_is_the_best_of_what_is_to_be_low() -> None:
    assert product(columns([0, 2]), [1], [False]).tolist() == [1, 0]


def test_zeros_alone_are_0_high_and_1_low() -> None:
    assert product(columns([0, 0]), [1], [True]).tolist() == [0, 0]
    assert product(columns([0, 0]), [1], [False]).tolist() == [1, 1]


def test_a_product_of_a_negative_criterion_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at or above 0. Got -1.0"):
        product(columns([1, -1]), [1], [True])


def test_a_negative_value_of_a_row_that_lacks_another_does_not_matter() -> None:
    found = product(columns([1, -1], [1, NAN]), [1, 1], [True, True])
    np.testing.assert_array_equal(found, [1, NAN])


def test_a_products_maximum_is_of_the_rows_that_have_all() -> None:
    found = product(columns([1, 2, 100], [1, 1, NAN]), [1, 1], [True, True])
    np.testing.assert_array_equal(found, [0.5, 1, NAN])


# all of them


@every_rule
def test_rows_that_lack_a_criterion_stay_null(rule: Rule) -> None:
    found = rule(columns([1, 2, 3, 4], [1, NAN, 3, 2]), [1, 1], [True, True])
    assert np.isnan(found).tolist() == [False, True, False, False]


@every_rule
def test_no_row_with_all_criteria(rule: Rule) -> None:
    assert np.isnan(rule(columns([1, NAN], [NAN, 2]), [1, 1], [True, False])).all()


@every_rule
def test_no_row_at_all(rule: Rule) -> None:
    assert rule(np.zeros((0, 2)), [1, 1], [True, False]).shape == (0,)


@every_rule
def test_the_criteria_are_left_as_they_are(rule: Rule) -> None:
    given_ = columns([3, 1, 2], [1, 2, 2])
    before = given_.copy()
    rule(given_, [1, 2], [True, False])
    np.testing.assert_array_equal(given_, before)


@every_rule
@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_rows_does_not_matter(rule: Rule, seed: int) -> None:
    generator = np.random.default_rng(seed)
    criteria, order = generator.random((7, 3)), generator.permutation(7)
    found = rule(criteria, [1, 2, 3], [True, False, True])
    shuffled = rule(criteria[order], [1, 2, 3], [True, False, True])
    np.testing.assert_allclose(shuffled, found[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", [weighted_z_scores, rank_average])
def test_only_the_ratio_of_weights_matters(rule: Rule) -> None:
    criteria = np.random.default_rng(0).random((6, 2))
    np.testing.assert_allclose(
        rule(criteria, [1, 3], [True, False]), rule(criteria, [10, 30], [True, False]), rtol=1e-12
    )
