"""Static mixtures: proportional, equal, temperature, capped, given weights; repeats and draws."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from candidates import pool_of, uids

from curate.errors import ConfigError, DataError
from curate.mixer import Mixer, Schedule
from curate.mixers.capped import Capped
from curate.mixers.equal import Equal
from curate.mixers.proportional import Proportional
from curate.mixers.temperature import Temperature
from curate.mixers.weights import Weights
from curate.pool import Pool

SOURCES = ["chat"] * 16 + ["math"] * 4
POOL = pool_of({"source": SOURCES, "supervised_tokens": np.full(20, 10, dtype=np.int32)})


def shares(mixer: Mixer, pool: Pool = POOL) -> dict[str, int]:
    return dict(Counter(mixer.mix(pool).phases))


def repeats(schedule: Schedule) -> list[int]:
    return sorted(Counter(schedule.draws.tolist()).values())


def test_proportional_draws_every_row_once() -> None:
    assert sorted(Proportional().mix(POOL).draws.tolist()) == list(range(20))


def test_proportional_is_shuffled() -> None:
    schedule = Proportional().mix(POOL)
    assert schedule.draws.tolist() != list(range(20))
    assert schedule.phases != sorted(schedule.phases)


def test_seeds_give_other_orders() -> None:
    other = Pool(POOL.frame, {}, seed=1)
    assert Proportional().mix(POOL).draws.tolist() != Proportional().mix(other).draws.tolist()


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        (Proportional(draws=10), {"chat": 8, "math": 2}),
        (Proportional(draws="50%"), {"chat": 8, "math": 2}),
        (Equal(), {"chat": 10, "math": 10}),
        (Temperature(temperature=1), {"chat": 16, "math": 4}),
        (Temperature(temperature=2, draws=30), {"chat": 20, "math": 10}),
        (Capped(cap=6), {"chat": 6, "math": 4}),
        (Capped(cap=100), {"chat": 16, "math": 4}),
        (Capped(cap=6, draws=20), {"chat": 12, "math": 8}),
        (Weights(weights={"chat": 1, "math": 3}), {"chat": 5, "math": 15}),
        (Weights(weights={"chat": 1, "math": 0}), {"chat": 20}),
        (Weights(weights={"chat": 1, "math": 3}, draws="80 tokens"), {"chat": 2, "math": 6}),
        (Equal(draws="1k tokens"), {"chat": 50, "math": 50}),
    ],
)
def test_draws_of_each_group(mixer: Mixer, expected: dict[str, int]) -> None:
    assert shares(mixer) == expected


def test_phases_are_the_groups_of_the_draws() -> None:
    schedule = Equal().mix(POOL)
    assert [SOURCES[row] for row in schedule.draws] == schedule.phases


def test_a_row_repeats_whole_times_and_a_random_remainder() -> None:
    """Ten draws of four math rows: two rows three times, two twice."""
    schedule = Equal().mix(POOL)
    math = schedule.draws[schedule.draws >= 16]
    assert sorted(Counter(math.tolist()).values()) == [2, 2, 3, 3]


def test_the_capped_group_gives_different_rows() -> None:
    assert repeats(Capped(cap=6).mix(POOL)) == [1] * 10


def test_the_remainder_is_random() -> None:
    firsts = {
        tuple(np.sort(Capped(cap=3).mix(Pool(POOL.frame, {}, seed)).draws).tolist()) for seed in range(5)
    }
    assert len(firsts) == 5


def test_any_column_can_be_the_group() -> None:
    pool = pool_of({"meta.level": ["1", "2", "2", None]})
    assert shares(Equal(by="meta.level", draws=6), pool) == {"1": 2, "2": 2, "null": 2}


def test_duplicates_are_rows_of_their_own() -> None:
    pool = pool_of({"uid": ["a", "a", "b"]})
    assert sorted(Proportional().mix(pool).draws.tolist()) == [0, 1, 2]


def adjacent(draws: list[int]) -> float:
    """The share of neighbouring draws that are of the same row."""
    return sum(one == other for one, other in pairwise(draws)) / len(draws)


def test_repeats_of_a_row_are_spread() -> None:
    """Ten rows 40 times each: a tenth of the neighbours are the same row, not nearly all."""
    draws = Proportional(draws=400).mix(pool_of({"uid": [f"u{row}" for row in range(10)]})).draws
    assert adjacent(draws.tolist()) < 0.2


def test_duplicates_are_spread() -> None:
    pool = pool_of({"uid": [f"u{row % 10}" for row in range(400)]})
    assert adjacent([row % 10 for row in Proportional().mix(pool).draws.tolist()]) < 0.2


def test_tokens_are_not_passed_and_one_more_draw_would() -> None:
    rng = np.random.default_rng(0)
    pool = pool_of({"source": SOURCES, "supervised_tokens": rng.integers(5, 90, 20).astype(np.int32)})
    tokens = pool.counts("supervised_tokens")
    schedule = Equal(draws="3000 tokens").mix(pool)
    more = Equal(draws=len(schedule.draws) + 1).mix(pool)
    assert tokens[schedule.draws].sum() <= 3000 < tokens[more.draws].sum()


def test_tokens_that_hold_no_row_are_an_error() -> None:
    with pytest.raises(DataError, match="at least one row, 10 supervised tokens. Got 9 tokens"):
        Equal(draws="9 tokens").mix(POOL)


def test_tokens_of_rows_without_any_are_an_error() -> None:
    pool = pool_of({"supervised_tokens": np.zeros(3, dtype=np.int32)})
    with pytest.raises(DataError, match="All rows have 0"):
        Equal(draws="9 tokens").mix(pool)


def test_missing_and_unknown_groups_are_all_listed() -> None:
    with pytest.raises(
        ConfigError, match=r"\(chat, math\). Got without a weight: math; not among .*: code, prose\."
    ):
        Weights(weights={"chat": 1, "code": 1, "prose": 1}).mix(POOL)


def test_weights_that_are_all_zero_are_an_error() -> None:
    with pytest.raises(ConfigError, match="`weights` must have a weight above 0"):
        Weights(weights={"chat": 0, "math": 0}).mix(POOL)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Weights(weights={"chat": -1})


def test_an_empty_pool_is_an_error() -> None:
    empty = Pool(POOL.frame.head(0), {}, 0)
    with pytest.raises(DataError, match="at least one selected row"):
        Proportional().mix(empty)


def test_needs_name_what_draws_count() -> None:
    assert Equal(by="cluster", draws="9 tokens").needs() == {"cluster", "supervised_tokens"}


def test_the_sequence_does_not_depend_on_the_order_of_the_pool() -> None:
    order = np.random.default_rng(3).permutation(20).tolist()
    other = Pool(POOL.frame[order].with_columns(position=np.arange(20)), {}, 0)
    assert uids(POOL, Equal().mix(POOL).draws) == uids(other, Equal().mix(other).draws)
