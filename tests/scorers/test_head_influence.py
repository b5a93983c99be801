"""Head influence: against autograd, on a small model, and what a gradient of 0 gives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from examples import ToyExamples, against, made
from numpy.typing import NDArray
from passes import small_llama, token_rows

from curate.errors import DataError
from curate.model.request import Signal, TokenRow, TokenSignals
from curate.scorer import Numbers
from scorers.head_influence import HeadInfluence

NAN = float("nan")


@pytest.fixture(scope="module")
def model() -> Any:
    return small_llama()


def gradient(model: Any, one: TokenRow) -> torch.Tensor:
    """The head's gradient of the row's mean loss, by autograd, float64 [V d]."""
    ids, mask = torch.from_numpy(one.input_ids.astype(np.int64)), torch.from_numpy(one.supervised[1:])
    logits = model(ids[None]).logits[0, :-1][mask]
    loss = torch.nn.functional.cross_entropy(logits, ids[1:][mask])
    return torch.autograd.grad(loss, model.lm_head.weight)[0].double().flatten()


@pytest.mark.parametrize("normalise", [False, True])
def test_head_influence_is_the_product_with_the_targets_mean_gradient(model: Any, normalise: bool) -> None:
    target, rows = token_rows(3, seed=5), token_rows(6)
    mean = torch.stack([gradient(model, one) for one in target]).mean(0)
    found = against(HeadInfluence(normalise=normalise), model, target, rows)
    for value, one in zip(found, rows, strict=True):
        own = gradient(model, one)
        scale = float(own.norm() * mean.norm()) if normalise else 1
        assert value == pytest.approx(float(own @ mean) / scale, rel=1e-3, abs=1e-5)


def test_head_influence_of_the_only_target_row_is_1(model: Any) -> None:
    one = token_rows(1)[0]
    found = against(HeadInfluence(), model, [one], [one])[0]
    assert found == pytest.approx(1, abs=1e-5)
    assert found <= 1


def test_the_inner_product_of_the_only_target_row_is_its_squared_norm(model: Any) -> None:
    one = token_rows(1)[0]
    expected = float(gradient(model, one).square().sum())
    assert against(HeadInfluence(normalise=False), model, [one], [one])[0] == pytest.approx(
        expected, rel=1e-4
    )


def influence(products: list[float], norms: list[float], normalise: bool = True) -> Numbers:
    tokens = TokenSignals(
        np.arange(len(norms) + 1),
        {},
        {Signal.HEAD_GRADIENT_NORM: np.array(norms)},
        readings={"head_influence": np.array(products)},
    )
    return HeadInfluence(normalise=normalise).score(tokens)


def test_a_gradient_of_0_has_no_influence() -> None:
    np.testing.assert_array_equal(influence([0.0, 1.0], [0.0, 2.0]), [0, 0.5])


def test_a_row_without_a_target_has_no_influence_that_is_known() -> None:
    np.testing.assert_array_equal(influence([NAN, 1.0], [NAN, 2.0]), [NAN, 0.5])


def test_a_target_whose_gradient_is_0_is_refused(model: Any) -> None:
    class Flat(ToyExamples):
        def mean_head_gradient(self, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
            return np.zeros((4, 2), dtype=np.float32)

    with pytest.raises(DataError, match="gradient on its rows is 0"):
        made(HeadInfluence(), Flat(model, token_rows(1)))
