"""Random subsets of equal tokens, and of equal lengths."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import DataError
from curate.numerics.baselines import (
    length_bins,
    length_matched,
    random_to_tokens,
    repeated_to_tokens,
    rounds,
)


def histogram(lengths: np.ndarray, reference: np.ndarray, bins: int) -> list[int]:
    edges = length_bins(reference, bins)
    return np.bincount(np.searchsorted(edges, lengths, side="right"), minlength=len(edges) + 1).tolist()


@pytest.mark.parametrize(("tokens", "expected"), [(13, [3, 1]), (8, [3]), (9, [3, 1]), (17, [3, 1, 0])])
def test_random_takes_the_smallest_keys_that_come_nearest(tokens: int, expected: list[int]) -> None:
    """Row 2 (1 token) may be nearer, but stands behind row 0."""
    lengths, keys = np.array([5, 9, 1, 4]), np.array([0.3, 0.2, 0.9, 0.1])
    assert random_to_tokens(lengths, keys, tokens).tolist() == expected


def test_random_can_take_everything() -> None:
    assert len(random_to_tokens(np.array([5, 9]), np.array([0.3, 0.2]), 14)) == 2


def test_random_takes_a_row_at_least() -> None:
    assert random_to_tokens(np.array([5, 9]), np.array([0.3, 0.2]), 1).tolist() == [1]


def test_random_beyond_the_pool_is_an_error_with_both_numbers() -> None:
    with pytest.raises(DataError, match="at most the 14 tokens of the pool. Got 15"):
        random_to_tokens(np.array([5, 9]), np.array([0.3, 0.2]), 15)


def test_rounds_of_repeated_draws() -> None:
    found = [(rows.tolist(), times) for rows, times in rounds(np.array([7, 2, 7, 4, 2, 7, 7, 7]))]
    assert found == [([2, 4, 7], 1), ([2, 7], 1), ([7], 3)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_rounds_together_are_the_draws(draws: list[int]) -> None:
    found = rounds(np.array(draws))
    assert sorted(np.concatenate([np.tile(rows, times) for rows, times in found]).tolist()) == sorted(draws)
    assert all(set(later) < set(earlier) for (earlier, _), (later, _) in pairwise(found))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (15, [2, 0, 1]),
        (7, [2, 0, 1]),
        (30, [2, 0, 1, 2, 0, 1]),
        (33, [2, 0, 1, 2, 0, 1, 2]),
        (6, [2, 0]),
        (1, [2]),
    ],
)
def test_draws_are_repeated_or_cut_to_the_nearest(tokens: int, expected: list[int]) -> None:
    """Of 1, 9 and 5 tokens; off by less than 9, they stay as they are."""
    lengths = np.array([1, 9, 5])
    assert repeated_to_tokens(lengths, np.array([2, 0, 1]), tokens).tolist() == expected


def test_bins_split_the_reference_evenly() -> None:
    reference = np.arange(1, 101)
    assert histogram(reference, reference, 4) == [25, 25, 25, 25]


def test_bins_never_split_equal_lengths() -> None:
    assert length_bins(np.full(50, 7), 20).tolist() == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 200), st.floats(0.05, 1), st.sampled_from([1, 4, 20]))
def test_same_histogram_and_tokens_within_half_a_row(seed: int, rows: int, part: float, bins: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = np.ceil(rng.lognormal(4, 1, rows)).astype(np.int64)
    reference = np.sort(lengths)[-max(1, int(part * rows)) :]
    chosen = length_matched(lengths, reference, rng.random(rows), bins)
    assert len(set(chosen.tolist())) == len(reference)
    assert histogram(lengths[chosen], reference, bins) == histogram(reference, reference, bins)
    assert abs(int(lengths[chosen].sum()) - int(reference.sum())) <= lengths[chosen].max() / 2


def test_rows_outside_the_range_of_the_reference_are_not_drawn() -> None:
    lengths = np.array([1, 10, 11, 12, 13, 500])
    chosen = length_matched(lengths, np.array([10, 13]), np.random.default_rng(0).random(6), bins=1)
    assert set(chosen.tolist()) <= {1, 2, 3, 4}


def test_the_subset_is_random_and_not_the_reference() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 30, 2000)
    chosen = length_matched(lengths, lengths[:200], rng.random(2000))
    assert np.isin(chosen, np.arange(200)).mean() < 0.2


def test_the_total_is_exact_where_there_are_many_lengths() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        lengths = rng.integers(10, 300, 2000)
        chosen = length_matched(lengths, lengths[:200], rng.random(2000))
        assert lengths[chosen].sum() == lengths[:200].sum()


def test_few_rows_are_swapped() -> None:
    """Nearly all are what the smallest keys of each bin gave: the swaps leave the subset random.

    A bin is about 15 tokens wide, so the totals differ by about 15 / √12 · √200 · √2 = 87 tokens: a few swaps.
    """
    rng = np.random.default_rng(0)
    lengths, keys = rng.integers(10, 300, 2000), rng.random(2000)
    edges = length_bins(lengths[:200], 20)
    bins = np.searchsorted(edges, lengths, side="right")
    plain: list[int] = []
    for label, count in enumerate(np.bincount(bins[:200])):
        members = np.flatnonzero((bins == label) & (lengths >= lengths[:200].min()))
        members = members[lengths[members] <= lengths[:200].max()]
        plain += members[np.argsort(keys[members])][:count].tolist()
    chosen = length_matched(lengths, lengths[:200], keys)
    assert len(set(plain) & set(chosen.tolist())) >= 185


def test_swaps_in_order_only_come_nearer() -> None:
    """One of two rows of 10 is chosen, the reference has 30; the first swap by key overshoots and is passed by."""
    lengths = np.array([10, 90, 29, 500])
    chosen = length_matched(lengths, np.array([30, 10, 500]), np.array([0.1, 0.2, 0.3, 0.05]), bins=1)
    assert sorted(lengths[chosen].tolist()) == [10, 29, 500]


def test_each_row_of_a_bin_is_as_likely_as_another() -> None:
    """All of one length: 10 of 40 rows, 400 seeds; chi-square with 39 degrees below its 0.999 quantile."""
    times = np.zeros(40)
    for seed in range(400):
        keys = np.random.default_rng(seed).random(40)
        times[length_matched(np.full(40, 9), np.full(10, 9), keys)] += 1
    assert ((times - 100) ** 2 / 75).sum() * 39 / 40 < 72.1


def test_the_order_is_that_of_the_keys() -> None:
    keys = np.random.default_rng(0).random(50)
    chosen = length_matched(np.full(50, 9), np.full(20, 9), keys)
    assert (np.diff(keys[chosen]) > 0).all()


def test_a_pool_without_the_lengths_is_an_error() -> None:
    with pytest.raises(DataError, match="It has 1 of 9 to 9 tokens, the reference 2"):
        length_matched(np.array([9, 3]), np.array([9, 9]), np.array([0.1, 0.2]))


def test_an_empty_reference_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one row"):
        length_matched(np.array([9]), np.zeros(0, dtype=np.int64), np.array([0.1]))
