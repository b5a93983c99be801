"""Adaptive strata and pruning inside groups."""

import numpy as np
import pytest

from curate.errors import DataError
from curate.numerics.adaptive import adaptive_strata, members_of, prune
from curate.numerics.kmeans import unit_rows

EVEN, HEAPED = np.linspace(0, 1, 40), np.r_[np.zeros(39), 1.0]


def test_members_leave_out_rows_of_no_group() -> None:
    members = members_of(np.array([1, -1, 0, 1]), 3)
    assert [rows.tolist() for rows in members] == [[2], [0, 3], []]


def test_each_group_uses_the_number_that_spreads_widest_in_it() -> None:
    values = np.stack([np.r_[EVEN, HEAPED], np.r_[HEAPED, EVEN]])
    found = adaptive_strata(values, [np.arange(40), np.arange(40, 80)], 0.05, 0.95, 5)
    assert found.choice.tolist() == [0, 1]
    assert found.entropy[0] == pytest.approx(found.entropy[1])


def test_a_constant_number_has_no_entropy_and_equals_go_to_the_first() -> None:
    found = adaptive_strata(np.full((2, 40), 7.0), [np.arange(40)], 0.05, 0.95, 5)
    assert (found.choice.tolist(), found.entropy.tolist()) == ([0], [0.0])
    assert found.labels.tolist() == [0] * 40


def test_cuts_are_those_of_the_group() -> None:
    found = adaptive_strata(np.r_[EVEN, EVEN + 9][None], [np.arange(40), np.arange(40, 80)], 0, 1, 4)
    assert found.low.tolist() == [0.0, 9.0]
    assert found.labels[:40].tolist() == found.labels[40:].tolist()


def test_a_row_without_the_number_or_a_group_has_no_stratum() -> None:
    found = adaptive_strata(np.array([[1.0, np.nan, 2.0, 3.0]]), [np.array([0, 1, 2])], 0, 1, 2)
    assert found.labels.tolist() == [1, -1, 0, -1]


def test_a_group_without_a_value_has_no_cuts() -> None:
    found = adaptive_strata(np.full((1, 2), np.nan), [np.arange(2), np.zeros(0, dtype=np.int64)], 0, 1, 2)
    assert np.isnan(found.low).all()
    assert found.labels.tolist() == [-1, -1]


def test_an_infinite_cut_is_an_error() -> None:
    with pytest.raises(DataError, match="must be finite"):
        adaptive_strata(np.array([[np.inf, 1.0]]), [np.arange(2)], 0, 1, 2)


def points() -> np.ndarray:
    """Rows 0 and 2 are copies; 1 is far; 3 is near 1."""
    return unit_rows(np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0.2]], dtype=np.float32))


def test_an_exact_duplicate_goes_first() -> None:
    found = prune(points(), [np.arange(4)], np.arange(4), 0.25)
    assert found.is_pruned.tolist() == [False, False, True, False]
    assert (found.nearest[2], found.to[2]) == (1.0, 0)


def test_of_two_copies_the_one_that_stands_later_goes() -> None:
    assert (
        prune(points(), [np.arange(4)], np.array([3, 1, 0, 2]), 0.25).is_pruned.tolist()
        == [True] + [False] * 3
    )


def test_the_next_largest_cosine_goes_next() -> None:
    assert prune(points(), [np.arange(4)], np.arange(4), 0.5).is_pruned.tolist() == [False, False, True, True]


def test_groups_are_pruned_by_themselves() -> None:
    """The copies stand in different groups."""
    found = prune(points(), [np.array([0, 1]), np.array([2, 3])], np.arange(4), 0.5)
    assert found.is_pruned.tolist() == [False, True, False, True]
    assert found.nearest[2] == -1.0


def test_a_share_is_rounded_down_but_not_by_floating_point() -> None:
    """100 * 0.29 is 28.999999999999996."""
    vectors = unit_rows(np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32))
    assert prune(vectors, [np.arange(100)], np.arange(100), 0.29).is_pruned.sum() == 29
    assert prune(vectors, [np.arange(3)], np.arange(100), 0.6).is_pruned.sum() == 1
