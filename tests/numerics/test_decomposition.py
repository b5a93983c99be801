"""Pieces of power-of-two lengths, and the order of buckets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.numerics.decomposition import Pieces, bucket_order, decompose, supervised_pieces


def of(length: int, smallest: int = 4, largest: int = 16) -> list[tuple[int, int]]:
    pieces = decompose(np.array([length]), smallest, largest)
    return list(zip(pieces.start.tolist(), pieces.length.tolist(), strict=True))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, []),
        (3, [(0, 3)]),
        (4, [(0, 4)]),
        (12, [(0, 8), (8, 4)]),
        (16, [(0, 16)]),
        (47, [(0, 16), (16, 16), (32, 8), (40, 4), (44, 3)]),
    ],
)
def test_a_row_is_cut_into_powers_of_two(length: int, expected: list[tuple[int, int]]) -> None:
    assert of(length) == expected


@given(st.lists(st.integers(0, 100), min_size=1, max_size=9))
def test_the_pieces_of_a_row_are_all_of_it(lengths: list[int]) -> None:
    pieces = decompose(np.array(lengths), 4, 16)
    for row, length in enumerate(lengths):
        mine = pieces.row == row
        ends = np.cumsum(pieces.length[mine])
        assert pieces.start[mine].tolist() == [0, *ends[:-1].tolist()][: mine.sum()]
        assert (ends[-1] if mine.any() else 0) == length


def test_a_piece_whose_only_target_is_its_first_token_has_none() -> None:
    pieces = Pieces(np.array([0, 0, 1, 1]), np.array([0, 4, 0, 4]), np.array([4, 4, 4, 4]))
    mask = np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], dtype=np.bool_)
    assert supervised_pieces(pieces, np.array([8, 8]), mask).tolist() == [False, False, True, False]


STEPS = np.array([40, 40, 40])


def order(odds: list[float], cycles: int, steps: np.ndarray = STEPS) -> np.ndarray:
    chance = np.random.default_rng(0).random(int(steps.sum()))
    return bucket_order(steps, np.array(odds), cycles, chance)


def test_every_step_of_every_bucket_is_drawn_once() -> None:
    assert np.bincount(order([4, 2, 1], 3)).tolist() == [40, 40, 40]


def test_each_cycle_has_its_share_of_every_bucket() -> None:
    assert [np.bincount(part).tolist() for part in np.split(order([4, 2, 1], 4), 4)] == [[10, 10, 10]] * 4


def test_a_bucket_with_fewer_steps_than_cycles_lies_in_the_middle() -> None:
    found = order([1, 1], 5, np.array([50, 1]))
    assert 20 <= int(np.flatnonzero(found == 1)[0]) < 31


def test_the_first_steps_follow_the_odds() -> None:
    """Of 2,800 steps with odds 4:2:1 and none empty: 1,600, 800, 400, within four deviations."""
    found = np.bincount(order([4, 2, 1], 1, np.full(3, 5000))[:2800])
    assert found.tolist() == pytest.approx([1600, 800, 400], abs=105)


def test_what_is_left_when_a_bucket_is_empty_follows_the_odds_of_the_others() -> None:
    found = order([1e9, 3, 1], 1, np.array([10, 4000, 4000]))
    assert found[:10].tolist() == [0] * 10
    assert np.bincount(found[10:2010])[1] == pytest.approx(1500, abs=78)
