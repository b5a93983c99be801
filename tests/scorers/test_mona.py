"""MONA: against its formula, one row at a time, on a small model; what its identity covers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import ToyExamples, against, made
from numpy.typing import NDArray
from passes import small_llama, states_of, token_rows

from curate.errors import ConfigError
from curate.model.autoencoder import SparseAutoencoder
from curate.model.request import StateReadout, TokenRow
from scorers.mona import Mona


@pytest.fixture(scope="module")
def model() -> Any:
    return small_llama()


def autoencoder(folder: Path, k: int = 3) -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (torch.randn(40, 32, generator=generator) for _ in range(2))
    bias = torch.randn(40, generator=generator)
    sae = SparseAutoencoder(encoder, bias, decoder, torch.randn(32, generator=generator), k)
    sae.save(folder)
    return sae


def mean_code(model: Any, sae: SparseAutoencoder, one: TokenRow, layer: int) -> NDArray[np.float64]:
    """relu of the k largest entries of W_e (h - b_pre) + b_e, mean over all tokens of the row."""
    codes = []
    for state in states_of(model, one, layer):
        before = (sae.encoder.double() @ (state - sae.pre_bias) + sae.encoder_bias).numpy()
        kept = np.argsort(before)[-sae.k :]
        code = np.zeros(len(before))
        code[kept] = np.maximum(before[kept], 0)
        codes.append(code)
    return np.mean(codes, axis=0)  # type: ignore[no-any-return]


def test_mona_is_its_formula(model: Any, tmp_path: Path) -> None:
    sae, target, rows = autoencoder(tmp_path), token_rows(3, seed=5), token_rows(5)
    found = against(Mona(autoencoder=str(tmp_path), depth=0), model, target, rows)
    prototype = np.mean([mean_code(model, sae, one, 1) for one in target], axis=0)
    codes = [mean_code(model, sae, one, 1) for one in rows]
    expected = [np.minimum(z, prototype).sum() / np.maximum(z, prototype).sum() for z in codes]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(("depth", "layer"), [(0.0, 0), (1.0, 1)])
def test_monas_depth_goes_from_the_first_layer_to_the_last(
    model: Any, tmp_path: Path, depth: float, layer: int
) -> None:
    autoencoder(tmp_path)
    reference = made(Mona(autoencoder=str(tmp_path), depth=depth), ToyExamples(model, token_rows(1)))
    (readout,) = Mona(autoencoder=str(tmp_path)).readouts(reference)
    assert isinstance(readout, StateReadout)
    assert readout.layer == layer


def test_mona_of_the_only_target_row_is_1(model: Any, tmp_path: Path) -> None:
    autoencoder(tmp_path)
    one = token_rows(1)[0]
    found = against(Mona(autoencoder=str(tmp_path)), model, [one], [one])
    assert found[0] == pytest.approx(1, abs=1e-6)


def test_mona_of_the_only_target_row_is_1_by_an_autoencoder_of_its_own(model: Any, tmp_path: Path) -> None:
    scorer = Mona(active=4, expansion=2, steps=3, training_tokens=100)
    one = token_rows(1)[0]
    found = against(scorer, model, [one], [one], pool=token_rows(10, seed=8), folder=tmp_path)
    assert found[0] == pytest.approx(1, abs=1e-6)


def test_mona_leaves_its_autoencoder_to_be_read_again(model: Any, tmp_path: Path) -> None:
    scorer = Mona(active=4, expansion=2, steps=3, training_tokens=100)
    target, pool = token_rows(2), token_rows(10, seed=8)
    first = against(scorer, model, target, pool, pool=pool, folder=tmp_path)
    again = Mona(autoencoder=str(tmp_path / "autoencoder"))
    np.testing.assert_allclose(against(again, model, target, pool), first, rtol=1e-5)


def test_monas_identity_is_the_content_of_its_autoencoder(tmp_path: Path) -> None:
    for name in ("one", "other"):
        autoencoder(tmp_path / name)
    one, other = (Mona(autoencoder=str(tmp_path / name)).identity() for name in ("one", "other"))
    assert one == other


def test_monas_identity_changes_with_the_configuration_of_its_autoencoder(tmp_path: Path) -> None:
    autoencoder(tmp_path)
    before, config = Mona(autoencoder=str(tmp_path)).identity(), tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "k": 2}))
    assert Mona(autoencoder=str(tmp_path)).identity() != before


def test_a_missing_autoencoder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a .safetensors file or a folder with one"):
        Mona(autoencoder=str(tmp_path)).identity()
