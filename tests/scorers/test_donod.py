"""DONOD: an actual step on the head, and TOPSIS over the pool."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from passes import row, small_llama, token_rows
from pydantic import ValidationError

from curate.model.request import TokenRow, union
from curate.model.signals import compute_signals
from curate.scorer import Numbers
from scorers.donod import DONOD

WANTED = union([(DONOD.signals, DONOD.views)])


def step(model: Any, row: TokenRow, rate: float) -> tuple[float, float]:
    """(DON, NOD) of one SGD step on the head by autograd, measured in float64."""
    ids = torch.from_numpy(row.input_ids.astype(np.int64))
    labels = torch.where(torch.from_numpy(row.supervised), ids, -100)
    with torch.no_grad():
        hidden = model.model(ids[None]).last_hidden_state[0, :-1]
    weight = model.lm_head.weight.detach().clone().requires_grad_()
    torch.nn.functional.cross_entropy(hidden @ weight.T, labels[1:]).backward()
    before, after = weight.detach().double(), weight.detach().double() - rate * weight.grad.double()
    return float(after.norm() - before.norm()), float((after - before).norm())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rate", [1e-3, 1.0])
def test_the_parts_are_those_of_a_real_step(tied: bool, rate: float) -> None:
    model, rows = small_llama(tied), token_rows(6)
    parts = DONOD(learning_rate=rate).measure(compute_signals(model, rows, WANTED, 200))
    expected = np.array([step(model, one, rate) for one in rows])
    np.testing.assert_allclose(parts["don"], expected[:, 0], rtol=1e-4)
    np.testing.assert_allclose(parts["nod"], expected[:, 1], rtol=1e-4)


def test_the_head_never_grows_by_more_than_it_moves() -> None:
    parts = DONOD(learning_rate=10).measure(compute_signals(small_llama(), token_rows(20), WANTED, 200))
    assert (np.abs(parts["don"]) <= parts["nod"]).all()


def test_a_tiny_step_keeps_its_digits() -> None:
    """sqrt(..) - ||W|| would be lost in rounding: DON is linear in a small learning rate."""
    found = compute_signals(small_llama(), token_rows(3), WANTED, 200)
    small, smaller = (DONOD(learning_rate=rate).measure(found)["don"] for rate in (1e-12, 1e-13))
    np.testing.assert_allclose(small, 10 * smaller, rtol=1e-6)


def combined(scorer: DONOD, parts: Mapping[str, Numbers]) -> Numbers:
    return scorer.combine(parts, pl.DataFrame())["score"]


def test_the_score_is_the_published_topsis() -> None:
    parts = {"don": np.array([3.0, 1, 0]), "nod": np.array([1.0, 1, 2])}
    assert combined(DONOD(), parts).tolist() == pytest.approx([1, 0.44949, 0], abs=1e-5)


def test_weights_move_the_balance() -> None:
    parts = {"don": np.array([1.0, 2.0]), "nod": np.array([1.0, 2.0])}
    growth, stillness = combined(DONOD(don_weight=9), parts), combined(DONOD(nod_weight=9), parts)
    assert growth.tolist() == pytest.approx([0.1, 0.9])
    assert stillness.tolist() == pytest.approx([0.9, 0.1])


def test_a_row_without_targets_is_null_and_takes_no_part() -> None:
    rows = [row([5, 6], []), *token_rows(3)]
    scorer = DONOD()
    found = combined(scorer, scorer.measure(compute_signals(small_llama(), rows, WANTED, 200)))
    rest = combined(scorer, scorer.measure(compute_signals(small_llama(), rows[1:], WANTED, 200)))
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], rest, rtol=1e-3)


@pytest.mark.parametrize("field", ["learning_rate", "don_weight", "nod_weight"])
@pytest.mark.parametrize("value", [0, -1, float("inf")])
def test_options_must_be_positive(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        DONOD.model_validate({field: value})
