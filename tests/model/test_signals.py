"""The one pass against scoring one row at a time, and against autograd."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from passes import VOCABULARY, naive, row, small_llama, token_rows

from curate.errors import CurateError
from curate.model import signals as module
from curate.model.forward import Asked, Batch, Outputs
from curate.model.request import PER_EXAMPLE, Signal, TokenRow, TokenSignals, View
from curate.model.signals import Throughput, compute_signals

FULL = {View.FULL: frozenset(Signal)}
ALONE = {View.RESPONSE_ONLY: frozenset({Signal.LOG_PROBABILITY})}
HEAD = (Signal.HEAD_GRADIENT_NORM, Signal.HEAD_WEIGHT_GRADIENT_PRODUCT, Signal.HEAD_WEIGHT_NORM)


def values(found: TokenSignals, signal: Signal, index: int) -> Any:
    if signal in PER_EXAMPLE:
        return found.example(signal)[index : index + 1]
    return found.per_token[signal][found.offsets[index] : found.offsets[index + 1]]


def assert_same(one: TokenSignals, other: TokenSignals, order: Sequence[int], rtol: float) -> None:
    for place, index in enumerate(order):
        for signal in Signal:
            expected, found = values(one, signal, index), values(other, signal, place)
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 10, err_msg=signal)


@pytest.mark.parametrize(("tied", "bias"), [(False, False), (True, False), (False, True)])
def test_every_signal_is_that_of_a_row_by_itself(tied: bool, bias: bool) -> None:
    model, rows = small_llama(tied, bias, torch.float64), token_rows(12)
    found = compute_signals(model, rows, FULL, batch_tokens=120, head_memory_bytes=12 * VOCABULARY * 8)
    for index, one in enumerate(rows):
        for signal, expected in naive(model, one).items():
            np.testing.assert_allclose(values(found, signal, index), expected, rtol=1e-9, err_msg=signal)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("longest", [40, 160])
def test_head_gradients_are_those_of_autograd_in_float32(tied: bool, longest: int) -> None:
    """To 1e-4, by both forms: up to 32 tokens the Gram matrix, above it the product."""
    model, rows = small_llama(tied), token_rows(8, longest=longest)
    found = compute_signals(model, rows, {View.FULL: frozenset(HEAD)}, batch_tokens=500)
    for index, one in enumerate(rows):
        expected = naive(model, one)
        for signal in HEAD:
            assert found.example(signal)[index] == pytest.approx(expected[signal][0], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-3)])
def test_scores_do_not_depend_on_batch_order_or_padding(dtype: torch.dtype, tolerance: float) -> None:
    model, rows = small_llama(dtype=dtype), token_rows(20)
    alone = compute_signals(model, rows, FULL, batch_tokens=1)
    for batch_tokens, order in ((64, range(20)), (10_000, range(19, -1, -1))):
        found = compute_signals(model, [rows[index] for index in order], FULL, batch_tokens)
        for signal in (Signal.LOG_PROBABILITY, Signal.ENTROPY, Signal.ERROR_NORM):
            expected = alone.mean(signal)[list(order)]
            np.testing.assert_allclose(found.mean(signal), expected, rtol=tolerance, err_msg=signal)
        for signal in HEAD:
            expected = alone.example(signal)[list(order)]
            np.testing.assert_allclose(found.example(signal), expected, rtol=tolerance, atol=tolerance)


def test_bfloat16_is_near_float32() -> None:
    rows = token_rows(20)
    model = small_llama(dtype=torch.bfloat16)
    rounded = compute_signals(model, rows, FULL, 1000).mean(Signal.LOG_PROBABILITY)
    exact = compute_signals(model.float(), rows, FULL, 1000).mean(Signal.LOG_PROBABILITY)
    np.testing.assert_allclose(rounded, exact, rtol=0.03)


def test_nothing_else_is_computed() -> None:
    found = compute_signals(small_llama(), token_rows(3), {View.FULL: {Signal.ENTROPY}}, 100)
    assert set(found.per_token) == {Signal.ENTROPY}
    assert not found.per_example
    assert not found.views


def test_a_row_without_targets_has_no_tokens_and_null_examples() -> None:
    rows = [row([5, 6, 7], []), row([5, 6], [7, 8]), row([], [])]
    found = compute_signals(small_llama(), rows, FULL, 100)
    assert found.counts.tolist() == [0, 2, 0]
    assert np.isnan(found.example(Signal.HEAD_GRADIENT_NORM)).tolist() == [True, False, True]
    assert np.isnan(found.mean(Signal.ENTROPY)).tolist() == [True, False, True]


def test_no_row_at_all() -> None:
    found = compute_signals(small_llama(), [], FULL, 100)
    assert found.offsets.tolist() == [0]


def test_the_first_token_of_a_row_is_never_a_target() -> None:
    model = small_llama()
    whole = compute_signals(model, [row([], [5, 6, 7])], FULL, 100)
    rest = compute_signals(model, [row([5], [6, 7])], FULL, 100)
    assert_same(whole, rest, [0], 1e-6)


def test_nothing_after_the_last_target_is_forwarded() -> None:
    record = Throughput()
    one = row([5, 6], [7, 8])
    rows = [
        one,
        TokenRow(np.append(one.input_ids, [9, 9]).astype(np.int32), np.append(one.supervised, [False] * 2)),
    ]
    found = compute_signals(small_llama(), rows, FULL, 100, throughput=record)
    assert (record.rows, record.tokens, record.padded_tokens, record.supervised_tokens) == (2, 6, 6, 4)
    np.testing.assert_allclose(values(found, Signal.ENTROPY, 0), values(found, Signal.ENTROPY, 1), rtol=1e-6)


def test_throughput_adds_up() -> None:
    record, model = Throughput(), small_llama()
    for _ in range(2):
        compute_signals(model, [row([5, 6], [7]), row([5], [6])], FULL, 100, throughput=record)
    assert (record.rows, record.tokens, record.padded_tokens, record.supervised_tokens) == (4, 6, 8, 4)
    assert record.seconds > 0


@pytest.mark.parametrize(
    ("given", "forwarded"),
    [
        (row([5, 6], [7, 8, 9]), row([7], [8, 9])),
        (row([1, 5, 6], [7, 8, 9]), row([1], [7, 8, 9])),  # 1 is BOS: it opens the text
        (row([1, 5, 1, 6], [7, 8, 9]), row([7], [8, 9])),  # here it is a turn marker
    ],
    ids=["no_bos", "bos", "marker"],
)
def test_the_response_alone(given: TokenRow, forwarded: TokenRow) -> None:
    model = small_llama(dtype=torch.float64)
    found = compute_signals(model, [given], ALONE, 100).view(View.RESPONSE_ONLY)
    expected = naive(model, forwarded)[Signal.LOG_PROBABILITY]
    np.testing.assert_allclose(found.per_token[Signal.LOG_PROBABILITY], expected, rtol=1e-9)


def test_turns_are_joined_in_the_response_alone() -> None:
    model = small_llama(dtype=torch.float64)
    ids, supervised = (
        np.array([5, 5, 6, 7, 8, 9, 10], dtype=np.int32),
        np.array([0, 0, 1, 1, 0, 0, 1], dtype=bool),
    )
    found = compute_signals(model, [TokenRow(ids, supervised)], ALONE, 100).view(View.RESPONSE_ONLY)
    expected = naive(model, row([6], [7, 10]))[Signal.LOG_PROBABILITY]
    np.testing.assert_allclose(found.per_token[Signal.LOG_PROBABILITY], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "given", [row([], [5, 6]), row([1], [5, 6]), row([5], [6, 7]), row([5, 6], [7]), row([5, 6], [])]
)
def test_a_row_without_prompt_or_context_has_no_tokens_alone(given: TokenRow) -> None:
    record = Throughput()
    found = compute_signals(small_llama(), [given], ALONE, 100, throughput=record).view(View.RESPONSE_ONLY)
    assert found.counts.tolist() == [0]
    assert record.tokens == 0


def test_lengths_that_differ_are_refused() -> None:
    bad = TokenRow(np.array([5, 6], dtype=np.int32), np.array([True]))
    with pytest.raises(ValueError, match=r"must have one length. Got 2 and 1"):
        compute_signals(small_llama(), [bad], FULL, 100)


def test_a_batch_that_does_not_fit_is_halved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, rows = small_llama(), token_rows(9)
    expected = compute_signals(model, rows, FULL, 10_000)
    forward = module.forward

    def limited(model: Any, batch: Batch, asked: Asked | None) -> Outputs:
        if len(batch.lengths) > 3:
            raise torch.OutOfMemoryError("no more")
        return forward(model, batch, asked)

    monkeypatch.setattr(module, "forward", limited)
    assert_same(expected, compute_signals(model, rows, FULL, 10_000), range(9), 1e-5)
    assert "out of memory with a batch of" in caplog.text


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        compute_signals(small_llama().train(), token_rows(1), FULL, 100)


@pytest.mark.parametrize("name", ["final_logit_softcapping", "logit_scale", "logits_scaling"])
def test_scaled_or_capped_logits_are_refused_by_name(name: str) -> None:
    model = small_llama()
    setattr(model.config, name, 30.0)
    with pytest.raises(CurateError, match=rf"`{name}` must be unset.*Got 30"):
        compute_signals(model, token_rows(1), FULL, 100)


def test_changed_logits_are_refused_whatever_the_field_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_llama()
    forward = model.forward

    def scaled(**given: Any) -> Any:
        result = forward(**given)
        result.logits = result.logits * 1.5
        return result

    monkeypatch.setattr(model, "forward", scaled)
    with pytest.raises(CurateError, match="logits must be the output head applied"):
        compute_signals(model, token_rows(1), FULL, 100)


def test_a_head_that_is_not_linear_is_refused() -> None:
    model = small_llama()
    model.lm_head = torch.nn.Sequential(model.lm_head)
    with pytest.raises(CurateError, match=r"must be a torch.nn.Linear.*Got Sequential"):
        compute_signals(model, token_rows(1), FULL, 100)


def architectures() -> dict[str, Any]:
    from transformers import (
        Gemma2Config,
        GPT2Config,
        GPTNeoXConfig,
        MistralConfig,
        OPTConfig,
        PhiConfig,
        Qwen3Config,
    )

    size = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    small = {**size, "intermediate_size": 64, "num_key_value_heads": 4, "head_dim": 8, "pad_token_id": 0}
    return {
        "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128),
        "gpt_neox": GPTNeoXConfig(**size, intermediate_size=64),
        "opt": OPTConfig(**size, ffn_dim=64, word_embed_proj_dim=16),
        "phi": PhiConfig(**size, intermediate_size=64, pad_token_id=0),
        "mistral": MistralConfig(**small, sliding_window=6),
        "qwen3": Qwen3Config(**small),
        "gemma2": Gemma2Config(**small, final_logit_softcapping=None),
    }


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "opt", "phi", "mistral", "qwen3", "gemma2"])
def test_other_architectures(name: str) -> None:
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(architectures()[name]).eval()
    rows = token_rows(5)
    found = compute_signals(model, rows, {View.FULL: {Signal.LOG_PROBABILITY}}, 1000)
    for index, one in enumerate(rows):
        ids = torch.from_numpy(one.input_ids.astype(np.int64))
        with torch.no_grad():
            logs = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        expected = logs.double().numpy()[one.supervised[1:]]
        np.testing.assert_allclose(
            values(found, Signal.LOG_PROBABILITY, index), expected, rtol=1e-4, atol=1e-5
        )


def test_padding_stays_within_the_positions_of_the_model() -> None:
    """Half precision pads to blocks of 16; this model has 20 positions, and each row takes 19."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=4, n_positions=20)
    model = GPT2LMHeadModel(config).to(torch.bfloat16).eval()
    rows = [row(list(range(10)), list(range(10, 20)))] * 2
    assert np.isfinite(compute_signals(model, rows, FULL, 100).mean(Signal.ENTROPY)).all()


@pytest.mark.real
def test_the_real_model_in_bfloat16_does_not_depend_on_the_batch(real_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.bfloat16).eval()
    rows = [row(list(range(40, 60 + 7 * index)), [500, 600][: 1 + index % 2]) for index in range(6)]
    alone, together = (compute_signals(model, rows, FULL, size) for size in (1, 10_000))
    for signal in (Signal.LOG_PROBABILITY, Signal.ENTROPY, Signal.ERROR_NORM):
        np.testing.assert_allclose(together.mean(signal), alone.mean(signal), rtol=1e-3, err_msg=signal)
    for signal in HEAD:
        np.testing.assert_allclose(together.example(signal), alone.example(signal), rtol=1e-3, err_msg=signal)


@pytest.mark.real
@pytest.mark.parametrize("response", [30, 700])
def test_the_real_models_head_gradient_is_that_of_autograd(real_model: Path, response: int) -> None:
    """Below and above the width, 576; tied embeddings, 49,152 tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32).eval()
    one = row([5, 6, 7], np.random.default_rng(0).integers(100, 40_000, response).tolist())
    found, expected = compute_signals(model, [one], FULL, 100), naive(model, one)
    for signal in HEAD:
        assert found.example(signal)[0] == pytest.approx(expected[signal][0], rel=1e-4)
