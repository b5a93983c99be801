"""Stratified: equal rows from every level of a score."""

import numpy as np
import pytest
from candidates import pool_of

from curate.errors import DataError
from curate.pool import Pool
from curate.selectors.stratified import Stratified


def pool(scores: list[float | None], tokens: list[int] | None = None, seed: int = 0) -> Pool:
    counts = tokens or [5] * len(scores)
    return pool_of({"score.s": scores, "supervised_tokens": counts}, {"score.s": None}, seed)


def test_every_stratum_gives_the_same() -> None:
    chosen = Stratified(by="s", budget=8, bins=4, low=0, high=1).select(pool([float(i) for i in range(41)]))
    assert np.histogram(chosen.kept, [0, 10, 20, 30, 41])[0].tolist() == [2, 2, 2, 2]


def test_a_short_stratum_gives_all_and_its_deficit_is_spread() -> None:
    """One row at 0; six in the middle; six at the top: 1, 4 and 4, not 3, 3 and 3."""
    scores = [0.0] + [1.5] * 6 + [3.0] * 6
    chosen = Stratified(by="s", budget=9, bins=3, low=0, high=1).select(pool(scores))
    assert np.histogram(chosen.kept, [0, 1, 7, 13])[0].tolist() == [1, 4, 4]


def test_a_deficit_of_the_lowest_goes_to_the_higher_ones() -> None:
    """Walking down once, as the code does, would leave the budget unmet."""
    scores = [0.0] + [3.0] * 6
    chosen = Stratified(by="s", budget=5, bins=3, low=0, high=1).select(pool(scores))
    assert (chosen.kept > 0).sum() == 4


def test_what_is_left_over_goes_to_the_highest() -> None:
    chosen = Stratified(by="s", budget=4, bins=3, low=0, high=1).select(pool([0.0, 0.0, 1.5, 1.5, 3.0, 3.0]))
    assert np.histogram(chosen.kept, [0, 2, 4, 6])[0].tolist() == [1, 1, 2]


def test_ranks_take_turns_from_the_highest() -> None:
    chosen = Stratified(by="s", budget="100%", bins=3, low=0, high=1).select(pool([0.0, 1.5, 3.0]))
    assert chosen.kept.tolist() == [2, 1, 0]


def test_the_tails_are_never_chosen() -> None:
    chosen = Stratified(by="s", budget="100%").select(pool([float(i) for i in range(101)]))
    assert sorted(chosen.kept.tolist()) == list(range(5, 96))


def test_rows_of_a_stratum_are_drawn_uniformly() -> None:
    """One of four in 400 pools: 100 each, standard deviation 8.7."""
    kept = [Stratified(by="s", budget=1).select(pool([1.0] * 4, seed=s)).kept[0] for s in range(400)]
    assert np.abs(np.bincount(kept, minlength=4) - 100).max() < 35


def test_tokens_are_spent_by_rows_in_turn() -> None:
    """Turns: 10 tokens at the top, 2 below, 10 at the top; the third does not fit into 21."""
    candidates = pool([0.0, 0.0, 3.0, 3.0], tokens=[2, 2, 10, 10])
    chosen = Stratified(by="s", budget="21 tokens", bins=2, low=0, high=1).select(candidates)
    assert sorted(candidates.values("score.s")[chosen.kept].tolist()) == [0.0, 3.0]


def test_reasons() -> None:
    scores = [float(i) for i in range(21)] + [None]
    chosen = Stratified(by="s", budget=2, bins=2).select(pool(scores))
    assert chosen.reasons[0].startswith("s 1") or chosen.reasons[0].startswith("s 2")
    assert "; stratum 1 of 2 (10 to 19): 1 of 9 rows kept" in chosen.reasons[0]
    assert chosen.dropped_reasons[0] == "s 0, below the quantile 0.05 (1)"
    assert chosen.dropped_reasons[-2] == "s 20, above the quantile 0.95 (19)"
    assert chosen.dropped_reasons[-1] == "no score (score.s is null)"
    assert any(
        reason.endswith("stratum 2 of 2 (1 to 10): 1 of 10 rows kept, not drawn")
        for reason in chosen.dropped_reasons
    )
    assert chosen.notes == {"strata": 2, "outside": 3}


def test_an_infinite_outlier_is_cut_off() -> None:
    scores = [float("inf"), *(float(i) for i in range(40))]
    assert 0 not in Stratified(by="s", budget="100%").select(pool(scores)).kept


def test_an_infinite_quantile_is_an_error() -> None:
    with pytest.raises(DataError, match="must be finite between the quantiles 0 and 1"):
        Stratified(by="s", budget=1, low=0, high=1).select(pool([float("inf"), 1.0]))


def test_a_budget_beyond_the_tails_is_an_error() -> None:
    with pytest.raises(DataError, match="at most the 91 rows"):
        Stratified(by="s", budget=92).select(pool([float(i) for i in range(101)]))


def test_low_must_be_below_high() -> None:
    with pytest.raises(ValueError, match="`low` must be below `high`"):
        Stratified(by="s", budget=1, low=0.9, high=0.1)
