"""Rows of tokens, a small model, and the plainest way to score them: for tests of the one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curate.model.request import Signal, TokenRow

VOCABULARY = 272


def small_llama(tied: bool = False, bias: bool = False, dtype: torch.dtype = torch.float32) -> Any:
    """A random Llama (hidden 32, two layers, 272 tokens) in evaluation mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        bos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        if bias:
            model.lm_head.bias = torch.nn.Parameter(torch.randn(VOCABULARY))
    return model.to(dtype).eval()


def token_rows(n: int, seed: int = 0, longest: int = 40) -> list[TokenRow]:
    """n rows of random tokens above 1: a prompt, then one or two supervised spans."""
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        prompt, response, after = generator.integers(1, longest // 2, 3)
        ids = generator.integers(2, VOCABULARY, prompt + response + after, dtype=np.int32)
        supervised = np.zeros(len(ids), dtype=bool)
        supervised[prompt : prompt + response] = True
        supervised[-1] = index % 3 == 0
        rows.append(TokenRow(ids, supervised))
    return rows


def preference_rows(n: int, seed: int = 0) -> list[TokenRow]:
    """As `token_rows`, each with a rejected answer of other tokens and another length, and some characters."""
    generator = np.random.default_rng([seed, 1])
    rows = []
    for each in token_rows(n, seed):
        prompt = each.input_ids[: int(np.flatnonzero(each.supervised)[0])]
        answer = generator.integers(2, VOCABULARY, int(generator.integers(1, 15)), dtype=np.int32)
        other = TokenRow(
            np.concatenate([prompt, answer]), np.arange(len(prompt) + len(answer)) >= len(prompt)
        )
        count = int(3 * each.supervised.sum())
        rows.append(TokenRow(each.input_ids, each.supervised, count, other))
    return rows


def row(prompt: list[int], response: list[int]) -> TokenRow:
    """A row with one supervised span."""
    supervised = np.array([False] * len(prompt) + [True] * len(response), dtype=bool)
    return TokenRow(np.array([*prompt, *response], dtype=np.int32), supervised)


@torch.no_grad()
def states_of(model: Any, one: TokenRow, layer: int = -1) -> torch.Tensor:
    """hidden_states[layer] of transformers, [tokens, d], float64; -1 is after the final norm."""
    ids = torch.from_numpy(one.input_ids.astype(np.int64))[None]
    return model(ids, output_hidden_states=True).hidden_states[layer][0].double()  # type: ignore[no-any-return]


def naive(model: Any, row: TokenRow) -> dict[Signal, NDArray[np.float64]]:
    """All signals of one row by itself: full logits, and the head's gradient by autograd."""
    ids = torch.from_numpy(row.input_ids.astype(np.int64))
    at = torch.from_numpy(np.flatnonzero(row.supervised[1:]))
    with torch.no_grad():
        hidden = model(ids[None], output_hidden_states=True).hidden_states[-1][0, at]
    parameters = [model.lm_head.weight.detach().clone().requires_grad_()]
    if model.lm_head.bias is not None:
        parameters.append(model.lm_head.bias.detach().clone().requires_grad_())
    logits = torch.nn.functional.linear(hidden, *parameters)
    loss = torch.nn.functional.cross_entropy(logits, ids[at + 1])
    gradients = torch.autograd.grad(loss, parameters)
    logs = logits.detach().log_softmax(-1)
    residual = logs.exp() - torch.nn.functional.one_hot(ids[at + 1], logits.shape[1])
    own = logs.gather(1, ids[at + 1, None])
    margin = own[:, 0].exp() - logs.scatter(1, ids[at + 1, None], -torch.inf).amax(1).exp()
    products = [(p.detach().double() * g).sum() for p, g in zip(parameters, gradients, strict=True)]
    found = {
        Signal.LOG_PROBABILITY: logs.gather(1, ids[at + 1, None])[:, 0],
        Signal.ENTROPY: -(logs.exp() * logs).sum(1),
        Signal.ERROR_NORM: residual.norm(dim=1),
        Signal.MARGIN: margin,
        Signal.TARGET_RANK: (logs > own).sum(1),
        Signal.HEAD_GRADIENT_NORM: torch.cat([g.flatten() for g in gradients]).double().norm(),
        Signal.HEAD_WEIGHT_GRADIENT_PRODUCT: torch.stack(products).sum(),
        Signal.HEAD_WEIGHT_NORM: torch.cat([p.detach().flatten() for p in parameters]).double().norm(),
    }
    return {signal: np.atleast_1d(values.double().numpy()) for signal, values in found.items()}
