"""The TopK sparse autoencoder: its code, its training on a planted dictionary, its files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from curate.errors import ConfigError, CurateError
from curate.model.autoencoder import SparseAutoencoder
from curate.model.autoencoder_training import (
    AutoencoderDiagnostics,
    _bags,
    _selected,
    train_autoencoder,
)

WIDTH, PLANTED, ACTIVE = 24, 48, 3


def autoencoder(features: int = 20, width: int = 8, k: int = 5) -> SparseAutoencoder:
    """A random one."""
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = torch.randn(2, features, width, generator=generator)
    return SparseAutoencoder(
        encoder,
        torch.randn(features, generator=generator),
        decoder,
        torch.randn(width, generator=generator),
        k,
    )


def random_states(n: int = 30, width: int = 8) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(1))


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


def test_a_code_is_the_k_largest_of_the_rectified_encoding() -> None:
    coder, states = autoencoder(), random_states()
    for state, code in zip(states, coder.encode(states), strict=True):
        whole = (coder.encoder @ (state - coder.pre_bias) + coder.encoder_bias).relu()
        kept = torch.where(whole >= whole.sort().values[-5], whole, 0)
        torch.testing.assert_close(code, kept)


def test_no_more_than_k_are_active_and_none_is_negative() -> None:
    coder = autoencoder(k=15)
    codes = coder.encode(random_states())
    assert int((codes > 0).sum(1).max()) <= 15
    assert float(codes.min()) == 0
    assert float(coder.top(random_states())[1].min()) == 0


def test_blocks_change_nothing() -> None:
    coder, states = autoencoder(), random_states()
    for memory in (1, 7 * 20 * 4):
        torch.testing.assert_close(coder.encode(states, memory), coder.encode(states))


def test_a_reconstruction_is_the_sum_of_the_directions() -> None:
    coder = autoencoder()
    codes = coder.encode(random_states())
    torch.testing.assert_close(coder.decode(codes), codes @ coder.decoder + coder.pre_bias)


def test_low_precision_is_encoded_in_float32() -> None:
    coder, states = autoencoder(), random_states().bfloat16()
    assert torch.equal(coder.encode(states), coder.encode(states.float()))


def test_mean_codes_are_those_of_each_example() -> None:
    coder, states = autoencoder(), random_states(10)
    found = coder.mean_codes(states, [4, 0, 6], memory_bytes=2 * 2 * 20 * 4)
    torch.testing.assert_close(found[0], coder.encode(states[:4]).mean(0))
    torch.testing.assert_close(found[2], coder.encode(states[4:]).mean(0))
    assert bool(found[1].isnan().all())
    assert torch.equal(coder.mean_codes(states[4:], [6], 2 * 2 * 20 * 4)[0], found[2])


def test_what_does_not_fit_is_refused() -> None:
    coder = autoencoder()
    with pytest.raises(ValueError, match="k must be from 1 to 20"):
        autoencoder(k=21)
    with pytest.raises(ValueError, match=r"encoder and decoder must be \[20, 8\]"):
        SparseAutoencoder(coder.encoder.T, coder.encoder_bias, coder.decoder, coder.pre_bias, 2)
    with pytest.raises(ValueError, match=r"states must be \[n, 8\]"):
        coder.encode(torch.ones(3, 9))
    with pytest.raises(ValueError, match="counts must add up to 3"):
        coder.mean_codes(torch.ones(3, 8), [1, 1])


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
    states = random_states().double().requires_grad_()
    coder = autoencoder().encoder.double().requires_grad_()
    targets = torch.linspace(0, 1, 30 * 8).reshape(30, 8).double()
    dense = states @ coder.T
    values, places = dense.topk(5)
    kept = torch.zeros_like(dense).scatter(1, places, values.relu())
    expected = torch.autograd.grad((kept @ autoencoder().decoder.double() * targets).sum(), (states, coder))
    found = _bags(
        places, autoencoder().decoder.double(), _selected(states, coder, places, values.detach()).relu()
    )
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


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    coder = autoencoder()
    coder.save(tmp_path / "new" / "folder")
    found = SparseAutoencoder.load(tmp_path / "new" / "folder")
    assert found.k == coder.k
    for name in ("encoder", "encoder_bias", "decoder", "pre_bias"):
        assert torch.equal(getattr(found, name), getattr(coder, name))


def foreign(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None = None) -> Path:
    """A file of another library, with k 5 if its configuration is not given."""
    folder.mkdir(exist_ok=True)
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"k": 5} if config is None else config))
    return folder


def parts(coder: SparseAutoencoder) -> dict[str, Tensor]:
    """As sae-lens names and lays them out."""
    return {
        "W_enc": coder.encoder.T,
        "W_dec": coder.decoder,
        "b_enc": coder.encoder_bias,
        "b_dec": coder.pre_bias,
    }


@pytest.mark.parametrize("features", [20, 8])
def test_files_of_other_libraries_are_read(tmp_path: Path, features: int) -> None:
    """Also with as many features as states are wide, where only names tell which way a matrix lies."""
    coder = autoencoder(features)
    linear = {
        "encoder.weight": coder.encoder,
        "encoder.bias": coder.encoder_bias,
        "decoder.weight": coder.decoder.T,
        "pre_bias": coder.pre_bias,
    }
    for name, tensors in (("lens", parts(coder)), ("linear", linear)):
        found = SparseAutoencoder.load(foreign(tmp_path / name, tensors))
        assert torch.equal(found.encode(random_states()), coder.encode(random_states()))
        assert torch.equal(found.decoder, coder.decoder)


def test_matrices_that_fit_the_other_way_are_read(tmp_path: Path) -> None:
    coder = autoencoder()
    turned = {**parts(coder), "W_enc": coder.encoder, "W_dec": coder.decoder.T}
    found = SparseAutoencoder.load(foreign(tmp_path, turned))
    assert torch.equal(found.encoder, coder.encoder)
    assert torch.equal(found.decoder, coder.decoder)


def test_a_file_and_a_k_of_ones_own_are_read(tmp_path: Path) -> None:
    file = foreign(tmp_path, parts(autoencoder()), {"activation_fn_kwargs": {"k": 3}}) / "sae.safetensors"
    assert SparseAutoencoder.load(file).k == 3
    assert SparseAutoencoder.load(file, k=4).k == 4


def test_an_encoder_of_states_that_are_not_centred_is_the_same_function(tmp_path: Path) -> None:
    coder = autoencoder()
    found = SparseAutoencoder.load(foreign(tmp_path, parts(coder), {"k": 20, "apply_b_dec_to_input": False}))
    expected = (random_states() @ coder.encoder.T + coder.encoder_bias).relu()
    torch.testing.assert_close(found.encode(random_states()), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_enc": None}, "must have one tensor of W_enc, encoder.weight. Got W_dec, b_dec, b_enc"),
        (
            {"W_dec": torch.ones(20, 9)},
            r"W_dec must be [20, 8] (features, width) or its transpose. Got [20, 9]",
        ),
        ({"threshold": torch.ones(20)}, "further tensors ['threshold']"),
        ({"encoder.weight": torch.ones(20, 8)}, "must have one tensor of W_enc, encoder.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tensors = {name: one for name, one in {**parts(autoencoder()), **change}.items() if one is not None}
    with pytest.raises(ConfigError) as raised:
        SparseAutoencoder.load(foreign(tmp_path, tensors))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "k must be an integer from 1 to 20"),
        ({"k": 21}, "Got 21"),
        ({"k": 5, "architecture": "jumprelu"}, "Got architecture jumprelu"),
        ({"k": 5, "normalize_activations": "layer_norm"}, "normalize_activations layer_norm"),
    ],
)
def test_another_kind_of_encoder_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SparseAutoencoder.load(foreign(tmp_path, parts(autoencoder()), config))


def test_a_folder_with_no_file_or_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder with one"):
        SparseAutoencoder.load(tmp_path)
    with pytest.raises(ConfigError, match="Got no file"):
        SparseAutoencoder.load(tmp_path / "absent")
    autoencoder().save(tmp_path)
    foreign(tmp_path, load_file(tmp_path / "sae_weights.safetensors"))
    with pytest.raises(ConfigError, match=r"sae.safetensors', 'sae_weights.safetensors"):
        SparseAutoencoder.load(tmp_path)
