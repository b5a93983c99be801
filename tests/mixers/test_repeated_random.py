"""RS2: rounds without replacement partition the pool; with it, their coverage is 1 - (1 - r)^R."""

from collections import Counter

import numpy as np
import pytest
from candidates import pool_of

from curate.errors import DataError
from curate.mixers.repeated_random import RepeatedRandom
from curate.pool import Pool

POOL = pool_of({"uid": [f"u{row}" for row in range(30)]})


def rounds(mixer: RepeatedRandom, pool: Pool = POOL) -> list[np.ndarray]:
    return np.split(mixer.mix(pool).draws, mixer.rounds)


def test_each_round_has_its_share() -> None:
    assert [len(each) for each in rounds(RepeatedRandom(budget="10%", rounds=4))] == [3] * 4


def test_the_share_is_rounded_to_the_nearest_row() -> None:
    assert len(rounds(RepeatedRandom(budget="25%", rounds=2), pool_of({"uid": list("abcdefg")}))[0]) == 2


def test_where_a_round_divides_the_pool_the_rounds_partition_it() -> None:
    found = rounds(RepeatedRandom(budget=6, rounds=10))
    for part in (found[:5], found[5:]):
        assert sorted(np.concatenate(part).tolist()) == list(range(30))


def test_the_next_shuffle_is_another_one() -> None:
    found = rounds(RepeatedRandom(budget=6, rounds=10))
    assert sorted(found[0].tolist()) != sorted(found[5].tolist())


def test_the_tail_of_a_shuffle_is_finished_and_filled_from_the_next() -> None:
    """30 rows, 8 a round: the fourth round takes the last 6 of the first shuffle and 2 of the second."""
    found = rounds(RepeatedRandom(budget=8, rounds=8))
    seen = set(np.concatenate(found[:3]).tolist())
    tail = found[3][:6].tolist()
    assert set(tail) == set(range(30)) - seen
    second = np.concatenate([found[3][6:], *found[4:]])[:30]
    assert sorted(second.tolist()) == list(range(30))


def test_without_replacement_no_row_is_drawn_two_times_more_than_another() -> None:
    times = Counter(RepeatedRandom(budget=7, rounds=9).mix(POOL).draws.tolist())
    assert set(times.values()) == {2, 3}


def test_with_replacement_a_round_has_distinct_rows() -> None:
    found = rounds(RepeatedRandom(budget=20, rounds=3, replacement=True))
    assert all(len(set(each.tolist())) == 20 for each in found)


def test_with_replacement_coverage_is_that_of_independent_rounds() -> None:
    """r = 0.1, R = 10, 2,000 rows: 65.13 % in the mean, four deviations are 4.3 %."""
    pool = pool_of({"uid": [f"u{row}" for row in range(2000)]})
    draws = RepeatedRandom(budget="10%", rounds=10, replacement=True).mix(pool).draws
    assert len(set(draws.tolist())) / 2000 == pytest.approx(1 - 0.9**10, abs=0.043)


def test_without_replacement_coverage_is_whole() -> None:
    pool = pool_of({"uid": [f"u{row}" for row in range(200)]})
    assert len(set(RepeatedRandom(budget="10%", rounds=10).mix(pool).draws.tolist())) == 200


def test_phases_name_the_round() -> None:
    assert RepeatedRandom(budget=1, rounds=2).mix(POOL).phases == ["round 1 of 2", "round 2 of 2"]


def test_a_round_larger_than_the_pool_is_an_error() -> None:
    with pytest.raises(DataError, match="a round of 31 rows"):
        RepeatedRandom(budget=31, rounds=1).mix(POOL)


def test_a_round_in_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="must be rows or a share of them. Got 5 tokens"):
        RepeatedRandom(budget="5 tokens", rounds=1)
