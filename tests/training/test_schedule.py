"""The course of the learning rate."""

import math
from typing import Any

import pytest

from curate.training.schedule import rate_factor


@pytest.mark.parametrize("course", ["linear", "cosine", "constant"])
def test_no_step_has_a_rate_of_zero_and_the_peak_is_reached(course: Any) -> None:
    factors = [rate_factor(step, 20, 4, course) for step in range(20)]
    assert min(factors) > 0
    assert factors[4] == max(factors) == 1


def test_warm_up_rises_evenly() -> None:
    assert [rate_factor(step, 20, 3, "linear") for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_linear_falls_evenly() -> None:
    assert [rate_factor(step, 4, 0, "linear") for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert math.isclose(rate_factor(5, 10, 0, "cosine"), 0.5)


def test_constant_stays() -> None:
    assert {rate_factor(step, 10, 0, "constant") for step in range(10)} == {1.0}


def test_all_steps_may_warm_up() -> None:
    assert [rate_factor(step, 3, 3, "linear") for step in range(3)] == [0.25, 0.5, 0.75]
