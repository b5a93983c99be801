"""Selectors whose target rows choose: in turn (RDS+), and in rounds (test-centric arrangement)."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from candidates import pool_of, random_pool, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.constraints import Constraints
from curate.errors import DataError
from curate.numerics.ranking import choose_in_turn
from curate.pool import Pool, Target
from curate.selectors import test_centric as centric
from curate.selectors.round_robin_target import RoundRobinTarget


def pool(vectors: list[list[float] | None], target: list[list[float]]) -> Pool:
    """Rows and target rows of two numbers."""
    made = pool_of(
        {
            "id": [f"id-{row}" for row in range(len(vectors))],
            "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2)),
            "supervised_tokens": [10] * len(vectors),
        }
    )
    return replace(made, target=Target(np.array(target, dtype=np.float32)))


FIVE = pool([[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1], [0.1, 0.9]], [[1, 0], [0, 1]])
ALIKE = pool([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]], [[1, 0], [1, 0], [0, 1]])


def limited(given: Pool, written: str) -> Pool:
    return replace(given, constraints=Constraints.model_validate_json(written, strict=True), remarks={})


def test_turns() -> None:
    """Target row 0 takes 0, row 1 takes 3, row 0 takes 1, row 1 takes 4, row 0 takes 2."""
    assert RoundRobinTarget(budget=5).select(FIVE).kept.tolist() == [0, 3, 1, 4, 2]


def test_two_alike_do_not_share_in_turns() -> None:
    assert RoundRobinTarget(budget=3).select(ALIKE).kept.tolist() == [0, 1, 2]


def test_reasons_of_turns() -> None:
    chosen = RoundRobinTarget(budget=3).select(
        pool([[1, 0], [0.6, 0.8], [0, 1], None, [0, -1]], [[1, 0], [0, 1]])
    )
    assert chosen.reasons == [
        "chosen by target row 0 in its turn 1, cosine 1",
        "chosen by target row 1 in its turn 1, cosine 1",
        "chosen by target row 0 in its turn 2, cosine 0.6",
    ]
    assert chosen.dropped_reasons == [
        "no embedding (its text was empty)",
        "nearest target row 0, cosine 0; left when the turns ended",
    ]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 60))
def test_turns_are_those_of_the_whole_similarity(seed: int, rows: int) -> None:
    candidates = random_pool(rows, seed)
    similarity = candidates.vectors("embedding").astype(np.float64) @ candidates.target.vectors.T
    kept = RoundRobinTarget(budget=rows).select(candidates).kept
    assert choose_in_turn(similarity)[kept].tolist() == list(range(rows))


def test_turns_end_when_a_row_does_not_fit_the_tokens() -> None:
    assert RoundRobinTarget(budget="29 tokens").select(FIVE).kept.tolist() == [0, 3]


def test_a_row_that_waits_for_a_minimum_is_chosen_in_a_later_turn() -> None:
    named = replace(FIVE, frame=FIVE.frame.with_columns(source=pl.Series(list("aaaba"))))
    chosen = RoundRobinTarget(budget=3).select(limited(named, '{"min_per": {"source": {"b": 1}}}'))
    assert chosen.kept.tolist() == [3, 4, 0]


def test_included_rows_come_first_and_are_not_chosen_again() -> None:
    chosen = RoundRobinTarget(budget=3).select(limited(FIVE, '{"include": ["id-0"]}'))
    assert chosen.kept.tolist() == [0, 1, 3]


def test_a_budget_beyond_the_rows_with_an_embedding_is_an_error() -> None:
    with pytest.raises(DataError, match="at most the 1 rows"):
        RoundRobinTarget(budget=2).select(pool([[1, 0], None], [[1, 0]]))


@pytest.mark.parametrize("selector", [RoundRobinTarget(budget=1), centric.TestCentric(budget=1)])
def test_without_a_target(selector: RoundRobinTarget) -> None:
    with pytest.raises(DataError, match="target must have embeddings"):
        selector.select(replace(FIVE, target=Target()))


def test_two_alike_share_a_row_in_a_round() -> None:
    """Round 1: rows 0 (of both that are alike) and 2; round 2: row 1 alone, nearest to all three; then row 3."""
    chosen = centric.TestCentric(budget=4).select(ALIKE)
    assert chosen.kept.tolist() == [0, 2, 1, 3]
    assert [reason.split("taken in round ")[1][0] for reason in chosen.reasons] == ["1", "1", "2", "3"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(5, 60))
def test_rounds_are_those_of_the_plainest_way(seed: int, rows: int) -> None:
    """No row twice; round 1 covers every target row's nearest; a budget of all returns all."""
    candidates = random_pool(rows, seed)
    similarity = candidates.vectors("embedding").astype(np.float64) @ candidates.target.vectors.T
    expected: list[int] = []
    left = np.ones(rows, dtype=bool)
    while left.any():
        named = np.where(left[:, None], similarity, -np.inf).argmax(axis=0)
        taken = list(dict.fromkeys(named.tolist()))
        expected += taken
        left[taken] = False
    assert centric.TestCentric(budget=rows).select(candidates).kept.tolist() == expected
    assert centric.TestCentric(budget=5).select(candidates).kept.tolist() == expected[:5]


def test_reasons_of_rounds() -> None:
    candidates = pool([[1, 0], [0.6, 0.8], [0, 1], None], [[1, 0], [0, 1]])
    chosen = centric.TestCentric(budget=2).select(candidates)
    assert chosen.reasons[0].startswith("nearest target row 0, cosine 1; taken in round 1; WSD -2")
    assert chosen.dropped_reasons == [
        "nearest target row 1, cosine 0.8; not taken in 1 rounds",
        "no embedding (its text was empty)",
    ]


def test_weighted_distance() -> None:
    """least −1 and −.5, mean −.5 and −.25: w = −.75 / −.375 = 2, WSD = −1 + 2 · −.5 and −.5 + 2 · −.25."""
    weight, found = centric.weighted_distance(np.array([-1, -0.5]), np.array([-0.5, -0.25]), np.arange(2))
    assert weight == 2
    assert found.tolist() == [-2, -1]


def test_the_weight_is_of_the_kept_rows() -> None:
    weight, _ = centric.weighted_distance(np.array([-1, -0.5, 7]), np.array([-0.5, -0.25, 1]), np.arange(2))
    assert weight == 2


def test_arrangements_order_the_same_rows() -> None:
    candidates = random_pool(60, seed=4)
    rounds, nearest, furthest, mixed = (
        centric.TestCentric(budget=20, arrangement=each).select(candidates).kept.tolist()
        for each in ("rounds", "nearest", "furthest", "random")
    )
    assert sorted(rounds) == sorted(nearest) == sorted(furthest) == sorted(mixed)
    assert nearest == furthest[::-1]
    assert len({tuple(each) for each in (rounds, nearest, furthest, mixed)}) == 4


def test_nearest_first_is_by_ascending_wsd() -> None:
    """Two target rows: row 0 lies on one of them, row 1 between both."""
    candidates = pool([[1, 0], [1, 0.2], [0.2, 1]], unit(np.array([[1, 0], [1, 0.1]])).tolist())
    kept = centric.TestCentric(budget=3, arrangement="nearest").select(candidates).kept
    assert kept.tolist()[-1] == 2
    assert centric.TestCentric(budget=3, arrangement="furthest").select(candidates).kept.tolist()[0] == 2


def test_a_barred_row_is_passed_over_in_its_round() -> None:
    named = replace(FIVE, frame=FIVE.frame.with_columns(source=pl.Series(list("aabbb"))))
    chosen = centric.TestCentric(budget=4).select(limited(named, '{"max_per": {"source": {"a": 1}}}'))
    assert chosen.kept.tolist() == [0, 3, 2, 4]
    assert "not taken" not in chosen.dropped_reasons[0]
