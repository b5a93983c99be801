"""The trainer: its loss, its order, its precision, what it writes."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import curate.training.loop as loop
from curate.errors import ConfigError, CurateError, DataError
from curate.model.request import TokenRow
from curate.training.packing import flatten, token_losses


def mean_loss(model: Any, rows: list[TokenRow]) -> torch.Tensor:
    """Mean over all supervised tokens, each row by itself."""
    return torch.cat([token_losses(model, flatten([row])) for row in rows]).mean()


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loss_falls(tune: Any, adapter: str, dtype: str) -> None:
    curve = tune("out", {"adapter": adapter, "epochs": 3}, dtype=dtype).curve
    assert curve[-1]["loss"] < curve[0]["loss"] - 0.5


def test_the_loss_of_a_step_is_the_mean_over_its_supervised_tokens(
    tune: Any, load: Any, rows: list[TokenRow]
) -> None:
    trained = tune("out", {"batch_rows": 7, "batch_tokens": 500, "max_steps": 1})
    with torch.no_grad():
        expected = mean_loss(load().model, rows[:7]).item()
    assert trained.curve[0]["loss"] == pytest.approx(expected, abs=1e-5)


def test_the_gradient_of_a_step_is_that_of_its_mean_loss(tune: Any, load: Any, rows: list[TokenRow]) -> None:
    trained = tune("out", {"adapter": "full", "batch_rows": 7, "batch_tokens": 500, "max_steps": 1})
    model = load().model.requires_grad_(True)
    mean_loss(model, rows[:7]).backward()
    norm = torch.stack([weight.grad.norm() for weight in model.parameters()]).norm().item()
    assert trained.curve[0]["gradient_norm"] == pytest.approx(norm, rel=1e-4)


def test_micro_batches_change_nothing_but_rounding(tune: Any) -> None:
    one = tune("one", {"batch_tokens": 100_000, "learning_rate": 1e-3})
    many = tune("many", {"batch_tokens": 1, "learning_rate": 1e-3})
    assert [a["loss"] for a in one.curve] == pytest.approx([b["loss"] for b in many.curve], abs=1e-3)


def test_rows_are_seen_in_the_order_of_the_schedule(
    tune: Any, rows: list[TokenRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def recorded(model: Any, packed: Any) -> torch.Tensor:
        seen.append(tuple(packed.input_ids[0].tolist()))
        return token_losses(model, packed)

    monkeypatch.setattr(loop, "token_losses", recorded)
    draws = np.array([5, 1, 5, 0, 3])
    trained = tune("out", {"batch_rows": 1, "epochs": 2}, draws=draws)
    assert seen == [tuple(rows[index].input_ids.tolist()) for index in [5, 1, 5, 0, 3, 5, 1, 5, 0, 3]]
    assert (trained.result.steps, trained.result.rows) == (10, 10)
    assert trained.result.tokens == sum(len(ids) for ids in seen)


def test_the_curve_says_what_each_step_saw(tune: Any, rows: list[TokenRow]) -> None:
    trained = tune("out", {"batch_rows": 10, "warmup_fraction": 0.0, "learning_rate": 1e-3})
    assert [point["rows"] for point in trained.curve] == [10, 10, 4]
    assert [point["step"] for point in trained.curve] == [1, 2, 3]
    assert trained.curve[-1]["epoch"] == 1
    assert [point["learning_rate"] for point in trained.curve] == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3])
    assert trained.curve[2]["supervised_tokens"] == sum(int(row.supervised.sum()) for row in rows[20:])
    assert trained.result.loss == trained.curve[-1]["loss"]


def test_progress_is_told_after_each_step(tune: Any, rows: list[TokenRow]) -> None:
    told: list[tuple[int, int, int]] = []
    tune("out", {"batch_rows": 12}, tell=lambda *how_far: told.append(how_far))
    assert told == [(1, 2, told[0][2]), (2, 2, sum(len(row.input_ids) for row in rows))]


def test_nothing_is_printed(tune: Any, load: Any, capfd: pytest.CaptureFixture[str], recwarn: Any) -> None:
    whole, adapted = load(), load()
    capfd.readouterr()
    tune("whole", {"adapter": "full", "max_steps": 2, "checkpoint_every_steps": 1}, loaded=whole)
    tune("adapted", {"max_steps": 2, "checkpoint_every_steps": 1}, loaded=adapted)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tune: Any) -> None:
    fields = {"adapter": {"lora": {"dropout": 0.1}}}
    first = tune("first", fields)
    torch.rand(7), np.random.rand(7), random.random()
    assert tune("second", fields).bytes() == first.bytes()
    assert tune("third", fields, seed=4).bytes() != first.bytes()


def test_a_training_before_in_the_same_process_changes_nothing(tune: Any) -> None:
    first = tune("first", {})
    tune("other", {"adapter": "full"}, dtype="bfloat16")
    assert tune("second", {}).bytes() == first.bytes()


def test_global_generators_are_left_as_they_were(tune: Any) -> None:
    python, numpy, torch_state = random.getstate(), np.random.get_state()[1], torch.get_rng_state()
    tune("out", {"max_steps": 1})
    assert random.getstate() == python
    assert (np.random.get_state()[1] == numpy).all()
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_the_bytes_do_not_depend_on_where_the_model_lies(
    tune: Any, load: Any, tiny_model: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(tiny_model, tmp_path / "elsewhere")
    for adapter in ("lora", "full"):
        fields = {"adapter": adapter, "max_steps": 2}
        here = tune(f"here-{adapter}", fields)
        there = tune(f"there-{adapter}", fields, loaded=load(folder=elsewhere))
        assert here.bytes() == there.bytes()


def test_gradient_checkpointing_gives_the_same_training(tune: Any) -> None:
    plain = tune("plain", {"max_steps": 3})
    saved = tune("saved", {"max_steps": 3, "gradient_checkpointing": True})
    assert [a["loss"] for a in plain.curve] == pytest.approx([b["loss"] for b in saved.curve], abs=1e-5)


def test_a_model_that_mixes_packed_rows_trains_on_one_row_at_a_time(
    tune: Any, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tune("expected", {"max_steps": 2})
    loaded = load()
    forward = loaded.model.forward

    def blind(input_ids: Any, logits_to_keep: Any = 0, **others: Any) -> Any:
        return forward(input_ids=input_ids, use_cache=False, logits_to_keep=logits_to_keep)

    monkeypatch.setattr(loaded.model, "forward", blind)
    found = tune("found", {"max_steps": 2}, loaded=loaded)
    assert (expected.result.packed, found.result.packed) == (True, False)
    assert [a["loss"] for a in found.curve] == pytest.approx([b["loss"] for b in expected.curve], abs=1e-4)


def test_half_precision_keeps_what_trains_in_float32(tune: Any) -> None:
    lora = tune("lora", {"max_steps": 1}, dtype="bfloat16")
    trained = load_file(lora.out / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    full = tune("full", {"max_steps": 1, "adapter": "full"}, dtype="bfloat16")
    saved = load_file(full.out / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}


def test_full_tuning_in_half_precision_adds_up_steps_too_small_for_it(tune: Any) -> None:
    fields = {"adapter": "full", "learning_rate": 1e-3, "epochs": 2, "schedule": "constant"}
    saved = load_file(tune("half", fields, dtype="bfloat16").out / "model.safetensors")
    # The norms start at 1, where bfloat16's spacing is 2 ** -8: no single step of 1e-3 would move them.
    assert (saved["model.norm.weight"] != 1).float().mean() > 0.5


def test_a_loss_that_is_not_a_number_stops_with_step_and_rate(tune: Any) -> None:
    fields = {"adapter": "full", "learning_rate": 1e30, "warmup_fraction": 0.0, "schedule": "constant"}
    with pytest.raises(CurateError, match=r"loss of step 2 is (nan|inf), at learning rate 1e\+30"):
        tune("out", fields)


def test_draws_must_be_rows(tune: Any) -> None:
    with pytest.raises(DataError, match="draws no row"):
        tune("out", {}, draws=np.array([], dtype=np.int64))
    with pytest.raises(DataError, match="indices of the 24 rows. Got 0 to 24"):
        tune("out", {}, draws=np.array([0, 24]))


def test_float16_is_refused(tune: Any) -> None:
    with pytest.raises(ConfigError, match="float32 or bfloat16. Got float16"):
        tune("out", {}, dtype="float16")
