"""Top: by rank, overall or of each group."""

import pytest
from candidates import pool_of

from curate.errors import ConfigError, DataError
from curate.pool import Pool
from curate.selectors.top import Top


def pool(better: bool | None = True) -> Pool:
    return pool_of(
        {
            "score.a": [0.3, 0.9, None, 0.9, 0.1, 0.5],
            "source": ["x", "x", "x", "y", "y", "y"],
            "supervised_tokens": [4, 4, 4, 4, 4, 4],
        },
        {"score.a": better},
    )


def test_highest_first_in_rank_order_and_ties_by_position() -> None:
    assert Top(by="a", budget=3).select(pool()).kept.tolist() == [1, 3, 5]


def test_lowest_first_where_the_scorer_says_so() -> None:
    assert Top(by="a", budget=2).select(pool(better=False)).kept.tolist() == [4, 0]


def test_a_given_order_overrides_the_stated_one() -> None:
    assert Top(by="a", budget=2, order="lowest").select(pool()).kept.tolist() == [4, 0]


def test_a_score_without_direction_needs_an_order() -> None:
    with pytest.raises(ConfigError, match="`order: highest` or `order: lowest` beside `by: a`"):
        Top(by="a", budget=2).select(pool(better=None))


def test_check_finds_the_missing_order_before_any_work() -> None:
    with pytest.raises(ConfigError, match="`order: highest`"):
        Top(by="a", budget=2).check({"score.a": None})


def test_reasons_of_the_kept() -> None:
    chosen = Top(by="a", budget=2).select(pool())
    assert chosen.reasons == ["a 0.9, rank 1 of 5 (highest first)", "a 0.9, rank 2 of 5 (highest first)"]


def test_reasons_of_the_dropped() -> None:
    chosen = Top(by="a", budget=3).select(pool())
    assert chosen.dropped_reasons == [
        "a 0.3, rank 4 of 5 (highest first), below the cut at 0.5",
        "no score (score.a is null)",
        "a 0.1, rank 5 of 5 (highest first), below the cut at 0.5",
    ]


def test_the_lowest_first_drops_what_is_above() -> None:
    chosen = Top(by="a", budget=1, order="lowest").select(pool())
    assert chosen.dropped_reasons[0] == "a 0.3, rank 2 of 5 (lowest first), above the cut at 0.1"


def test_a_row_without_a_score_does_not_fill_the_budget() -> None:
    with pytest.raises(DataError, match="at most the 5 rows"):
        Top(by="a", budget=6).select(pool())


def test_all_leaves_only_the_rows_without_a_score() -> None:
    assert Top(by="a", budget="100%").select(pool()).dropped_reasons == ["no score (score.a is null)"]


def test_proportional_shares_follow_the_scored_rows() -> None:
    assert sorted(Top(by="a", budget=4, per="source").select(pool()).kept.tolist()) == [0, 1, 3, 5]


def test_equal_shares() -> None:
    chosen = Top(by="a", budget=2, per="source", allocation="equal").select(pool())
    assert chosen.kept.tolist() == [1, 3]


def test_reasons_of_groups() -> None:
    chosen = Top(by="a", budget=2, per="source", allocation="equal").select(pool())
    assert chosen.reasons[1] == "a 0.9, rank 2 of 5 (highest first); source y: 1 of 3 rows kept"
    assert chosen.dropped_reasons[0] == (
        "a 0.3, rank 4 of 5 (highest first); source x: 1 of 2 rows kept, below its cut at 0.9"
    )


def test_tokens_are_greedy_in_rank_order() -> None:
    assert Top(by="a", budget="9 tokens").select(pool()).kept.tolist() == [1, 3]


def test_text_columns_can_be_ranked() -> None:
    levels = pool_of({"meta.level": ["10", "9", "2"]})
    assert Top(by="meta.level", budget=1, order="highest").select(levels).kept.tolist() == [0]


def test_equal_shares_without_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="it needs `per`"):
        Top(by="a", budget=2, allocation="equal")


def test_needs_name_every_column_that_is_read() -> None:
    top = Top(by="a", budget="9 tokens", per="cluster")
    assert top.needs() == {"score.a", "cluster", "supervised_tokens"}
