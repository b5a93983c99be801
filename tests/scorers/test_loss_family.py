"""Loss, perplexity, entropy, EL2N: closed forms from given signals."""

import math
from typing import Any

import numpy as np
import pytest

from curate.model.request import Signal, TokenSignals
from curate.registry import Registry


def score(name: str, signal: Signal, values: list[float], offsets: list[int]) -> Any:
    scorer: Any = Registry().get("scorers", name)()
    return scorer.score(TokenSignals(np.array(offsets), {signal: np.array(values)}))


def uniform(name: str, vocabulary: int) -> float:
    """The score of a row that the model says nothing about."""
    signals = {
        Signal.LOG_PROBABILITY: np.full(3, -math.log(vocabulary)),
        Signal.ENTROPY: np.full(3, math.log(vocabulary)),
        Signal.ERROR_NORM: np.full(3, math.sqrt(1 - 1 / vocabulary)),
    }
    scorer: Any = Registry().get("scorers", name)()
    return float(scorer.score(TokenSignals(np.array([0, 3]), signals))[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("loss", math.log(50)), ("perplexity", 50), ("entropy", math.log(50)), ("el2n", math.sqrt(0.98))],
)
def test_uniform_prediction(name: str, expected: float) -> None:
    assert uniform(name, 50) == pytest.approx(expected, rel=1e-12)


def test_loss_is_a_mean_over_tokens() -> None:
    found = score("loss", Signal.LOG_PROBABILITY, [-1, -2, -6, -4], [0, 3, 4, 4])
    np.testing.assert_array_equal(found, [3, 4, np.nan])


def test_perplexity_is_the_exponential_of_the_mean() -> None:
    found = score("perplexity", Signal.LOG_PROBABILITY, [math.log(1 / 2), math.log(1 / 8)], [0, 2, 2])
    np.testing.assert_allclose(found, [4, np.nan])


def test_a_perplexity_beyond_float64_is_null() -> None:
    found = score("perplexity", Signal.LOG_PROBABILITY, [-699, -701], [0, 1, 2])
    assert np.isfinite(found).tolist() == [True, False]


def test_wrong_and_sure_is_the_largest_el2n() -> None:
    assert score("el2n", Signal.ERROR_NORM, [math.sqrt(2), 0], [0, 1, 2]).tolist() == [math.sqrt(2), 0]


@pytest.mark.parametrize("name", ["loss", "perplexity", "entropy", "el2n", "grand", "donod", "ifd", "length"])
def test_direction(name: str) -> None:
    """Only POINTS and DONOD say which end is good; the rest leave it to the selector."""
    assert Registry().get("scorers", name).higher_is_better is {"perplexity": False, "donod": True}.get(name)
