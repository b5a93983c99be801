"""Curricula: sorted, interleaved within levels, and paced."""

from collections import Counter
from typing import get_args

import numpy as np
import pytest
from candidates import pool_of, uids
from candidates import shuffled as reordered

from curate.errors import DataError
from curate.mixers.curriculum import Curriculum, levels
from curate.numerics.pacing import Pacing, pacing

POOL = pool_of({"score.loss": [0.5, 0.1, 0.9, 0.3]})
PACES = get_args(Pacing)


def test_ascending_draws_the_small_values_first() -> None:
    assert Curriculum(by="loss", order="ascending").mix(POOL).draws.tolist() == [1, 3, 0, 2]


def test_descending_draws_the_large_values_first() -> None:
    assert Curriculum(by="loss", order="descending").mix(POOL).draws.tolist() == [2, 0, 3, 1]


def test_the_order_must_be_said() -> None:
    with pytest.raises(ValueError, match="order"):
        Curriculum(by="loss")


def test_phases_name_the_level() -> None:
    schedule = Curriculum(by="meta.level", order="descending").mix(
        pool_of({"meta.level": ["1", "30", "1", "4"]})
    )
    assert schedule.phases == ["level 1 of 3", "level 2 of 3", "level 3 of 3", "level 3 of 3"]


def test_equal_rows_are_in_random_order() -> None:
    orders = {
        tuple(
            Curriculum(by="a", order="ascending")
            .mix(pool_of({"score.a": [1.0] * 6}, seed=seed))
            .draws.tolist()
        )
        for seed in range(5)
    }
    assert len(orders) == 5


def test_levels_are_the_distinct_values_while_they_are_few() -> None:
    assert levels(np.array([5.0, 1.0, 5.0, 9.0]), 3).tolist() == [1, 0, 1, 2]


def test_levels_are_quantile_bins_of_many_values() -> None:
    assert np.bincount(levels(np.arange(100.0), 4)).tolist() == [25, 25, 25, 25]


def test_equal_values_share_a_level() -> None:
    values = np.array([1.0] * 90 + list(range(2, 12)))
    assert len(set(levels(values, 5)[:90].tolist())) == 1


def test_no_level_is_empty() -> None:
    values = np.array([1.0] * 90 + list(range(2, 12)))
    assert np.bincount(levels(values, 5)).min() > 0


INTERLEAVED = pool_of(
    {
        "meta.level": ["1"] * 6 + ["2"] * 4,
        "source": ["a", "a", "a", "b", "b", "b", "a", "a", "b", "b"],
    }
)


def test_groups_alternate_within_a_level() -> None:
    schedule = Curriculum(by="meta.level", order="ascending", groups="source").mix(INTERLEAVED)
    sources = INTERLEAVED.frame["source"].gather(schedule.draws).to_list()
    first, second = sources[:6], sources[6:]
    assert all(Counter(part) == {"a": 1, "b": 1} for part in (first[:2], first[2:4], first[4:], second[:2]))


def test_levels_stay_in_order_when_interleaved() -> None:
    schedule = Curriculum(by="meta.level", order="ascending", groups="source").mix(INTERLEAVED)
    assert schedule.phases == ["level 1 of 2"] * 6 + ["level 2 of 2"] * 4


BLOCKS = pool_of({"tokens": [1, 2, 3, 4, 5, 6, 7, 8], "source": ["b", "a", "b", "a", "b", "a", "b", "a"]})


def test_blocked_groups_follow_each_other_each_from_easy_to_hard() -> None:
    schedule = Curriculum(
        by="tokens", order="ascending", groups="source", arrangement="blocked", levels=2
    ).mix(BLOCKS)
    assert schedule.draws.tolist() == [1, 3, 5, 7, 0, 2, 4, 6]
    assert schedule.phases == [f"{group}, level {n} of 2" for group in "ab" for n in (1, 1, 2, 2)]


def test_clustered_groups_follow_each_other_within_a_level() -> None:
    schedule = Curriculum(
        by="tokens", order="ascending", groups="source", arrangement="clustered", levels=2
    ).mix(BLOCKS)
    assert schedule.draws.tolist() == [1, 3, 0, 2, 5, 7, 4, 6]
    assert schedule.phases == [f"{group}, level {n} of 2" for n in (1, 2) for group in "aabb"]


def test_blocked_and_descending_turns_each_group_round() -> None:
    mixer = Curriculum(by="tokens", order="descending", groups="source", arrangement="blocked")
    assert mixer.mix(BLOCKS).draws.tolist() == [7, 5, 3, 1, 6, 4, 2, 0]


def test_random_order_does_not_know_the_difficulty() -> None:
    pool = pool_of({"tokens": np.arange(400)})
    draws = Curriculum(by="tokens", order="random").mix(pool).draws
    assert sorted(draws.tolist()) == list(range(400))
    assert abs(np.corrcoef(draws, np.arange(400))[0, 1]) < 0.2


def test_random_order_names_the_level_of_each_row() -> None:
    pool = pool_of({"tokens": np.arange(400)})
    schedule = Curriculum(by="tokens", order="random", levels=4).mix(pool)
    assert schedule.phases == [f"level {row // 100 + 1} of 4" for row in schedule.draws]


def test_random_order_can_be_paced() -> None:
    """Half of the rows are open until the end, another half than the easier one."""
    pool = pool_of({"tokens": np.arange(40)})
    mixer = Curriculum(by="tokens", order="random", pacing="step", a=1.0, b=0.5, draws=2000)
    seen = set(mixer.mix(pool).draws.tolist())
    assert len(seen) == 20
    assert seen != set(range(20))


def test_without_interleaving_groups_follow_difficulty() -> None:
    pool = pool_of({"tokens": [1, 2, 3, 4], "source": ["a", "a", "b", "b"]})
    assert Curriculum(by="tokens", order="ascending").mix(pool).draws.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", PACES)
def test_a_paced_draw_is_among_the_open_rows(kind: Pacing) -> None:
    """Rows are sorted already, so a row's place is its index."""
    pool = pool_of({"tokens": np.arange(300)})
    draws = Curriculum(by="tokens", order="ascending", pacing=kind, a=0.5, b=0.1).mix(pool).draws
    assert (draws < np.maximum(pacing(kind, 300, 300, 0.5, 0.1)[:300], 1)).all()


def test_a_paced_draw_is_uniform_once_all_rows_are_open() -> None:
    """20,000 draws of 10 rows, b = 1: chi-square with 9 degrees below its 0.999 quantile."""
    pool = pool_of({"tokens": np.arange(10)})
    draws = Curriculum(by="tokens", order="ascending", pacing="linear", b=1.0, draws=20_000).mix(pool).draws
    assert ((np.bincount(draws, minlength=10) - 2000) ** 2 / 2000).sum() < 27.9


def test_a_paced_draw_is_uniform_among_the_open_rows() -> None:
    """A step at the very end keeps 5 of 10 rows open: chi-square with 4 degrees below its 0.999 quantile."""
    pool = pool_of({"tokens": np.arange(10)})
    mixer = Curriculum(by="tokens", order="ascending", pacing="step", a=1.0, b=0.5, draws=20_000)
    counts = np.bincount(mixer.mix(pool).draws, minlength=10)
    assert counts[5:].sum() == 0
    assert ((counts[:5] - 4000) ** 2 / 4000).sum() < 18.4


def test_pacing_opens_at_least_one_row() -> None:
    pool = pool_of({"tokens": np.arange(10)})
    draws = Curriculum(by="tokens", order="ascending", pacing="step", b=0.0, a=1.0).mix(pool).draws
    assert draws.tolist() == [0] * 10


def test_the_sequence_does_not_depend_on_the_order_of_the_pool() -> None:
    pool = pool_of({"tokens": np.random.default_rng(0).permutation(30)})
    other = reordered(pool)
    mixer = Curriculum(by="tokens", order="ascending", pacing="root")
    assert uids(pool, mixer.mix(pool).draws) == uids(other, mixer.mix(other).draws)


def test_rows_without_difficulty_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="1 of 2 have null; drop them before with a `threshold`"):
        Curriculum(by="loss", order="ascending").mix(pool_of({"score.loss": [1.0, None]}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pacing": "linear", "groups": "source"}, "`pacing: linear` has none"),
        ({"order": "random", "groups": "source"}, "`order: random` has none"),
        ({"arrangement": "blocked"}, "needs `groups`"),
        ({"draws": 5}, "`draws` needs a `pacing`"),
        ({"pacing": "linear", "draws": "5 tokens"}, "must be rows or a share"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curriculum(**{"by": "loss", "order": "ascending", **fields})
