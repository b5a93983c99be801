"""The six pacing functions of curricula."""

from typing import get_args

import numpy as np
import pytest

from curate.numerics.pacing import Pacing, pacing

KINDS = get_args(Pacing)


@pytest.mark.parametrize("kind", KINDS)
def test_starts_at_b_of_the_rows(kind: Pacing) -> None:
    assert pacing(kind, steps=100, rows=1000, a=0.5, b=0.2)[0] == pytest.approx(200)


@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_are_open_after_a_of_the_steps(kind: Pacing) -> None:
    np.testing.assert_allclose(pacing(kind, steps=100, rows=1000, a=0.5, b=0.2)[50:], 1000)


@pytest.mark.parametrize("kind", KINDS)
def test_not_all_rows_are_open_before(kind: Pacing) -> None:
    assert pacing(kind, steps=100, rows=1000, a=0.5, b=0.2)[48] < 999


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("b", [0.0, 0.3, 1.0])
def test_never_falls_and_never_passes_the_rows(kind: Pacing, b: float) -> None:
    open_rows = pacing(kind, steps=77, rows=500, a=0.9, b=b)
    assert (np.diff(open_rows) >= 0).all()
    assert open_rows.max() <= 500


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("linear", 0.5),
        ("quadratic", 0.25),
        ("root", np.sqrt(0.5)),
        ("step", 0.0),
        ("exponential", (np.e**5 - 1) / (np.e**10 - 1)),
        ("logarithmic", 1 + 0.1 * np.log(0.5 + np.e**-10)),
    ],
)
def test_closed_form_half_way(kind: Pacing, share: float) -> None:
    half = pacing(kind, steps=100, rows=1000, a=0.8, b=0.1)[40]
    assert half == pytest.approx(100 + 900 * share)


def test_a_above_one_never_opens_all_rows() -> None:
    assert pacing("linear", steps=10, rows=100, a=2.0, b=0.0)[-1] == pytest.approx(50)
