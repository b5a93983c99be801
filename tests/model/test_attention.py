"""Attention statistics against eager attention, row by row, in plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from passes import VOCABULARY, small_llama
from torch import Tensor

from curate.errors import CurateError
from curate.model.attention import AttentionStatistics, attention_statistics
from curate.model.head import last_hidden_states

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
LENGTHS = [23, 1, 9, 40]


def model(kind: str, **settings: Any) -> Any:
    """A random model of three layers with peaked attention."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**SIZES, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def grouped() -> Any:
    """Llama whose four heads share two key heads."""
    return model("Llama", num_key_value_heads=2)


def windowed() -> Any:
    """Mistral, whose layers see the last seven tokens."""
    return model("Mistral", num_key_value_heads=2, sliding_window=7)


def rows(lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, VOCABULARY, (n,), generator=generator) for n in lengths]


def padded(sequences: list[Tensor], width: int | None = None) -> Tensor:
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    return torch.nn.functional.pad(ids, (0, (width or ids.shape[1]) - ids.shape[1]))


def collect(model: Any, ids: Tensor, layers: int, **settings: Any) -> AttentionStatistics:
    with torch.inference_mode(), attention_statistics(model, layers, **settings) as found:
        last_hidden_states(model, ids)
    return found


def naive(model: Any, ids: Tensor, layers: int, window: int = 10**6) -> tuple[Any, Any]:
    """focus and received of one row, from attention weights written out, entry by entry."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(ids[None], output_attentions=True).attentions[-layers:]
    model.set_attn_implementation(before)
    n, focus, received = len(ids), [], []
    for head in torch.cat(attentions, dim=1)[0].double().numpy():
        q, k = np.zeros(n), np.zeros(n)
        for i in range(1, n):
            row = head[i][head[i] > 0]
            q[i] = 1 + (row * np.log(row)).sum() / np.log(min(i + 1, window))
        for i in range(n):
            k[i] = sum(head[j, i] for j in range(i, n)) / min(n - i, window)
        focus.append(q)
        received.append(k / k.max())
    return np.mean(focus, axis=0), np.mean(received, axis=0)


def assert_naive(model: Any, found: AttentionStatistics, layers: int, window: int = 10**6) -> None:
    for place, ids in enumerate(rows(LENGTHS)):
        focus, received = naive(model, ids, layers, window)
        np.testing.assert_allclose(found.focus[place, : len(ids)].numpy(), focus, atol=1e-5)
        np.testing.assert_allclose(found.received[place, : len(ids)].numpy(), received, atol=1e-5)


@pytest.mark.parametrize("make", [small_llama, grouped])
@pytest.mark.parametrize("layers", [1, 2])
def test_statistics_are_those_of_eager_attention(make: Any, layers: int) -> None:
    llama = make()
    assert_naive(llama, collect(llama, padded(rows(LENGTHS)), layers, lengths=LENGTHS), layers)


def test_blocks_of_few_queries_and_rows_change_nothing() -> None:
    llama, ids = grouped(), padded(rows(LENGTHS))
    one_query = 3 * 4 * 40 * 4
    for memory in (one_query, 7 * one_query, 90 * one_query):
        assert_naive(llama, collect(llama, ids, 2, lengths=LENGTHS, memory_bytes=memory), 2)


def test_more_padding_changes_nothing() -> None:
    llama = grouped()
    found = collect(llama, padded(rows(LENGTHS), width=57), 2, lengths=torch.tensor(LENGTHS))
    assert_naive(llama, found, 2)


def test_padding_has_zeros() -> None:
    found = collect(grouped(), padded(rows(LENGTHS)), 2, lengths=LENGTHS)
    beyond = torch.arange(40) >= torch.tensor(LENGTHS)[:, None]
    assert not found.focus[beyond].any() and not found.received[beyond].any()


def test_rows_without_lengths_are_whole() -> None:
    llama, (ids,) = grouped(), rows([23])
    found = collect(llama, ids[None], 1)
    focus, received = naive(llama, ids, 1)
    np.testing.assert_allclose(found.focus[0].numpy(), focus, atol=1e-5)
    np.testing.assert_allclose(found.received[0].numpy(), received, atol=1e-5)


def test_a_sliding_window_counts_what_is_seen_in_it() -> None:
    mistral = windowed()
    found = collect(mistral, padded(rows(LENGTHS)), 2, lengths=LENGTHS)
    assert_naive(mistral, found, 2, window=7)
    for_one = collect(mistral, rows([5])[0][None], 2)
    np.testing.assert_allclose(for_one.focus[0].numpy(), naive(mistral, rows([5])[0], 2)[0], atol=1e-5)


def test_a_mask_of_padding_on_the_right_changes_nothing() -> None:
    llama, ids = grouped(), padded(rows(LENGTHS))
    mask = torch.arange(40) < torch.tensor(LENGTHS)[:, None]
    with torch.inference_mode(), attention_statistics(llama, 2, LENGTHS) as found:
        llama(input_ids=ids, attention_mask=mask.long())
    assert_naive(llama, found, 2)


def test_low_precision_is_near_float32() -> None:
    ids = padded(rows(LENGTHS))
    low = collect(small_llama(dtype=torch.bfloat16), ids, 2, lengths=LENGTHS)
    exact = collect(small_llama(), ids, 2, lengths=LENGTHS)
    assert low.focus.dtype == low.received.dtype == torch.float32
    assert float((low.focus - exact.focus).abs().max()) < 0.05
    assert float((low.received - exact.received).abs().max()) < 0.05


def test_double_precision_stays() -> None:
    llama = small_llama(dtype=torch.float64)
    found = collect(llama, rows([23])[0][None], 2)
    assert found.focus.dtype == torch.float64
    np.testing.assert_allclose(found.focus[0].numpy(), naive(llama, rows([23])[0], 2)[0], atol=2e-7)


def test_the_states_are_those_of_the_model_itself() -> None:
    llama, ids = grouped(), padded(rows(LENGTHS))
    with torch.inference_mode(), attention_statistics(llama, 1, LENGTHS):
        inside = last_hidden_states(llama, ids)
    with torch.inference_mode():
        assert torch.equal(inside, last_hidden_states(llama, ids))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_implementation_of_the_model_is_back_afterwards(implementation: str, fails: bool) -> None:
    llama = grouped()
    llama.set_attn_implementation(implementation)
    try:
        with attention_statistics(llama, 1) as found:
            assert llama.config._attn_implementation not in ("sdpa", "eager")
            if fails:
                raise KeyboardInterrupt
            last_hidden_states(llama, rows([4])[0][None])
    except KeyboardInterrupt:
        assert fails
    else:
        assert found.focus.shape == (1, 4)
    assert llama.config._attn_implementation == implementation
    with attention_statistics(llama, 1):
        pass


def test_a_second_model_is_not_observed() -> None:
    llama, other, ids = grouped(), small_llama(), rows([6])[0][None]
    with torch.inference_mode(), attention_statistics(llama, 2) as found:
        last_hidden_states(other, ids)
        last_hidden_states(llama, ids)
    np.testing.assert_allclose(found.focus[0].numpy(), naive(llama, ids[0], 2)[0], atol=1e-5)


def test_without_a_forward_nothing_was_seen() -> None:
    with attention_statistics(grouped(), 2) as found:
        pass
    with pytest.raises(CurateError, match=r"Nothing was seen of \[1, 2\]"):
        _ = found.focus


def test_two_forwards_are_refused() -> None:
    llama, ids = grouped(), rows([5])[0][None]
    with pytest.raises(CurateError, match="run once"), attention_statistics(llama, 1):
        last_hidden_states(llama, ids)
        last_hidden_states(llama, ids)


@pytest.mark.parametrize("layers", [0, 4])
def test_layers_that_are_not_there_are_refused(layers: int) -> None:
    with (
        pytest.raises(CurateError, match="layers must be from 1 to 3"),
        attention_statistics(grouped(), layers),
    ):
        pass


@pytest.mark.parametrize("lengths", [[4], [4, 0], [4, 6]])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="lengths must be 2 numbers from 1 to 5"):
        collect(grouped(), padded(rows([4, 5])), 1, lengths=lengths)


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_bytes must be at least"):
        collect(grouped(), rows([5])[0][None], 1, memory_bytes=100)


def test_nesting_is_refused_and_leaves_the_outer_one_alone() -> None:
    llama, ids = grouped(), rows([5])[0][None]
    with torch.inference_mode(), attention_statistics(llama, 1) as found:
        with pytest.raises(CurateError, match="must not be nested"), attention_statistics(small_llama(), 1):
            pass
        last_hidden_states(llama, ids)
    assert found.focus.shape == (1, 5)


def test_padding_on_the_left_is_refused() -> None:
    llama, ids = grouped(), padded(rows([5, 5]))
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    with pytest.raises(CurateError, match="let every token see itself"), attention_statistics(llama, 1):
        llama(input_ids=ids, attention_mask=mask)


def test_a_cache_is_refused() -> None:
    llama, ids = grouped(), rows([5])[0][None]
    cache = llama(ids, use_cache=True).past_key_values
    with (
        pytest.raises(CurateError, match="without a cache. Got 6 keys for 1 queries"),
        attention_statistics(llama, 1),
    ):
        llama(ids[:, :1], past_key_values=cache)


def test_capped_logits_are_refused() -> None:
    """By the model's class, or by what its layers ask for, as the version of transformers has it."""
    capped = model("Gemma2", num_key_value_heads=2, head_dim=8)
    with pytest.raises(CurateError, match="must support|Got `softcap`"), attention_statistics(capped, 1):
        last_hidden_states(capped, rows([5])[0][None])


def test_a_layer_that_changes_the_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    llama = grouped()
    layer = llama.model.layers[0].self_attn
    plain = layer.forward
    monkeypatch.setattr(layer, "forward", lambda **given: plain(**given, softcap=30.0))
    with pytest.raises(CurateError, match="Got `softcap`"), attention_statistics(llama, 1):
        last_hidden_states(llama, rows([5])[0][None])


def test_a_model_that_is_not_causal_is_refused() -> None:
    llama = grouped()
    for layer in llama.model.layers:
        layer.self_attn.is_causal = False
    with pytest.raises(CurateError, match="be causal. Layer 2 is not"), attention_statistics(llama, 1):
        last_hidden_states(llama, rows([5])[0][None])


def test_a_model_that_does_not_use_the_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    llama = grouped()
    monkeypatch.setattr(type(llama.model), "_can_set_attn_implementation", classmethod(lambda cls: False))
    with pytest.raises(CurateError, match="must go through"), attention_statistics(llama, 1):
        pass
