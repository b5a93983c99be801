"""Averages of models, and of low-rank updates, against dense arithmetic."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from curate.errors import CurateError
from curate.evaluate import load_tuned
from curate.training.merging import average, low_rank_average, merge

LAYER = "base_model.model.layer"


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn((5, 3), generator=generator).to(dtype) for name in ("first", "second")}
    return {**weights, "positions": torch.arange(4) + seed}


def low_rank(seed: int, rank: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{LAYER}.lora_A.weight": torch.randn((rank, 7), generator=generator),
        f"{LAYER}.lora_B.weight": torch.randn((5, rank), generator=generator),
    }


def product(factors: dict[str, Tensor], scale: float = 1.0) -> Tensor:
    return scale * (factors[f"{LAYER}.lora_B.weight"].double() @ factors[f"{LAYER}.lora_A.weight"].double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_average_of_identical_models_is_the_model(dtype: torch.dtype) -> None:
    merged = average([state(1, dtype)] * 3, [1 / 3] * 3)
    assert all(torch.equal(merged[name], tensor) for name, tensor in state(1, dtype).items())
    assert merged["first"].dtype == dtype


def test_the_order_of_the_models_does_not_matter() -> None:
    models, weights = [state(seed) for seed in range(3)], [0.5, 0.3, 0.2]
    first = average(models, weights)
    for order in permutations(range(3)):
        other = average([models[place] for place in order], [weights[place] for place in order])
        torch.testing.assert_close(other["first"], first["first"], rtol=0, atol=1e-7)


def test_a_weighted_average_is_the_sum_of_weights_times_values() -> None:
    merged = average([state(0), state(1)], [0.25, 0.75])
    torch.testing.assert_close(merged["second"], 0.25 * state(0)["second"] + 0.75 * state(1)["second"])


def test_weights_that_are_all_on_one_model_give_it() -> None:
    assert torch.equal(average([state(0), state(1)], [0.0, 1.0])["first"], state(1)["first"])


def test_integer_buffers_are_not_averaged() -> None:
    merged = average([state(0), state(5)], [0.5, 0.5])
    assert merged["positions"].tolist() == [0, 1, 2, 3]


def test_different_names_are_named() -> None:
    with pytest.raises(CurateError, match="Model 1 and model 3 differ in `third`"):
        average([state(0), state(1), {**state(2), "third": torch.zeros(1)}], [1 / 3] * 3)


def test_different_shapes_are_named() -> None:
    with pytest.raises(CurateError, match="same shapes.*`second`"):
        average([state(0), {**state(1), "second": torch.zeros(5, 4)}], [0.5, 0.5])


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5], [1.0], [float("nan"), 1.0]], ids=str)
def test_weights_must_lie_on_the_simplex(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        average([state(0), state(1)], weights)


@pytest.mark.parametrize("ranks", [(2, 2, 2), (1, 4, 3)], ids=str)
def test_the_average_of_updates_is_that_of_their_products(ranks: tuple[int, ...]) -> None:
    adapters = [low_rank(seed, rank) for seed, rank in enumerate(ranks)]
    scales, weights = [2.0, 0.5, 16 / 3**0.5], [0.2, 0.5, 0.3]
    merged = low_rank_average(adapters, scales, weights)
    dense = sum(w * product(a, s) for w, a, s in zip(weights, adapters, scales, strict=True))
    assert merged[f"{LAYER}.lora_A.weight"].shape == (sum(ranks), 7)
    torch.testing.assert_close(product(merged), dense, rtol=0, atol=1e-5)


def test_it_is_not_the_product_of_averaged_factors() -> None:
    adapters = [low_rank(0, 2), low_rank(1, 2)]
    apart = product(average(adapters, [0.5, 0.5]), 2.0)
    merged = product(low_rank_average(adapters, [2.0, 2.0], [0.5, 0.5]))
    assert (merged - apart).abs().max() > 0.5


def test_the_average_of_identical_updates_is_the_update() -> None:
    merged = low_rank_average([low_rank(3, 2)] * 3, [2.0] * 3, [1 / 3] * 3)
    torch.testing.assert_close(product(merged), product(low_rank(3, 2), 2.0), rtol=0, atol=1e-6)


def test_a_model_of_weight_0_adds_no_rank() -> None:
    merged = low_rank_average([low_rank(0, 2), low_rank(1, 3)], [1.0, 1.0], [1.0, 0.0])
    assert torch.equal(merged[f"{LAYER}.lora_A.weight"], low_rank(0, 2)[f"{LAYER}.lora_A.weight"])


def test_adapters_of_different_layers_are_refused() -> None:
    other = {name.replace("layer", "other"): tensor for name, tensor in low_rank(1, 2).items()}
    with pytest.raises(CurateError, match=r"differ in `base_model.model.layer.lora_A.weight`"):
        low_rank_average([low_rank(0, 2), other], [1.0, 1.0], [0.5, 0.5])


def test_what_is_no_factor_is_refused() -> None:
    dora = {**low_rank(0, 2), f"{LAYER}.lora_magnitude_vector": torch.ones(5)}
    with pytest.raises(CurateError, match=r"lora_magnitude_vector.*use_dora"):
        low_rank_average([dora, dora], [1.0, 1.0], [0.5, 0.5])


def adapter(model: Path, folder: Path, seed: int, **fields: Any) -> Path:
    """A random adapter of the tiny Llama, as peft saves it."""
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model)
    tuned = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **fields))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    tuned.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(4, 40)[None]).logits


def dense(base: Path, folders: list[Path], weights: list[float]) -> dict[str, Tensor]:
    """The average of the models with their adapters merged into the weights."""
    states = []
    for folder in folders:
        tuned: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))
        states.append(tuned.merge_and_unload().state_dict())
    return average(states, weights)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft 0.21
def test_a_merged_adapter_is_the_average_of_the_tuned_models(
    tmp_path: Path, tiny_model: Path, load: Any
) -> None:
    """Ranks, scales and rsLoRA differ."""
    settings: list[dict[str, Any]] = [
        {"r": 2, "lora_alpha": 8},
        {"r": 4, "lora_alpha": 4, "use_rslora": True},
        {"r": 3, "lora_alpha": 3, "lora_dropout": 0.3},
    ]
    folders = [adapter(tiny_model, tmp_path / str(n), n, **fields) for n, fields in enumerate(settings)]
    weights = [0.5, 0.3, 0.2]
    (tmp_path / "out").mkdir()
    merge(folders, weights, tmp_path / "out")
    oracle = AutoModelForCausalLM.from_pretrained(tiny_model)
    before = logits(oracle)
    oracle.load_state_dict(dense(tiny_model, folders, weights))
    merged = load_tuned(load(), tmp_path / "out")
    torch.testing.assert_close(logits(merged), logits(oracle), rtol=0, atol=1e-4)
    assert (logits(oracle) - before).abs().max() > 0.05


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("fields", "told"),
    [({"use_dora": True}, "use_dora: True"), ({"rank_pattern": {"q_proj": 3}}, "rank_pattern")],
    ids=str,
)
def test_what_is_more_than_an_update_is_refused(
    tmp_path: Path, tiny_model: Path, fields: dict[str, Any], told: str
) -> None:
    folder = adapter(tiny_model, tmp_path / "one", 0, **fields)
    (tmp_path / "out").mkdir()
    with pytest.raises(CurateError, match=told):
        merge([folder, folder], [0.5, 0.5], tmp_path / "out")


def test_a_start_that_moves_the_base_weights_is_refused(tmp_path: Path, tune: Any) -> None:
    folder = tune("one", {"adapter": {"lora": {"init": "pissa"}}, "max_steps": 1}).out
    (tmp_path / "out").mkdir()
    with pytest.raises(CurateError, match="init_lora_weights: 'pissa'"):
        merge([folder, folder], [0.5, 0.5], tmp_path / "out")


def test_whole_models_are_averaged(tmp_path: Path, tune: Any, load: Any) -> None:
    fields = {"adapter": "full", "max_steps": 2}
    folders = [
        tune(f"seed-{seed}", fields, draws=np.array(draws)).out
        for seed, draws in enumerate(([0, 1, 2], [3, 4, 5]))
    ]
    (tmp_path / "out").mkdir()
    merge(folders, [0.25, 0.75], tmp_path / "out")
    states = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in folders]
    oracle = AutoModelForCausalLM.from_pretrained(folders[0])
    oracle.load_state_dict(average(states, [0.25, 0.75]))
    merged = logits(load_tuned(load(), tmp_path / "out"))
    torch.testing.assert_close(merged, logits(oracle))
    assert not torch.equal(merged, logits(load_tuned(load(), folders[0])))


def test_adapters_and_models_do_not_mix(tmp_path: Path, tune: Any) -> None:
    folders = [tune("low", {"max_steps": 1}).out, tune("whole", {"adapter": "full", "max_steps": 1}).out]
    with pytest.raises(CurateError, match="adapters alone, or whole models alone"):
        merge(folders, [0.5, 0.5], tmp_path)


def test_a_merged_adapter_says_what_it_is(tmp_path: Path, tune: Any) -> None:
    folder = tune("one", {"adapter": {"lora": {"r": 4, "alpha": 12}}, "max_steps": 1}).out
    (tmp_path / "out").mkdir()
    merge([folder, folder], [0.5, 0.5], tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (8, 8, False)
