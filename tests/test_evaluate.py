"""Held-out losses, their means, their intervals; loading what a training wrote."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys

from curate.errors import CurateError, DataError
from curate.evaluate import Losses, bootstrap_interval, held_out_losses, load_tuned
from curate.methods import read_component
from curate.model.load import LoadedModel, load_causal_lm, resolve
from curate.model.request import Signal, TokenRow, View
from curate.model.signals import compute_signals
from curate.model.tokens import Encoder, Example, TokenOptions
from curate.registry import Registry
from curate.training.spec import Train
from curate.training.trainer import train


def load(folder: Path) -> LoadedModel:
    return load_causal_lm(resolve(str(folder), None), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def rows() -> list[TokenRow]:
    encoder = Encoder(toys.tiny_tokenizer(), TokenOptions())
    encoded = encoder.encode_rows([Example(row["messages"]) for row in toys.toy_rows(9)])
    return [TokenRow(np.array(each.input_ids, np.int32), np.array(each.supervised)) for each in encoded]


SOURCES = ["b", "a", "b", "b", "b", "a", "b", "b", "b"]


@pytest.fixture
def losses() -> Losses:
    return Losses(np.array([1.0, 4.0, 2.0]), np.array([1, 3, 2]), ("x", "x", "y"))


def test_a_source_counts_each_of_its_tokens_the_same(losses: Losses) -> None:
    assert losses.by_source["x"].loss == (1 * 1 + 4 * 3) / 4
    assert (losses.by_source["x"].rows, losses.by_source["x"].supervised_tokens) == (2, 4)


def test_the_three_means(losses: Losses) -> None:
    assert losses.source_mean == (3.25 + 2.0) / 2
    assert losses.row_mean == pytest.approx(7 / 3)
    assert losses.token_mean == pytest.approx((1 + 12 + 4) / 6)


def test_losses_of_some_rows(losses: Losses) -> None:
    found = losses.where(np.array([True, False, True]))
    assert found.row_losses.tolist() == [1.0, 2.0]
    assert found.by_source["x"].supervised_tokens == 1
    assert found.row_mean == 1.5


def test_as_json(losses: Losses) -> None:
    found = losses.as_dict()
    assert found["sources"]["y"] == {"loss": 2.0, "rows": 1, "supervised_tokens": 2}
    assert (found["rows"], found["supervised_tokens"], found["source_mean"]) == (3, 6, 2.625)


def test_losses_are_transformers_own(tiny_model: Path, rows: list[TokenRow]) -> None:
    model = load(tiny_model).model
    found = held_out_losses(model, rows, SOURCES)
    for row, loss in zip(rows, found.row_losses, strict=True):
        ids = torch.tensor(row.input_ids[None].astype(np.int64))
        labels = torch.where(torch.tensor(row.supervised[None]), ids, -100)
        with torch.no_grad():
            assert loss == pytest.approx(model(input_ids=ids, labels=labels).loss.item(), abs=1e-5)
    assert found.row_tokens.tolist() == [row.supervised.sum() for row in rows]


def test_losses_are_those_of_the_one_pass(tiny_model: Path, rows: list[TokenRow]) -> None:
    model = load(tiny_model).model
    signals = compute_signals(model, rows, {View.FULL: {Signal.LOG_PROBABILITY}}, 512)
    np.testing.assert_allclose(
        held_out_losses(model, rows, SOURCES).row_losses, -signals.mean(Signal.LOG_PROBABILITY), atol=1e-5
    )


def test_batches_change_nothing_but_rounding(tiny_model: Path, rows: list[TokenRow]) -> None:
    model = load(tiny_model).model
    one = held_out_losses(model, rows, SOURCES, batch_tokens=1).row_losses
    np.testing.assert_allclose(held_out_losses(model, rows, SOURCES).row_losses, one, atol=1e-5)


def test_dropout_is_off(tiny_model: Path, rows: list[TokenRow]) -> None:
    model = load(tiny_model).model
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    first = held_out_losses(model.train(), rows, SOURCES).row_losses
    np.testing.assert_array_equal(held_out_losses(model.train(), rows, SOURCES).row_losses, first)


def test_a_broken_model_stops(tiny_model: Path, rows: list[TokenRow]) -> None:
    model = load(tiny_model).model
    model.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(CurateError, match=r"held-out row 0 \(b\) is nan"):
        held_out_losses(model, rows, SOURCES)


def test_no_rows_are_refused(tiny_model: Path) -> None:
    with pytest.raises(DataError, match="needs rows"):
        held_out_losses(load(tiny_model).model, [], [])


def test_a_row_without_a_target_is_refused(tiny_model: Path) -> None:
    row = TokenRow(np.array([1, 2], np.int32), np.array([False, False]))
    with pytest.raises(DataError, match="evaluation: row 0"):
        held_out_losses(load(tiny_model).model, [row], ["a"])


def test_the_interval_of_normal_values_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(values, seed=1)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_a_higher_level_is_wider() -> None:
    values = np.random.default_rng(0).normal(size=50)
    low, high = bootstrap_interval(values, 0, level=0.5)
    wide_low, wide_high = bootstrap_interval(values, 0, level=0.99)
    assert wide_low < low < high < wide_high


def test_the_interval_follows_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(values, 1) == bootstrap_interval(values, 1)
    assert bootstrap_interval(values, 1) != bootstrap_interval(values, 2)


@pytest.mark.parametrize(("values", "level"), [([], 0.9), ([1.0, np.nan], 0.9), ([1.0], 1.0)])
def test_an_interval_of_nothing_is_refused(values: list[float], level: float) -> None:
    with pytest.raises(ValueError, match="Got"):
        bootstrap_interval(np.array(values), 0, level)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_tuned_model_is_better_on_what_it_saw(
    tiny_model: Path, rows: list[TokenRow], tmp_path: Path, adapter: str
) -> None:
    spec = read_component(Train, {"adapter": adapter, "learning_rate": 5e-3, "batch_rows": 3}, Registry())
    assert isinstance(spec, Train)
    out = tmp_path / "out"
    out.mkdir()
    loaded = load(tiny_model)
    train(
        rows, np.arange(9), spec, loaded, seed=0, out=out, work=tmp_path / "work", tell=lambda *how_far: None
    )
    before = held_out_losses(load_tuned(load(tiny_model), None), rows, SOURCES)
    after = held_out_losses(load_tuned(load(tiny_model), out), rows, SOURCES)
    assert after.source_mean < before.source_mean - 0.1
    in_place = held_out_losses(loaded.model, rows, SOURCES)
    np.testing.assert_allclose(after.row_losses, in_place.row_losses, atol=1e-5)


def test_a_folder_without_a_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="holds neither"):
        load_tuned(load(tiny_model), tmp_path)


def test_a_whole_model_is_loaded_from_its_own_folder(tiny_model: Path, tmp_path: Path) -> None:
    folder: Any = shutil.copytree(tiny_model, tmp_path / "whole")
    tuned = load_tuned(load(tiny_model), folder)
    assert not tuned.training
    assert not tuned.config.use_cache
