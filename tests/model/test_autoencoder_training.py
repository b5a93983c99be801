"""Training the TopK sparse autoencoder, on a planted dictionary."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from curate.errors import CurateError
from curate.model.autoencoder import SparseAutoencoder
from curate.model.autoencoder_training import (
    AutoencoderDiagnostics,
    _bags,
    _selected,
    train_autoencoder,
)

WIDTH, PLANTED, ACTIVE = 24, 48, 3


@cache
def planted() -> tuple[Tensor, Tensor]:
    """States that are sums of three of 48 directions, shifted; the directions."""
    generator = torch.Generator().manual_seed(2)
    directions = normalize(torch.randn(PLANTED, WIDTH, generator=generator))
    places = torch.rand(4096, PLANTED, generator=generator).topk(ACTIVE).indices
    codes = torch.zeros(4096, PLANTED).scatter(1, places, torch.rand(4096, ACTIVE, generator=generator) + 0.5)
    return codes @ directions + 0.3, directions


@cache
def trained() -> tuple[SparseAutoencoder, AutoencoderDiagnostics]:
    return train_autoencoder(planted()[0], 2 * PLANTED, ACTIVE, steps=300, batch=256, learning_rate=0.005)


def brief(states: Tensor, **settings: Any) -> tuple[SparseAutoencoder, AutoencoderDiagnostics]:
    return train_autoencoder(states, **{"features": 64, "k": 3, "steps": 20, "batch": 64, **settings})


def test_a_planted_dictionary_is_recovered() -> None:
    coder, _ = trained()
    nearest = (planted()[1] @ coder.decoder.T).amax(1)
    chance = normalize(torch.randn(2 * PLANTED, WIDTH, generator=torch.Generator().manual_seed(5)))
    assert float((planted()[1] @ chance.T).amax(1).mean()) < 0.7
    assert float(nearest.mean()) > 0.95


def test_the_error_falls_and_the_variance_is_explained() -> None:
    coder, found = trained()
    assert len(found.losses) == 300
    assert found.losses[-1] < 0.2 * found.losses[0]
    states = planted()[0]
    left = (coder.decode(coder.encode(states)) - states).square().sum()
    expected = 1 - float(left / (states - states.mean(0)).square().sum())
    assert found.explained_variance == pytest.approx(expected, abs=0.02)
    assert expected > 0.9


def test_states_a_hundred_times_as_long_do_not_make_up_the_loss() -> None:
    states = planted()[0].clone()
    states[::50] *= 200
    coder, found = train_autoencoder(states, 2 * PLANTED, ACTIVE, steps=400, batch=256, learning_rate=0.005)
    others = planted()[0]
    left = (coder.decode(coder.encode(others)) - others).square().sum()
    assert 1 - float(left / (others - others.mean(0)).square().sum()) > 0.85
    assert 0.8 < found.explained_variance < 1
    assert float((planted()[1] @ coder.decoder.T).amax(1).mean()) > 0.95


def test_directions_have_unit_length() -> None:
    torch.testing.assert_close(trained()[0].decoder.norm(dim=1), torch.ones(2 * PLANTED))


def test_the_seed_alone_decides() -> None:
    states = planted()[0]
    before = torch.get_rng_state()
    one, found = brief(states, seed=3)
    again, once_more = brief(states, seed=3)
    other, _ = brief(states, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert found == once_more
    for name in ("encoder", "encoder_bias", "decoder", "pre_bias"):
        assert torch.equal(getattr(one, name), getattr(again, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))


def test_longer_states_have_longer_codes_and_the_same_features() -> None:
    states = planted()[0]
    one, found = brief(states)
    other, scaled = brief(states * 1024)
    assert scaled.losses == found.losses
    torch.testing.assert_close(other.encode(states * 1024), one.encode(states) * 1024, rtol=1e-4, atol=1e-2)


def test_selected_entries_have_the_gradients_of_all() -> None:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(30, 8, generator=generator, dtype=torch.float64).requires_grad_()
    coder = torch.randn(20, 8, generator=generator, dtype=torch.float64).requires_grad_()
    decoder, targets = torch.randn(2, 20, 8, generator=generator, dtype=torch.float64)
    targets = targets.repeat(2, 1)[:30]
    dense = states @ coder.T
    values, places = dense.topk(5)
    kept = torch.zeros_like(dense).scatter(1, places, values.relu())
    expected = torch.autograd.grad(((kept @ decoder) * targets).sum(), (states, coder))
    found = _bags(places, decoder, _selected(states, coder, places, values.detach()).relu())
    for one, other in zip(
        torch.autograd.grad((found * targets).sum(), (states, coder)), expected, strict=True
    ):
        torch.testing.assert_close(one, other)


def test_dead_features_learn_from_what_the_others_leave() -> None:
    """Without that, the features that were never active still read and write one direction, as at first."""

    def untouched(**settings: Any) -> int:
        coder, _ = brief(planted()[0], features=512, k=1, dead_after_steps=5, **settings)
        agreement = (normalize(coder.encoder) * coder.decoder).sum(1)
        return int((agreement > 1 - 1e-6).sum())

    assert untouched(auxiliary_k=0) > 100
    assert untouched() < 0.8 * untouched(auxiliary_k=0)


def test_features_that_never_fired_are_dead() -> None:
    assert brief(planted()[0], steps=5, batch=1, dead_after_steps=100)[1].dead_fraction >= 1 - 5 * 3 / 64


def test_states_of_an_inference_in_low_precision_train() -> None:
    with torch.inference_mode():
        states = planted()[0].bfloat16() * 1
        coder, found = brief(states)
    assert coder.encoder.dtype == torch.float32
    assert found.losses[-1] < found.losses[0]


def test_fewer_states_than_a_batch_are_all_taken() -> None:
    assert len(brief(planted()[0][:10], batch=64)[1].losses) == 20


def test_training_refuses_what_it_cannot_use() -> None:
    states = planted()[0]
    for wrong in (torch.ones(10, 4), states[:10] / 0, states[:1]):
        with pytest.raises(ValueError, match="states must be finite, and no more than half"):
            brief(wrong)
    for settings in ({"k": 65}, {"k": 0}, {"steps": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match="k from 1 to features"):
            brief(states, **settings)
    with pytest.raises(CurateError, match="lower it"):
        brief(states, learning_rate=1e30)
