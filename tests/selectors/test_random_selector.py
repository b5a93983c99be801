"""Random: uniform, nested in the budget, balanced on demand."""

import numpy as np
import pytest
from candidates import pool_of, random_pool, shuffled, uids

from curate.selectors.random import Random


def test_a_larger_budget_keeps_what_a_smaller_one_kept() -> None:
    pool = random_pool(40)
    small, large = (Random(budget=budget).select(pool).kept.tolist() for budget in (10, 25))
    assert large[:10] == small


def test_every_row_is_as_likely() -> None:
    """3 of 6 rows in each of 2,000 groups: each place about 1,000 times, standard deviation 22."""
    pool = pool_of({"source": np.repeat(np.arange(2000), 6)})
    kept = Random(budget=6000, per="source").select(pool).kept
    assert np.abs(np.bincount(kept % 6) - 1000).max() < 90


def test_seeds_differ() -> None:
    kept = [tuple(Random(budget=5).select(random_pool(40, seed)).kept.tolist()) for seed in range(3)]
    assert len(set(kept)) == 3


def test_duplicates_draw_apart() -> None:
    """Two rows of one uid: over many seeds each of them is sometimes the only one kept."""
    pools = [pool_of({"uid": ["a", "a"]}, seed=seed) for seed in range(50)]
    assert {int(Random(budget=1).select(pool).kept[0]) for pool in pools} == {0, 1}


def test_the_sequence_does_not_depend_on_the_order_of_the_pool() -> None:
    pool, other = random_pool(40), shuffled(random_pool(40))
    random = Random(budget=15)
    assert uids(pool, random.select(pool).kept) == uids(other, random.select(other).kept)


def test_balanced_shares() -> None:
    pool = pool_of({"source": ["a"] * 8 + ["b"] * 2})
    kept = Random(budget=5, per="source").select(pool).kept
    assert (kept < 8).sum() == 4


def test_reasons() -> None:
    chosen = Random(budget=1).select(pool_of({"source": ["a", "a"]}))
    assert chosen.reasons == ["random place 1 of 2, within the budget of 1"]
    assert chosen.dropped_reasons == ["random place 2 of 2, past the budget of 1"]


def test_equal_shares_without_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="it needs `per`"):
        Random(budget=2, allocation="equal")
