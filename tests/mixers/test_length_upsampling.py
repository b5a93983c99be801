"""Length upsampling: token shares per range of lengths, every row drawn, repeats even."""

from collections import Counter

import numpy as np
import pytest
from candidates import pool_of

from curate.errors import DataError
from curate.methods import read_method
from curate.mixers.length_upsampling import LengthUpsampling
from curate.registry import Registry

LENGTHS = np.array([10] * 60 + [100] * 6 + [400] * 2)
POOL = pool_of({"tokens": LENGTHS})


def tokens_of_ranges(shares: dict[int, float]) -> list[int]:
    draws = LengthUpsampling(shares=shares).mix(POOL).draws
    return np.bincount(np.searchsorted(sorted(shares), LENGTHS[draws]), weights=LENGTHS[draws]).tolist()


def test_each_range_has_its_share_of_the_tokens() -> None:
    """600 tokens are a fifth: the smallest whole is 3,000, of which the others have 900 and 1,500, nearest 1,600."""
    assert tokens_of_ranges({10: 0.2, 100: 0.3, 400: 0.5}) == [600, 900, 1600]


def test_shares_as_they_are_repeat_nothing() -> None:
    draws = LengthUpsampling(shares={10: 0.3, 100: 0.3, 400: 0.4}).mix(POOL).draws
    assert sorted(draws.tolist()) == list(range(68))


def test_every_row_is_drawn_and_repeats_are_even() -> None:
    """Nine draws of six rows of 100 tokens: three twice, three once."""
    draws = LengthUpsampling(shares={10: 0.2, 100: 0.3, 400: 0.5}).mix(POOL).draws
    times = Counter(draws.tolist())
    assert set(times) == set(range(68))
    assert sorted(times[row] for row in range(60, 66)) == [1, 1, 1, 2, 2, 2]


def test_phases_name_the_range() -> None:
    schedule = LengthUpsampling(shares={10: 0.2, 400: 0.8}).mix(POOL)
    assert {
        phase for row, phase in zip(schedule.draws, schedule.phases, strict=True) if LENGTHS[row] > 10
    } == {"11 to 400 tokens"}


def test_the_shares_that_came_out_are_told() -> None:
    notes = LengthUpsampling(shares={10: 0.2, 100: 0.3, 400: 0.5}).mix(POOL).notes
    assert notes == {
        "token_shares": {
            "1 to 10 tokens": 0.193548,
            "11 to 100 tokens": 0.290323,
            "101 to 400 tokens": 0.516129,
        }
    }


def test_draws_are_shuffled() -> None:
    phases = LengthUpsampling(shares={10: 0.3, 400: 0.7}).mix(POOL).phases
    assert phases not in (sorted(phases), sorted(phases, reverse=True))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({10: 0.5, 100: 0.5}, "The longest has 400 tokens, the largest bound is 100"),
        ({10: 0.5, 50: 0.1, 400: 0.4}, "asks for rows of 11 to 50 tokens, and there is none"),
        ({10: 0.01, 400: 0.99}, "11 to 400 tokens would be drawn 42.4 times each"),
    ],
)
def test_shares_that_cannot_be_had_are_an_error(shares: dict[int, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LengthUpsampling(shares=shares).mix(POOL)


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match="must sum to 1. Got 0.7"):
        LengthUpsampling(shares={10: 0.3, 400: 0.4})


def test_bounds_are_read_from_a_configuration() -> None:
    written = {"length_upsampling": {"shares": {10: 0.5, 400: 0.5}}}
    assert read_method("mixers", written, Registry()) == LengthUpsampling(shares={10: 0.5, 400: 0.5})
