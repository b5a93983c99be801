"""Repeats: how often each bin's rows are drawn, which end is best, how far copies are apart."""

from collections import Counter

import numpy as np
import pytest
from candidates import pool_of, uids
from candidates import shuffled as reordered

from curate.errors import ConfigError, DataError
from curate.mixers.repeats import Repeats

POOL = pool_of({"score.good": np.random.default_rng(0).permutation(80) / 80}, {"score.good": True})
GOOD = POOL.values("score.good")


def times(mixer: Repeats) -> np.ndarray:
    """How often each row is drawn, the worst row first."""
    return np.bincount(mixer.mix(POOL).draws, minlength=80)[np.argsort(GOOD)]


def test_each_bin_is_drawn_as_often_as_asked() -> None:
    drawn = times(Repeats(by="good", times=(0.0, 1.0, 2.0, 4.0)))
    assert drawn.tolist() == [0] * 20 + [1] * 20 + [2] * 20 + [4] * 20


def test_a_fraction_is_that_share_of_the_bins_rows() -> None:
    drawn = times(Repeats(by="good", times=(0.5, 2.25)))
    assert Counter(drawn[:40].tolist()) == {0: 20, 1: 20}
    assert Counter(drawn[40:].tolist()) == {2: 30, 3: 10}


def test_the_share_is_chosen_at_random() -> None:
    first = times(Repeats(by="good", times=(0.5,)))
    assert 5 < first[:40].sum() < 35


def test_lowest_turns_the_bins_round() -> None:
    drawn = times(Repeats(by="good", order="lowest", times=(0.0, 3.0)))
    assert drawn.tolist() == [3] * 40 + [0] * 40


def test_a_score_without_a_best_end_must_be_told() -> None:
    pool = pool_of({"score.mixed": [1.0, 2.0]}, {"score.mixed": None})
    with pytest.raises(ConfigError, match="order: highest"):
        Repeats(by="mixed").mix(pool)


def test_bins_differ_by_one_row_at_most() -> None:
    pool = pool_of({"score.good": np.arange(10.0)}, {"score.good": True})
    phases = Repeats(by="good", times=(1, 1, 1)).mix(pool).phases
    assert sorted(Counter(phases).values()) == [3, 3, 4]


def test_equal_scores_are_cut_at_random() -> None:
    pool = pool_of({"score.good": np.ones(40)}, {"score.good": True})
    kept = np.sort(Repeats(by="good", times=(0, 1)).mix(pool).draws)
    assert len(kept) == 20
    assert kept.tolist() not in (list(range(20)), list(range(20, 40)))


def test_phases_name_the_bin_and_its_times() -> None:
    schedule = Repeats(by="good", times=(0.5, 2)).mix(POOL)
    best = GOOD[schedule.draws] >= 0.5
    assert {phase for phase, good in zip(schedule.phases, best, strict=True) if good} == {
        "bin 2 of 2: 2 times"
    }
    assert set(schedule.phases) == {"bin 1 of 2: 0.5 times", "bin 2 of 2: 2 times"}


def test_each_quarter_of_the_training_has_each_row_of_four_times_once() -> None:
    """All rows are drawn four times: copy j stands in quarter j."""
    draws = Repeats(by="good", times=(4,)).mix(POOL).draws
    assert all(sorted(quarter.tolist()) == list(range(80)) for quarter in np.split(draws, 4))


def test_the_mixture_of_bins_is_the_same_throughout() -> None:
    """A fifth of 500 draws is of the first bin: 20 in a fifth of the training, within four deviations."""
    pool = pool_of({"score.good": np.arange(200.0)}, {"score.good": True})
    schedule = Repeats(by="good", times=(1, 4)).mix(pool)
    first = np.array(schedule.phases) == "bin 1 of 2: 1 times"
    assert all(abs(part.sum() - 20) < 17 for part in np.split(first, 5))


def test_the_sequence_does_not_depend_on_the_order_of_the_pool() -> None:
    other = reordered(POOL)
    mixer = Repeats(by="good")
    assert uids(POOL, mixer.mix(POOL).draws) == uids(other, mixer.mix(other).draws)


def test_rows_without_a_score_are_an_error() -> None:
    pool = pool_of({"score.good": [1.0, None]}, {"score.good": True})
    with pytest.raises(DataError, match="1 of 2 have null"):
        Repeats(by="good").mix(pool)


def test_a_schedule_without_draws_is_an_error() -> None:
    with pytest.raises(DataError, match="must draw some row"):
        Repeats(by="good", times=(0, 0)).mix(POOL)
