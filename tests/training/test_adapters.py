"""What each adapter trains, and that what it writes loads by its own library."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

IDS = torch.arange(4, 40)[None]


def logits_of(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_lora_leaves_the_base_as_it_was(tune: Any, load: Any) -> None:
    before = load().model.state_dict()
    after = tune("out", {}).loaded.model.state_dict()
    for name, tensor in before.items():
        head, _, tail = name.rpartition(".")
        assert torch.equal(tensor, after.get(f"{head}.base_layer.{tail}", after.get(name)))


def test_lora_adapts_every_linear_layer_but_the_head(tune: Any) -> None:
    trained = load_file(tune("out", {"max_steps": 1}).out / "adapter_model.safetensors")
    assert len(trained) == 2 * 7 * 2
    assert not any("lm_head" in name or "embed" in name for name in trained)


def test_full_tuning_changes_every_tensor(tune: Any, load: Any) -> None:
    before = load().model.state_dict()
    after = load_file(tune("out", {"adapter": "full"}).out / "model.safetensors")
    assert after.keys() == before.keys()
    assert [name for name in before if torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use_rslora": True, "r": 3},
        {"use_dora": True},
        {"target_modules": ["q_proj", "v_proj"]},
        {"init": "gaussian"},
        {"init": "orthogonal"},
        {"init": "pissa"},
        {"init": "olora"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft 0.21
def test_plain_peft_loads_the_adapter(tune: Any, tiny_model: Path, fields: dict[str, Any]) -> None:
    trained = tune("out", {"adapter": {"lora": fields}, "learning_rate": 1e-3})
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    before = logits_of(base)
    tuned = logits_of(PeftModel.from_pretrained(base, str(trained.out)))
    torch.testing.assert_close(tuned, logits_of(trained.loaded.model), atol=1e-4, rtol=0)
    assert (tuned - before).abs().max() > 0.01


def test_plain_transformers_loads_the_whole_model_and_its_tokenizer(tune: Any) -> None:
    trained = tune("out", {"adapter": "full"})
    model = AutoModelForCausalLM.from_pretrained(trained.out)
    torch.testing.assert_close(logits_of(model), logits_of(trained.loaded.model))
    assert model.config.use_cache
    tokenizer = AutoTokenizer.from_pretrained(trained.out)
    assert tokenizer.chat_template == trained.loaded.tokenizer.chat_template


def test_the_adapter_holds_no_place_of_the_base_model(tune: Any) -> None:
    config = json.loads((tune("out", {"max_steps": 1}).out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert config["target_modules"] == sorted(config["target_modules"])


def test_only_what_is_documented_is_written(tune: Any) -> None:
    names = {file.name for file in tune("out", {"max_steps": 1}).out.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "curve.jsonl"}
