"""k-center: farthest first."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from candidates import pool_of, random_pool, unit

from curate.constraints import Constraints
from curate.errors import DataError
from curate.pool import Pool
from curate.selectors.k_center import KCenter


def pool(vectors: list[list[float] | None]) -> Pool:
    return pool_of(
        {
            "id": [f"id-{row}" for row in range(len(vectors))],
            "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2)),
            "supervised_tokens": [10] * len(vectors),
        }
    )


FIVE = pool([[0.8, 0.6], [1, 0], [0.96, 0.28], [0, 1], None])
"""The mean points to (0.69, 0.47): row 0 is nearest to it."""


def test_the_first_is_nearest_to_the_mean_and_then_the_farthest() -> None:
    """From row 0: row 3 at 1 − .6, row 1 at 1 − .8; then row 2."""
    chosen = KCenter(budget=4).select(FIVE)
    assert chosen.kept.tolist() == [0, 3, 1, 2]
    assert chosen.reasons == [
        "choice 1, nearest to the mean of all",
        "choice 2, the farthest: cosine distance 0.4 to those before",
        "choice 3, the farthest: cosine distance 0.2 to those before",
        "choice 4, the farthest: cosine distance 0.04 to those before",
    ]


def test_the_radius_is_the_largest_distance_of_a_dropped_row() -> None:
    chosen = KCenter(budget=2).select(FIVE)
    assert chosen.notes["radius"] == pytest.approx(0.2, abs=1e-6)
    assert chosen.dropped_reasons == [
        "within cosine distance 0.2 of a kept row",
        "within cosine distance 0.2 of a kept row",
        "no embedding (its text was empty)",
    ]


def test_it_covers_better_than_chance() -> None:
    candidates = random_pool(300, seed=2)
    vectors = candidates.vectors("embedding")
    chosen = KCenter(budget=30).select(candidates)
    radius = (1 - vectors @ vectors[chosen.kept].T).min(axis=1).max()
    assert chosen.notes["radius"] == pytest.approx(radius, abs=1e-6)
    assert radius < (1 - vectors @ vectors[:30].T).min(axis=1).max()


def test_included_rows_are_the_first_centres() -> None:
    chosen = KCenter(budget=2).select(replace(FIVE, constraints=Constraints(include=("id-3",)), remarks={}))
    assert chosen.kept.tolist() == [3, 1]
    assert chosen.reasons[0] == "choice 1, before the traversal"


def test_a_random_first_row_depends_on_the_seed() -> None:
    candidates = random_pool(200, seed=0)
    first = {
        int(KCenter(budget=1, first="random").select(replace(candidates, seed=seed)).kept[0])
        for seed in range(6)
    }
    assert len(first) > 3


def test_a_barred_row_is_passed_over_and_counts_for_the_radius() -> None:
    """Row 3, the farthest from row 0, is barred by it."""
    limits = Constraints.model_validate_json('{"max_per": {"source": {"b": 1}}}', strict=True)
    named = FIVE.frame.with_columns(source=pl.Series(list("baaba")))
    candidates = replace(FIVE, frame=named, constraints=limits, remarks={})
    chosen = KCenter(budget=2).select(candidates)
    assert chosen.kept.tolist() == [0, 1]
    assert chosen.notes["radius"] == pytest.approx(0.4, abs=1e-6)
    with pytest.raises(DataError, match="max_per of source b"):
        KCenter(budget=4).select(replace(candidates, remarks={}))


def test_a_row_that_waits_for_a_minimum_comes_back() -> None:
    limits = Constraints.model_validate_json('{"min_per": {"source": {"b": 1}}}', strict=True)
    named = FIVE.frame.with_columns(source=pl.Series(list("aabaa")))
    chosen = KCenter(budget=3).select(replace(FIVE, frame=named, constraints=limits, remarks={}))
    assert chosen.kept.tolist() == [2, 3, 0]


def test_tokens_stop_at_the_first_that_does_not_fit() -> None:
    assert KCenter(budget="25 tokens").select(FIVE).kept.tolist() == [0, 3]
    with pytest.raises(DataError, match="must hold the first row"):
        KCenter(budget="9 tokens").select(FIVE)


def test_the_scale_of_a_vector_does_not_count() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(20, 2)))
    scaled = vectors * np.linspace(0.5, 5, 20, dtype=np.float32)[:, None]
    assert (
        KCenter(budget=8).select(pool(scaled.tolist())).kept.tolist()
        == KCenter(budget=8).select(pool(vectors.tolist())).kept.tolist()
    )
