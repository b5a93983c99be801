"""The TopK sparse autoencoder: its code and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from curate.errors import ConfigError
from curate.model.autoencoder import SparseAutoencoder


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
