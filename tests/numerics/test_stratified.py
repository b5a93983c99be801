"""Strata, turns and the entropy of a histogram."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.numerics.apportion import apportion
from curate.numerics.stratified import HISTOGRAM_EDGES, cuts, histogram_entropy, in_turn, spread, strata

MIDDLES = (HISTOGRAM_EDGES[1:] + HISTOGRAM_EDGES[:-1]) / 2


def test_cuts_leave_out_five_of_a_hundred_and_one_at_each_end() -> None:
    assert cuts(np.random.default_rng(0).permutation(101).astype(float), 0.05, 0.95) == (5.0, 95.0)


def test_cuts_are_rounded_outwards() -> None:
    assert cuts(np.arange(20.0), 0.05, 0.95) == (0.0, 19.0)


def test_the_place_of_a_quantile_is_not_moved_by_floating_point() -> None:
    """100 * 0.29 is 28.999999999999996."""
    assert cuts(np.arange(101.0), 0.29, 0.58) == (29.0, 58.0)


def test_strata_are_right_closed_the_highest_first() -> None:
    values = np.array([4.0, 3.5, 3.0, 2.0, 1.0, 0.0, 4.1, -0.1, np.nan])
    assert strata(values, 0.0, 4.0, 4).tolist() == [0, 0, 1, 2, 3, 3, -1, -1, -1]


def test_equal_values_are_one_stratum() -> None:
    assert strata(np.array([2.0, 2.0, np.nan, 3.0]), 2.0, 2.0, 50).tolist() == [0, 0, -1, -1]


def test_turns_go_from_the_lowest_label_and_pass_over_what_has_run_out() -> None:
    labels = np.array([1, 0, 1, 2, 2, 2])
    assert in_turn(np.array([5, 4, 3, 2, 1, 0]), labels).tolist() == [1, 2, 5, 0, 4, 3]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.data())
def test_every_prefix_is_the_equal_share_with_deficits_passed_on(
    groups: list[int], data: st.DataObject
) -> None:
    labels = np.array(groups)
    total = data.draw(st.integers(1, len(groups)))
    sizes = np.bincount(labels, minlength=5)
    taken = np.bincount(labels[in_turn(np.arange(len(labels)), labels)[:total]], minlength=5)
    assert taken.tolist() == apportion(np.ones(5), total, caps=sizes).tolist()


def test_uniform_over_the_49_bins_is_log2_49() -> None:
    assert histogram_entropy(np.repeat(MIDDLES, 3)) == pytest.approx(log2(49))
    assert log2(49) == pytest.approx(5.615, abs=5e-4)


def test_what_lies_outside_the_edges_does_not_count() -> None:
    assert histogram_entropy(np.array([MIDDLES[0], MIDDLES[1], 9.0, 9.0])) == pytest.approx(1.0)


def test_nothing_inside_has_no_entropy() -> None:
    assert histogram_entropy(np.array([9.0])) == 0.0


@pytest.mark.parametrize(
    "values", [[0.3, 0.3, 0.3], [5.0], [np.nan], [np.inf, 1.0, 2.0], [1e-320, 2e-320]], ids=str
)
def test_without_a_z_score_the_spread_is_zero(values: list[float]) -> None:
    assert spread(np.array(values)) == 0.0


def test_the_spread_is_of_the_z_scores() -> None:
    """Two values: z = -1 and 1, in two bins, wherever they lie."""
    assert spread(np.array([10.0, 30.0, np.nan])) == pytest.approx(1.0)
    assert spread(np.array([0.1, 0.3])) == pytest.approx(1.0)
