import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.numerics.minhash import (
    Buckets,
    band_keys,
    collision_probability,
    independent_parts,
    optimal_bands,
    verified_components,
)

KEYS = st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=14).map(
    lambda rows: np.array(rows, dtype=np.uint64)
)


def brute_components(keys: NDArray[np.uint64], truth: NDArray[np.bool_]) -> list[int]:
    """By depth-first search over every pair that shares a key in a band and is truly alike."""
    shares = (keys[:, None, :] == keys[None, :, :]).any(axis=2)
    label = list(range(len(keys)))
    for start in range(len(keys)):
        stack = [start]
        while stack:
            row = stack.pop()
            for other in np.flatnonzero(shares[row] & truth[row]):
                if label[other] > label[row]:
                    label[other] = label[row]
                    stack.append(int(other))
    return label


def random_truth(rows: int, seed: int) -> NDArray[np.bool_]:
    upper = np.triu(np.random.default_rng(seed).random((rows, rows)) < 0.4, 1)
    return upper | upper.T


def test_probability_of_a_collision_is_the_s_curve() -> None:
    assert collision_probability(0.5, bands=2, band_rows=3) == pytest.approx(1 - (1 - 0.125) ** 2)


def test_bands_agree_with_datasketch_for_its_weights() -> None:
    from datasketch.lsh import _optimal_param

    for threshold in (0.5, 0.7, 0.8, 0.9):
        assert optimal_bands(threshold, 128, miss_weight=0.5) == _optimal_param(threshold, 128, 0.5, 0.5)


def test_a_heavier_miss_weight_finds_more_at_the_threshold() -> None:
    even = collision_probability(0.7, *optimal_bands(0.7, 128, miss_weight=0.5))
    assert collision_probability(0.7, *optimal_bands(0.7, 128)) > even + 0.2


def test_band_keys_are_equal_where_the_band_is_equal_and_only_there() -> None:
    digests = np.array([[1, 2, 3, 4], [1, 2, 4, 3], [2, 1, 3, 4]], dtype=np.uint32)
    keys = band_keys(digests, bands=2, band_rows=2)
    assert (keys[:, None] == keys[None, :]).tolist() == [
        [[True, True], [True, False], [False, True]],
        [[True, False], [True, True], [False, False]],
        [[False, True], [False, False], [True, True]],
    ]


def test_buckets_hold_the_rows_that_share_a_key_in_one_band() -> None:
    keys = np.array([[7, 1], [8, 1], [7, 2], [7, 1]], dtype=np.uint64)
    buckets = Buckets.of(keys, np.arange(4))
    assert buckets.members.tolist() == [0, 2, 3, 0, 1, 3]
    assert buckets.sizes.tolist() == [3, 3]
    assert buckets.band.tolist() == [0, 1]


def test_buckets_leave_out_the_rows_that_are_not_asked_for() -> None:
    keys = np.array([[7], [7], [7]], dtype=np.uint64)
    assert Buckets.of(keys, np.array([0, 2])).members.tolist() == [0, 2]


@given(keys=KEYS, seed=st.integers(0, 9))
def test_verified_components_equal_brute_force(keys: NDArray[np.uint64], seed: int) -> None:
    truth = random_truth(len(keys), seed)
    found = verified_components(keys, Buckets.of(keys, np.arange(len(keys))), lambda a, b: truth[a, b])
    assert found.tolist() == brute_components(keys, truth)


@given(keys=KEYS, seed=st.integers(0, 9))
def test_no_pair_is_asked_for_twice(keys: NDArray[np.uint64], seed: int) -> None:
    truth = random_truth(len(keys), seed)
    asked: list[tuple[int, int]] = []

    def same(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        asked.extend(zip(left.tolist(), right.tolist(), strict=True))
        return truth[left, right]

    verified_components(keys, Buckets.of(keys, np.arange(len(keys))), same)
    assert len(asked) == len(set(asked))
    assert all(left < right for left, right in asked)


def test_a_bucket_of_equal_rows_costs_one_question_a_row() -> None:
    asked = 0

    def same(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        nonlocal asked
        asked += len(left)
        return np.ones(len(left), dtype=np.bool_)

    keys = np.zeros((500, 4), dtype=np.uint64)
    verified_components(keys, Buckets.of(keys, np.arange(500)), same)
    assert asked == 499


@settings(deadline=None)
@given(keys=KEYS, seed=st.integers(0, 9), max_weight=st.integers(1, 20))
def test_parts_verified_alone_give_the_components_of_the_whole(
    keys: NDArray[np.uint64], seed: int, max_weight: int
) -> None:
    truth = random_truth(len(keys), seed)
    buckets = Buckets.of(keys, np.arange(len(keys)))
    labels = np.arange(len(keys))
    for rows, part in independent_parts(buckets, np.ones(len(keys), dtype=np.int64), max_weight):
        own = truth[np.ix_(rows, rows)]
        found = verified_components(keys[rows], part, lambda a, b, own=own: own[a, b])
        labels[rows] = rows[found]
    assert labels.tolist() == brute_components(keys, truth)


def test_parts_stay_below_the_weight_unless_linked() -> None:
    keys = np.array([[0], [0], [1], [1], [2], [2], [2], [2]], dtype=np.uint64)
    parts = independent_parts(Buckets.of(keys, np.arange(8)), np.ones(8, dtype=np.int64), 3)
    assert [rows.tolist() for rows, _ in parts] == [[0, 1], [2, 3], [4, 5, 6, 7]]
