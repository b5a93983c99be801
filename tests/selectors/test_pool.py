"""What a pool answers: columns, numbers, groups, keys, directions, budgets."""

import numpy as np
import polars as pl
import pytest
from candidates import pool_of

from curate.budget import Budget
from curate.errors import ConfigError, DataError
from curate.pool import column_of

ALL = np.arange(4)


@pytest.mark.parametrize(
    ("by", "column"),
    [
        ("el2n", "score.el2n"),
        ("score.el2n", "score.el2n"),
        ("score.donod.delta", "score.donod.delta"),
        ("meta.level", "meta.level"),
        ("tokens", "tokens"),
        ("cluster_distance", "cluster_distance"),
        ("length", "score.length"),
    ],
)
def test_column_of(by: str, column: str) -> None:
    assert column_of(by) == column


def test_values_are_nan_where_null() -> None:
    pool = pool_of({"score.a": [1.0, None, 3.0]})
    np.testing.assert_array_equal(pool.values("score.a"), [1, np.nan, 3])


def test_text_that_holds_numbers_is_read() -> None:
    assert pool_of({"meta.level": ["2", None, "10"]}).values("meta.level")[2] == 10


def test_text_that_holds_no_number_is_an_error_with_an_example() -> None:
    with pytest.raises(DataError, match=r"`meta.level` must hold numbers .* Got 'easy' \(1 such rows\)"):
        pool_of({"meta.level": ["2", None, "easy"]}).values("meta.level")


def test_a_missing_column_is_named_with_those_that_are_there() -> None:
    with pytest.raises(
        ConfigError, match=r"no column `score.a` here; there are position, uid, source, score.b"
    ):
        pool_of({"score.b": [1.0]}).values("score.a")


def test_texts_have_four_digits_and_whole_numbers_no_point() -> None:
    pool = pool_of({"score.a": [0.123456, 12.0, None]})
    assert pool.texts("score.a").to_list() == ["0.1235", "12", None]


def test_groups_are_in_ascending_order_of_the_value() -> None:
    groups = pool_of({"cluster": [10, 2, 10, None]}).groups("cluster")
    assert groups.names == ("2", "10", "null")
    assert groups.labels.tolist() == [1, 0, 1, 2]


def test_sizes_count_the_given_rows_only() -> None:
    groups = pool_of({"cluster": [10, 2, 10, 3]}).groups("cluster")
    assert groups.sizes(np.array([0, 2, 1])).tolist() == [1, 0, 2]


def test_keys_follow_the_uid_and_not_the_place() -> None:
    there = pool_of({"uid": ["a", "b", "c"]}).keys("x")
    here = pool_of({"uid": ["c", "a"]}).keys("x")
    np.testing.assert_array_equal(here, there[[2, 0]])


def test_equal_uids_draw_apart_and_the_first_draws_as_if_alone() -> None:
    twice = pool_of({"uid": ["a", "b", "a"]}).keys("x")
    assert twice[0] != twice[2]
    assert twice[0] == pool_of({"uid": ["a"]}).keys("x")[0]


def test_keys_differ_by_purpose_and_seed() -> None:
    keys = {pool_of({"uid": ["a"]}, seed=seed).keys(name)[0] for seed in (0, 1) for name in ("x", "y")}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("better", "order", "highest"),
    [(True, None, True), (False, None, False), (True, "lowest", False), (None, "highest", True)],
)
def test_direction_is_the_scorers_unless_given(better: bool | None, order: str | None, highest: bool) -> None:
    assert pool_of({"score.a": [1.0]}, {"score.a": better}).highest_first("score.a", order) is highest


def test_no_direction_is_an_error_that_says_what_to_write() -> None:
    message = "`el2n` does not state .* Write `order: highest` or `order: lowest` beside `by: el2n`"
    with pytest.raises(ConfigError, match=message):
        pool_of({"score.el2n": [1.0]}, {"score.el2n": None}).highest_first("score.el2n", None)


def test_a_plain_column_has_no_direction() -> None:
    with pytest.raises(ConfigError, match="`tokens` does not state"):
        pool_of({"tokens": [1]}).highest_first("tokens", None)


def tokens(*counts: int) -> pl.Series:
    return pl.Series(counts, dtype=pl.Int32)


def test_take_rows() -> None:
    assert pool_of({"tokens": [1] * 4}).take(ALL[::-1], Budget.parse(3)).tolist() == [3, 2, 1]


def test_take_a_share_of_the_pool_and_not_of_the_candidates() -> None:
    assert pool_of({"tokens": [1] * 4}).take(ALL[:2], Budget.parse("50%")).tolist() == [0, 1]


def test_take_more_rows_than_there_are_is_an_error_with_both_numbers() -> None:
    with pytest.raises(DataError, match="at most the 2 rows that can be chosen, of a pool of 4 rows. Got 3"):
        pool_of({"tokens": [1] * 4}).take(ALL[:2], Budget.parse(3))


def test_take_a_share_of_more_than_the_candidates_is_an_error() -> None:
    with pytest.raises(DataError, match=r"Got 75% \(3 rows\)"):
        pool_of({"tokens": [1] * 4}).take(ALL[:2], Budget.parse("75%"))


@pytest.mark.parametrize("budget", ["100%", "100% tokens"])
def test_all_is_all_that_can_be_chosen(budget: str) -> None:
    assert pool_of({"supervised_tokens": [1] * 4}).take(ALL[:2], Budget.parse(budget)).tolist() == [0, 1]


def test_tokens_stop_at_the_first_row_that_does_not_fit() -> None:
    """After 5 + 9, row 2 (8) passes 20 and ends it, though row 3 (1) would fit."""
    pool = pool_of({"supervised_tokens": tokens(5, 9, 8, 1)})
    assert pool.take(ALL, Budget.parse("20 tokens")).tolist() == [0, 1]


def test_tokens_that_fit_exactly_are_kept() -> None:
    pool = pool_of({"supervised_tokens": tokens(5, 9, 8, 1)})
    assert pool.take(ALL, Budget.parse("22 tokens")).tolist() == [0, 1, 2]


def test_a_share_of_tokens_is_of_the_whole_pool() -> None:
    pool = pool_of({"supervised_tokens": tokens(5, 5, 5, 5)})
    assert pool.take(ALL[:3], Budget.parse("50% tokens")).tolist() == [0, 1]


def test_characters_are_counted_by_their_own_column() -> None:
    pool = pool_of({"supervised_tokens": [9] * 4, "supervised_characters": [5, 9, 8, 1]})
    assert pool.take(ALL, Budget.parse("20 characters")).tolist() == [0, 1]


def test_more_characters_than_there_are_is_an_error_in_characters() -> None:
    pool = pool_of({"supervised_characters": [5, 9, 8, 1]})
    with pytest.raises(DataError, match=r"at most the 23 characters .* Got 24 characters"):
        pool.take(ALL, Budget.parse("24 characters"))


def test_more_tokens_than_there_are_is_an_error_with_both_numbers() -> None:
    pool = pool_of({"supervised_tokens": tokens(5, 9, 8, 1)})
    with pytest.raises(DataError, match=r"at most the 23 tokens .* Got 24 tokens"):
        pool.take(ALL, Budget.parse("24 tokens"))


def test_tokens_that_hold_no_row_are_an_error() -> None:
    pool = pool_of({"supervised_tokens": tokens(5, 9, 8, 1)})
    with pytest.raises(DataError, match="must hold the first row, 5 tokens. Got 4 tokens"):
        pool.take(ALL, Budget.parse("4 tokens"))


def test_a_row_without_a_token_count_is_an_error() -> None:
    with pytest.raises(DataError, match="1 have none"):
        pool_of({"supervised_tokens": [5, None]}).counts("supervised_tokens")


def test_nothing_to_choose_from_is_an_error() -> None:
    with pytest.raises(DataError, match="none of the 4 rows can be chosen"):
        pool_of({"tokens": [1] * 4}).take(ALL[:0], Budget.parse("100%"))


BALANCED = pool_of(
    {
        "source": ["a"] * 6 + ["b"] * 3 + ["c"],
        "supervised_tokens": pl.Series([2] * 10, dtype=pl.Int32),
    }
)


def counts(budget: object, allocation: str) -> list[int]:
    groups = BALANCED.groups("source")
    kept = BALANCED.take_balanced(np.arange(10), Budget.parse(budget), groups, allocation)
    return groups.sizes(kept).tolist()


@pytest.mark.parametrize(
    ("budget", "allocation", "shares"),
    [
        (5, "proportional", [3, 2, 0]),
        (10, "proportional", [6, 3, 1]),
        (6, "equal", [3, 2, 1]),
        (9, "equal", [5, 3, 1]),
        ("10 tokens", "proportional", [3, 2, 0]),
        ("6 tokens", "equal", [1, 1, 1]),
        ("11 tokens", "equal", [2, 2, 1]),
    ],
)
def test_balanced_shares(budget: object, allocation: str, shares: list[int]) -> None:
    assert counts(budget, allocation) == shares


def test_balanced_rows_stay_in_rank_order() -> None:
    order = np.arange(10)[::-1]
    kept = BALANCED.take_balanced(order, Budget.parse(5), BALANCED.groups("source"), "proportional")
    assert kept.tolist() == [8, 7, 5, 4, 3]
