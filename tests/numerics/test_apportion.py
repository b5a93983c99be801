"""Largest remainder, its caps, and temperature weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError
from curate.numerics.apportion import apportion, temperature_weights

GROUPS = st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 50)), min_size=1, max_size=12)


def test_largest_remainder_of_a_textbook_case() -> None:
    """The classic vote of 47, 16, 15.8, 12, 6.1, 3.1 over ten seats."""
    assert apportion([47, 16, 15.8, 12, 6.1, 3.1], 10).tolist() == [5, 2, 1, 1, 1, 0]


def test_smart_mixture_of_the_methods() -> None:
    assert apportion([10, 5, 2], 10).tolist() == [6, 3, 1]


def test_equal_remainders_go_to_the_first_groups() -> None:
    assert apportion([1, 1, 1], 4).tolist() == [2, 1, 1]


def test_excess_of_a_full_group_is_shared_by_weight() -> None:
    assert apportion([8, 1, 3], 12, caps=[4, 9, 9]).tolist() == [4, 2, 6]


def test_redistribution_cascades_over_several_full_groups() -> None:
    assert apportion([6, 3, 1], 10, caps=[2, 4, 9]).tolist() == [2, 4, 4]


def test_a_group_without_weight_gets_nothing() -> None:
    assert apportion([0, 1], 3).tolist() == [0, 3]


def test_whole_quotas_are_not_lost_to_rounding() -> None:
    assert apportion([0.1, 0.2, 0.7], 10).tolist() == [1, 2, 7]


def test_caps_below_the_total_are_an_error_with_both_numbers() -> None:
    with pytest.raises(DataError, match=r"^9 rows .* They hold 5\."):
        apportion([1, 1], 9, caps=[2, 3])


def test_a_weightless_group_does_not_help_to_hold_the_total() -> None:
    with pytest.raises(DataError, match="They hold 2"):
        apportion([1, 0], 3, caps=[2, 9])


@pytest.mark.parametrize("weights", [[1, -1], [1, float("nan")], [float("inf")]])
def test_weights_that_are_no_shares_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataError, match="weights must be"):
        apportion(weights, 1)


@given(GROUPS, st.floats(0, 1))
def test_sum_is_exact_and_caps_hold(groups: list[tuple[float, int]], part: float) -> None:
    weights, caps = zip(*groups, strict=True)
    total = int(part * sum(caps))
    shares = apportion(weights, total, caps)
    assert shares.sum() == total
    assert (shares >= 0).all()
    assert (shares <= caps).all()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12), st.integers(0, 10**7))
def test_without_caps_each_share_is_its_quota_rounded_down_or_up(weights: list[float], total: int) -> None:
    quota = total * np.array(weights) / sum(weights)
    shares = apportion(weights, total)
    assert shares.sum() == total
    assert (np.abs(shares - quota) < 1 + 1e-6).all()


def test_temperature_one_is_proportional() -> None:
    np.testing.assert_allclose(temperature_weights([30, 10], 1), [0.75, 0.25])


def test_temperature_two_is_the_square_root() -> None:
    np.testing.assert_allclose(temperature_weights([900, 100], 2), [0.75, 0.25])


def test_a_large_temperature_is_equal() -> None:
    np.testing.assert_allclose(temperature_weights([900, 1], 1e9), [0.5, 0.5], atol=1e-8)


def test_a_small_temperature_does_not_overflow() -> None:
    np.testing.assert_allclose(temperature_weights([10**6, 10], 1e-3), [1, 0])


def test_an_empty_group_has_no_weight() -> None:
    np.testing.assert_allclose(temperature_weights([0, 5], 3), [0, 1])
