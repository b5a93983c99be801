"""Leverage: the rows that alone hold up a direction."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from candidates import pool_of, random_pool

from curate.selectors.leverage import Leverage

POOL = pool_of(
    {
        "embedding": pl.Series(
            [[1, 0, 0], [1, 0, 0], [0, 2, 0], None, [0, 0, 0]], dtype=pl.Array(pl.Float32, 3)
        ),
        "supervised_tokens": [10] * 5,
    }
)


def test_a_lone_direction_comes_first() -> None:
    chosen = Leverage(budget=2).select(POOL)
    assert chosen.kept.tolist() == [2, 0]
    assert chosen.reasons == ["leverage 1 of rank 2, place 1 of 4", "leverage 0.5 of rank 2, place 2 of 4"]
    assert chosen.dropped_reasons == [
        "leverage 0.5 of rank 2, place 3 of 4, the budget was spent before it",
        "no embedding (its text was empty)",
        "leverage 0 of rank 2, place 4 of 4, the budget was spent before it",
    ]


def test_the_largest_direction_alone() -> None:
    chosen = Leverage(budget=2, components=1).select(POOL)
    assert sorted(chosen.kept.tolist()) == [0, 1]
    assert chosen.notes == {"rank": 1}


def test_a_draw_is_in_proportion_to_leverage() -> None:
    """1 against .5 and .5: row 2 is drawn first in half of the draws."""
    first = [
        int(Leverage(budget=1, draw="sample").select(replace(POOL, seed=seed)).kept[0]) for seed in range(400)
    ]
    assert 160 < first.count(2) < 240
    assert first.count(4) == 0


def test_a_draw_leaves_zero_leverage_for_last() -> None:
    assert Leverage(budget=4, draw="sample").select(POOL).kept.tolist()[-1] == 4


def test_scores_sum_to_the_rank() -> None:
    candidates = random_pool(60, seed=0)
    reasons = Leverage(budget="100%").select(candidates).reasons
    assert sum(float(reason.split()[1]) for reason in reasons) == pytest.approx(8, abs=1e-2)


def test_best_first() -> None:
    candidates = random_pool(60, seed=0)
    reasons = Leverage(budget="50%").select(candidates).reasons
    values = [float(reason.split()[1]) for reason in reasons]
    assert values == sorted(values, reverse=True)
    assert np.isfinite(values).all()
