"""Round robin: the best of each group in turn."""

import pytest
from candidates import pool_of

from curate.errors import ConfigError, DataError
from curate.selectors.round_robin import RoundRobin

POOL = pool_of(
    {
        "score.ifd": [0.2, 0.9, 0.1, 0.8, 0.7, None, 1.4],
        "source": ["a", "a", "a", "b", "b", "b", "c"],
        "supervised_tokens": [5, 5, 5, 5, 5, 5, 5],
    },
    {"score.ifd": None},
)


def test_turns_by_rank_and_within_a_turn_by_score() -> None:
    chosen = RoundRobin(by="ifd", order="lowest", budget="100%").select(POOL)
    assert chosen.kept.tolist() == [2, 4, 6, 0, 3, 1]


def test_highest_first() -> None:
    chosen = RoundRobin(by="ifd", order="highest", budget=4).select(POOL)
    assert chosen.kept.tolist() == [6, 1, 3, 4]


def test_no_source_is_more_than_one_ahead_while_all_have_rows() -> None:
    chosen = RoundRobin(by="ifd", order="lowest", budget=5).select(POOL)
    assert POOL.groups("source").sizes(chosen.kept).tolist() == [2, 2, 1]


def test_bounds_are_included() -> None:
    chosen = RoundRobin(by="ifd", order="lowest", budget="100%", min=0.2, max=0.8).select(POOL)
    assert sorted(chosen.kept.tolist()) == [0, 3, 4]


def test_reasons() -> None:
    chosen = RoundRobin(by="ifd", order="lowest", budget=2, max=1.0).select(POOL)
    assert chosen.reasons == [
        "ifd 0.1, rank 1 of 6 (lowest first); source a: 1 of 3 rows kept, turn 1",
        "ifd 0.7, rank 3 of 6 (lowest first); source b: 1 of 2 rows kept, turn 1",
    ]
    assert chosen.dropped_reasons[-2:] == [
        "no score (score.ifd is null)",
        "ifd 1.4, rank 6 of 6 (lowest first), above the maximum of 1",
    ]


def test_tokens_stop_at_the_first_that_does_not_fit() -> None:
    chosen = RoundRobin(by="ifd", order="lowest", budget="14 tokens").select(POOL)
    assert chosen.kept.tolist() == [2, 4]


def test_a_budget_beyond_the_bounds_is_an_error() -> None:
    with pytest.raises(DataError, match="at most the 5 rows"):
        RoundRobin(by="ifd", order="lowest", budget=6, max=1.0).select(POOL)


def test_a_score_without_direction_needs_an_order() -> None:
    with pytest.raises(ConfigError, match="`order: highest`"):
        RoundRobin(by="ifd", budget=6).select(POOL)


def test_check_finds_the_missing_order_before_any_work() -> None:
    with pytest.raises(ConfigError, match="`order: highest`"):
        RoundRobin(by="ifd", budget=6).check({"score.ifd": None})
