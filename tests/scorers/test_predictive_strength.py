"""Predictive strength: bits per character under each model, and their order."""

import numpy as np
import pytest
from pydantic import ValidationError

from curate.model.request import Signal, TokenSignals
from scorers.predictive_strength import PredictiveStrength

THREE = PredictiveStrength(family=("a", "b", "c"))


def signals(log_probabilities: list[float], offsets: list[int], characters: list[int]) -> TokenSignals:
    return TokenSignals(
        np.array(offsets),
        {Signal.LOG_PROBABILITY: np.array(log_probabilities)},
        characters=np.array(characters),
    )


def test_a_model_is_measured_in_bits_per_character() -> None:
    measured = THREE.measure(signals([np.log(0.5)] * 3 + [np.log(0.25)] * 2, [0, 3, 5], [6, 4]))
    np.testing.assert_allclose(measured, [0.5, 1.0])


def test_no_character_and_no_token_are_null() -> None:
    measured = THREE.measure(signals([-1.0, -1.0], [0, 2, 2], [0, 3]))
    assert np.isnan(measured).all()


def test_the_order_of_the_family_is_the_order_of_ability() -> None:
    measured = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [1.0, np.nan, 1.0]])
    np.testing.assert_allclose(THREE.compare(measured), [1, 0, 2 / 3, np.nan])


def test_where_the_family_lies_is_no_part_of_the_identity() -> None:
    assert THREE.identity() == PredictiveStrength(family=("x", "y", "z")).identity()
    assert THREE.identity() != PredictiveStrength(family=("a", "b", "c"), sample=0.5).identity()


def test_a_family_of_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 2 items"):
        PredictiveStrength(family=("a",))


def test_the_sample_may_be_a_percentage() -> None:
    assert PredictiveStrength(family=("a", "b"), sample="5%").share() == 0.05
