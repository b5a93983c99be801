"""Gumbel top: the law of the draw, and its limits."""

from itertools import permutations

import numpy as np
import pytest
from candidates import pool_of, random_pool

from curate.errors import ConfigError
from curate.pool import Pool
from curate.selectors.gumbel_top import GumbelTop
from curate.selectors.top import Top


def pool(scores: list[float | None], seed: int = 0, better: bool | None = True) -> Pool:
    return pool_of({"score.s": scores}, {"score.s": better}, seed)


@pytest.mark.parametrize("temperature", [0.0, 1e-9])
def test_without_temperature_it_is_top(temperature: float) -> None:
    candidates = random_pool(50, seed=1)
    chosen = GumbelTop(by="good", budget=20, temperature=temperature).select(candidates)
    assert chosen.kept.tolist() == Top(by="good", budget=20).select(candidates).kept.tolist()


@pytest.mark.parametrize(("better", "sign"), [(True, 1.0), (False, -1.0)])
def test_orders_are_drawn_as_one_by_one_without_replacement(better: bool, sign: float) -> None:
    """Chi-square over the six orders of three rows, 800 draws; 20.5 is the 0.999 quantile of five degrees."""
    scores, draws = np.array([0.0, 0.5, 1.0]), 800
    weights = np.exp(sign * scores / 0.5)
    seen = dict.fromkeys(permutations(range(3)), 0)
    for seed in range(draws):
        method = GumbelTop(by="s", budget=3, temperature=0.5)
        seen[tuple(method.select(pool(scores.tolist(), seed, better)).kept.tolist())] += 1
    statistic = 0.0
    for (first, second, _), count in seen.items():
        chance = weights[first] / weights.sum() * weights[second] / (weights.sum() - weights[first])
        statistic += (count - draws * chance) ** 2 / (draws * chance)
    assert statistic < 20.5


@pytest.mark.parametrize("temperature", [1e-300, 1e300])
def test_an_extreme_temperature_does_not_make_ties(temperature: float) -> None:
    """1 / 1e-300 and 1e300 · G would be infinite: all rows would tie and stand by position."""
    scores = [1e10, 2e10, 3e10, 4e10, 5e10, 6e10]
    chosen = GumbelTop(by="s", budget=6, temperature=temperature).select(pool(scores))
    assert chosen.kept.tolist() != [0, 1, 2, 3, 4, 5]


def test_temperatures_of_one_and_a_little_less_agree() -> None:
    """The two forms of the key give one order."""
    candidates = random_pool(50, seed=2)
    kept = [
        GumbelTop(by="good", budget=50, temperature=t).select(candidates).kept.tolist()
        for t in (1.0, 1 - 1e-12)
    ]
    assert kept[0] == kept[1]


def test_reasons() -> None:
    chosen = GumbelTop(by="s", budget=1, temperature=0).select(pool([1.0, 3.0, None]))
    assert chosen.reasons == ["s 3, rank 1 of 2 (highest first), drawn as number 1 at temperature 0"]
    assert chosen.dropped_reasons == [
        "s 1, rank 2 of 2 (highest first), drawn as number 2 at temperature 0",
        "no score (score.s is null)",
    ]


def test_a_score_without_direction_needs_an_order() -> None:
    with pytest.raises(ConfigError, match="`order: highest`"):
        GumbelTop(by="s", budget=1).select(pool([1.0], better=None))
