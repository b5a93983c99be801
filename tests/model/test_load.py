"""Loading: dtype by capability, no cache, pad token, refusals."""

import json
import shutil

import pytest
import torch
import toys

from curate.errors import ConfigError
from curate.model import load
from curate.model.load import choose_device, choose_dtype, load_causal_lm, load_tokenizer, resolve

X86 = {"architecture": "x86_64", "amx_bf16": False, "avx512_bf16": False}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (X86, "float32"),
        ({**X86, "avx512_bf16": True}, "bfloat16"),
        ({**X86, "amx_bf16": True}, "bfloat16"),
        ({"architecture": "aarch64", "bf16": True}, "bfloat16"),
        ({"architecture": "aarch64", "bf16": False}, "float32"),
    ],
)
def test_auto_on_a_cpu_is_bfloat16_where_it_multiplies_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert choose_dtype("auto", "cpu")[0] == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_on_a_gpu_is_bfloat16_where_it_is_not_emulated(monkeypatch, native, expected):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation
    )
    assert choose_dtype("auto", "cuda")[0] == expected


def test_a_dtype_that_is_asked_for_is_taken():
    assert choose_dtype("float32", "cpu") == ("float32", "as configured")


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ConfigError, match=r"dtype must be one of auto, .* Got 'int4'\."):
        choose_dtype("int4", "cpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None) == "cpu"
    with pytest.raises(ConfigError, match="no GPU is visible"):
        choose_device("cuda:1")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_ready_to_score(tiny_model, dtype):
    loaded = load_causal_lm(resolve(str(tiny_model)), dtype=dtype, device="cpu")
    assert {weight.dtype for weight in loaded.model.parameters()} == {getattr(torch, dtype)}
    assert not loaded.model.training
    assert loaded.model.config.use_cache is False
    assert loaded.dtype == dtype
    assert f"{dtype} on cpu (as configured), sdpa attention, pad token '<|pad|>'" in loaded.description


def test_the_attention_asked_for_is_the_one_that_runs(tiny_model):
    loaded = load_causal_lm(resolve(str(tiny_model)), device="cpu", attention="eager")
    assert loaded.model.config._attn_implementation == "eager"


def test_the_end_token_pads_where_there_is_no_pad_token(tmp_path, tiny_model):
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(resolve(str(folder))).pad_token == "<|im_end|>"


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    folder = toys.tiny_llama(tmp_path / "model")
    toys.tiny_tokenizer(more_special=("<|more|>",)).save_pretrained(folder)
    with pytest.raises(ConfigError, match="the tokenizer has 273 ids, the model 272"):
        load_causal_lm(resolve(str(folder)), device="cpu")


def test_an_encoder_is_not_loaded_as_a_language_model(tmp_path, tiny_model):
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    (folder / "modules.json").write_text("[]")
    with pytest.raises(ConfigError, match="must be a causal language model. Got sentence"):
        load_causal_lm(resolve(str(folder)), device="cpu")


def test_an_attention_that_is_not_known_is_refused(tiny_model):
    with pytest.raises(ConfigError, match=r"attention must be one of auto, .* Got 'fast'\."):
        load_causal_lm(resolve(str(tiny_model)), device="cpu", attention="fast")


def test_a_kernel_that_is_not_installed_is_refused(tiny_model):
    if load.choose_device(None) == "cuda":
        pytest.skip("flash attention may be installed where there is a GPU")
    with pytest.raises(ConfigError, match="cannot be loaded with flash_attention_2"):
        load_causal_lm(resolve(str(tiny_model)), device="cpu", attention="flash_attention_2")


@pytest.mark.real
def test_the_packaged_model_reads_english(real_model):
    loaded = load_causal_lm(resolve(str(real_model)), dtype="float32", device="cpu")
    ids = torch.tensor([loaded.tokenizer("The capital of France is Paris.")["input_ids"]])
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(loaded.model(ids).logits[0, :-1], ids[0, 1:])
    assert loss.item() < 3.5
