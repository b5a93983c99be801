"""Deita's filter: the best rows that are not near to a better one."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from candidates import pool_of, random_pool

from curate.constraints import Constraints
from curate.errors import ConfigError, DataError
from curate.pool import Pool
from curate.selectors.deita import Deita


def pool(scores: list[float | None], vectors: list[list[float] | None]) -> Pool:
    return pool_of(
        {
            "id": [f"id-{row}" for row in range(len(scores))],
            "score.deita": scores,
            "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2)),
            "supervised_tokens": [10] * len(scores),
        },
        {"score.deita": True},
    )


THREE = pool([3.0, 2.0, 1.0], [[1, 0], [0.95, 0.312], [0, 1]])


def test_the_second_is_near_to_the_first() -> None:
    assert Deita(by="deita", budget=2).select(THREE).kept.tolist() == [0, 2]


def test_a_looser_bound_keeps_all() -> None:
    assert Deita(by="deita", budget=3, max_similarity=0.96).select(THREE).kept.tolist() == [0, 1, 2]


def test_the_score_decides_which_of_two_alike_is_kept() -> None:
    chosen = Deita(by="deita", order="lowest", budget=2).select(THREE)
    assert chosen.kept.tolist() == [2, 1]


def test_stopping_early_gives_a_prefix() -> None:
    candidates = random_pool(60, seed=1)
    whole = Deita(by="good", budget=30, max_similarity=0.7).select(candidates).kept
    for budget in (1, 7, 20):
        assert (
            Deita(by="good", budget=budget, max_similarity=0.7).select(candidates).kept.tolist()
            == whole[:budget].tolist()
        )


def test_reasons() -> None:
    chosen = Deita(by="deita", budget=2).select(
        pool([4.0, 3.0, 2.0, 1.0, None, 0.5], [[1, 0], [0.95, 0.312], [0, 1], [0, 1], [1, 0], None])
    )
    assert chosen.reasons == ["deita 4, rank 1 of 5 (highest first)", "deita 2, rank 3 of 5 (highest first)"]
    assert chosen.dropped_reasons == [
        "deita 3, rank 2 of 5 (highest first); cosine 0.9501 to row `id-0`, which is kept",
        "deita 1, rank 4 of 5 (highest first); the budget was spent before it",
        "no score (score.deita is null)",
        "deita 0.5, rank 5 of 5 (highest first); no embedding (its text was empty)",
    ]
    assert chosen.notes == {"too_similar": 1, "max_similarity": 0.9}


def test_too_few_diverse_rows_are_an_error_that_says_how_many() -> None:
    with pytest.raises(
        DataError, match=r"at most the 2 rows.* Got 3.* 1 more have a cosine above 0.9.*`max_similarity`"
    ):
        Deita(by="deita", budget=3).select(THREE)


def test_all_means_all_that_are_diverse() -> None:
    assert Deita(by="deita", budget="100%").select(THREE).kept.tolist() == [0, 2]


def test_a_row_near_to_an_included_one_is_dropped() -> None:
    limits = Constraints(include=("id-1",))
    chosen = Deita(by="deita", budget=2).select(replace(THREE, constraints=limits, remarks={}))
    assert chosen.kept.tolist() == [1, 2]
    assert "cosine 0.9501 to row `id-1`, which is kept" in chosen.dropped_reasons[0]


def test_a_row_that_waits_for_a_minimum_comes_back() -> None:
    """Row 0 is the best, but one of `code` is needed: row 2, then row 0 again."""
    named = replace(
        THREE, frame=THREE.frame.with_columns(source=pl.Series(["chat", "chat", "code"])), remarks={}
    )
    limits = Constraints.model_validate_json('{"min_per": {"source": {"code": 1}}}', strict=True)
    chosen = Deita(by="deita", budget=2).select(replace(named, constraints=limits, remarks={}))
    assert chosen.kept.tolist() == [2, 0]


def test_tokens_stop_at_the_first_that_does_not_fit() -> None:
    assert Deita(by="deita", budget="19 tokens").select(THREE).kept.tolist() == [0]


def test_a_row_that_is_too_near_does_not_end_a_budget_in_tokens() -> None:
    frame = THREE.frame.with_columns(supervised_tokens=pl.Series([10, 99, 10]))
    assert Deita(by="deita", budget="20 tokens").select(
        replace(THREE, frame=frame, remarks={})
    ).kept.tolist() == [0, 2]


def test_check_finds_the_missing_order() -> None:
    with pytest.raises(ConfigError, match="`order: highest`"):
        Deita(by="ifd", budget=6).check({"score.ifd": None})


def test_memory_is_stated_for_a_plan() -> None:
    stated = Deita(by="deita", budget="5%").expected_memory_bytes(84_636, 384)
    assert 2 * 84_636 * 384 * 4 < stated < 2**29


def test_nothing_has_an_embedding() -> None:
    with pytest.raises(DataError, match="none of the 1 rows has an embedding"):
        Deita(by="deita", budget=1).select(pool([1.0], [None]))


def test_kept_rows_are_as_diverse_as_asked() -> None:
    candidates = random_pool(60, seed=5)
    kept = Deita(by="good", budget="100%", max_similarity=0.5).select(candidates).kept
    vectors = candidates.vectors("embedding")
    cosine = vectors[kept] @ vectors[kept].T - 2 * np.eye(len(kept))
    assert cosine.max() <= 0.5 + 1e-6
    rest = np.setdiff1d(np.arange(60), kept)
    assert (vectors[rest] @ vectors[kept].T).max(axis=1).min() > 0.5 - 1e-6
