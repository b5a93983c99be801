"""What a model's last layers attend to, token by token, without holding any layer's attention.

In a layer and head let A be the causal attention weights of a sequence of n tokens, row i over keys 0 … i.

    Q_i = 1 - H_i / log(i + 1),  Q_0 = 0     H_i the entropy of row i: 1 if one token is attended to,
                                             0 if all that can be seen are attended to alike
    K_i = (sum_{j >= i} A_ji) / (n - i)      the mean weight that those who see token i give it,
                                             then divided by its maximum in the sequence

`focus` is the mean of Q and `received` that of K, over the last layers and all heads: the two halves of TRIM's
weight of a token.

The model runs with scaled dot-product attention, as ever; in the layers asked for, the weights are computed
once more in blocks of queries, reduced and dropped. It hooks into transformers by its AttentionInterface.

Where a layer sees only a window (or a chunk), the weights are those within it, and i + 1 and n - i become
the number of keys that a query sees and the number of queries that see a key. Attention that scaled
dot-product attention alone does not give (capped logits, sinks, position biases) is refused.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from curate.errors import CurateError

MEMORY_BYTES = 256 << 20

_NAME = "curate_statistics"
_QUERIES = 256
"""Queries of a block at most: the keys that come after all of them are left out."""

_COPIES = 3
"""Arrays of the size of a block's weights that live at once: scores, weights, their entropies."""

_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "cache")
"""What a layer may hand to its attention function that would change the weights computed here."""


class AttentionStatistics:
    """The statistics of one forward pass, filled layer by layer while it runs. See `attention_statistics`."""

    def __init__(self, kind: str, layers: range, lengths: Sequence[int] | None, memory_bytes: int) -> None:
        self._kind, self._layers, self._lengths, self._memory_bytes = kind, layers, lengths, memory_bytes
        self._focus: dict[int, Tensor] = {}
        self._received: dict[int, Tensor] = {}

    @property
    def focus(self) -> Tensor:
        """Mean over layers and heads of Q, float32 [batch, length] in [0, 1]; 0 at padding.

        float64 for a float64 model. Raises CurateError as long as a layer asked for was not seen.
        """
        return self._mean(self._focus)

    @property
    def received(self) -> Tensor:
        """Mean over layers and heads of K over its maximum, float32 [batch, length] in [0, 1]; 0 at padding.

        float64 for a float64 model. Raises CurateError as long as a layer asked for was not seen.
        """
        return self._mean(self._received)

    def _mean(self, found: dict[int, Tensor]) -> Tensor:
        missing = [layer for layer in self._layers if layer not in found]
        if missing:
            raise CurateError(
                f"{self._kind}: layers {self._layers[0]} to {self._layers[-1]} must run causal attention "
                f"through transformers' AttentionInterface, in one forward pass. Nothing was seen of {missing}. "
                "Ask for layers with attention, or use another model."
            )
        first = found[self._layers[0]]
        return torch.stack([found[layer].to(first.device) for layer in self._layers]).mean(0)

    def observe(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float | None,
        **others: Any,
    ) -> None:
        """One layer's attention, before it runs; a layer not asked for is passed over.

        query: [batch, heads, length, d]. key: [batch, key heads, length, d], heads a multiple of key heads.
        mask: bool [batch, 1, length, length], True where a query sees a key, or None: causal. others: what
        else the attention function was called with. Raises CurateError for attention of another kind.
        """
        changed = [name for name in _UNSUPPORTED if others.get(name) is not None]
        if changed:
            self._refuse(f"be plain scaled dot-product attention. Got `{changed[0]}`")
        layer: Any = getattr(module, "layer_idx", None)
        if layer not in self._layers:
            return
        if layer in self._focus:
            self._refuse(f"run once within `attention_statistics`. Layer {layer} ran again")
        given = others.get("is_causal")
        if not (getattr(module, "is_causal", True) if given is None else given):
            self._refuse(f"be causal. Layer {layer} is not")
        batch, _, length, width = query.shape
        if key.shape[2] != length:
            self._refuse(
                f"see one whole sequence, without a cache. Got {key.shape[2]} keys for {length} queries"
            )
        lengths = [length] * batch if self._lengths is None else list(self._lengths)
        if len(lengths) != batch or not all(1 <= n <= length for n in lengths):
            raise ValueError(f"lengths must be {batch} numbers from 1 to {length}. Got {lengths}.")
        if mask is not None:
            self._check_mask(mask, lengths)
        scale = width**-0.5 if scaling is None else scaling
        with torch.no_grad():
            found = _statistics(query.detach(), key.detach(), mask, scale, lengths, self._memory_bytes)
        self._focus[layer], self._received[layer] = found

    def _check_mask(self, mask: Tensor, lengths: Sequence[int]) -> None:
        ends = torch.tensor(lengths, device=mask.device)[:, None, None]
        real = torch.arange(mask.shape[-1], device=mask.device) < ends
        if mask.dtype != torch.bool or mask.shape[1] != 1 or bool(mask.triu(1).any()):
            self._refuse("be causal, under a boolean mask of all heads. Got another mask")
        if not bool((mask.diagonal(dim1=-2, dim2=-1) | ~real[:, 0, None]).all()):
            self._refuse("let every token see itself, with padding on the right. Got a mask that does not")

    def _refuse(self, expected: str) -> None:
        raise CurateError(
            f"{self._kind}: for statistics of its attention, the model must {expected}. Use another model."
        )


@contextmanager
def attention_statistics(
    model: nn.Module,
    layers: int,
    lengths: Sequence[int] | Tensor | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[AttentionStatistics]:
    """Statistics of the attention in the last `layers` layers, of the one forward pass made within.

        with attention_statistics(model, layers=4, lengths=[17, 12]) as found:
            states = last_hidden_states(model, input_ids)
        weight = (found.focus + found.received) / 2

    model: a transformers causal language model. lengths: int [batch], tokens of each row, which is padded on
    the right; None for rows without padding. No attention mask is needed: a causal model sees no later token.
    memory_bytes: weights held at once, at least those of one query; beside them, the layer's keys in float32.
    Meanwhile the model runs with scaled dot-product attention; its own implementation is back afterwards.

    Costs one more product of queries and keys, softmax and entropy per layer asked for:
    O(layers x heads x length^2 x d). Raises CurateError for a model whose attention is of another kind or
    does not go through transformers' AttentionInterface, and for more layers than it has; ValueError for
    lengths that do not fit the batch or too little memory.
    """
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

    decoder: Any = model.get_decoder()  # type: ignore[operator]
    kind = type(model).__name__
    if not isinstance(decoder, PreTrainedModel) or not decoder._supports_sdpa:
        raise CurateError(
            f"{kind}: for statistics of its attention, the model must support transformers' scaled dot-product "
            "attention. It does not. Use another model."
        )
    config: Any = decoder.config
    total = config.get_text_config().num_hidden_layers
    if not 1 <= layers <= total:
        raise CurateError(f"layers must be from 1 to {total}, the layers of {kind}. Got {layers}.")
    if _active.get() is not None:
        raise CurateError("attention_statistics must not be nested: leave the one before entering another.")
    AttentionInterface.register(_NAME, _observed_attention)
    masks: Any = AttentionMaskInterface
    masks.register(_NAME, masks()["sdpa"])
    rows = lengths.tolist() if isinstance(lengths, Tensor) else lengths
    found = AttentionStatistics(kind, range(total - layers, total), rows, memory_bytes)
    parts = {name: getattr(config, name, None) for name in config.sub_configs}
    before = {name: part._attn_implementation for name, part in parts.items() if part is not None}
    before[""] = config._attn_implementation
    token = _active.set(found)
    try:
        decoder.set_attn_implementation(_NAME)
        if config._attn_implementation != _NAME:
            raise CurateError(
                f"{kind}: its attention must go through transformers' AttentionInterface. It does not. "
                "Use another model."
            )
        yield found
    finally:
        _active.reset(token)
        decoder.set_attn_implementation(before)


_active: ContextVar[AttentionStatistics | None] = ContextVar("attention_statistics", default=None)


def _observed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **others: Any,  # transformers' protocol: an attention function hands on what it does not know
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention, seen by the statistics being collected."""
    from transformers import AttentionInterface

    attention: Any = AttentionInterface
    found = _active.get()
    if found is None:
        raise CurateError(
            "The model must run in the thread that entered attention_statistics. It runs in another."
        )
    found.observe(module, query, key, attention_mask, scaling, **others)
    output: tuple[Tensor, Tensor | None] = attention()["sdpa"](
        module, query, key, value, attention_mask, scaling=scaling, **others
    )
    return output


def _statistics(
    query: Tensor, key: Tensor, mask: Tensor | None, scale: float, lengths: Sequence[int], memory_bytes: int
) -> tuple[Tensor, Tensor]:
    """Means over heads of Q and of K over its maximum, [batch, length] each, for one layer."""
    batch, heads, length, _ = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    query_bytes = _COPIES * heads * length * wide.itemsize
    if memory_bytes < query_bytes:
        raise ValueError(
            f"memory_bytes must be at least {query_bytes} (one query's weights over {length} keys). "
            f"Got {memory_bytes}."
        )
    queries = min(length, _QUERIES, memory_bytes // query_bytes)
    rows = memory_bytes // (query_bytes * queries)
    ends = torch.tensor(lengths, device=query.device)
    focus = query.new_zeros((batch, length), dtype=wide)
    received = query.new_zeros((batch, length), dtype=wide)
    for start in range(0, batch, rows):
        part = slice(start, start + rows)
        longest = max(lengths[part])
        keys = key[part, :, :longest].to(wide).transpose(2, 3)
        given = query.new_zeros((keys.shape[0], heads, longest), dtype=wide)
        seers = query.new_zeros((keys.shape[0], longest), dtype=wide)
        for first in range(0, longest, queries):
            last = min(first + queries, longest)
            block = slice(first, last)
            places = torch.arange(last, device=query.device)
            if mask is None:
                visible = (places <= places[block, None])[None, None]
            else:
                visible = mask.expand(batch, -1, -1, -1)[part, :, block, :last]
            real = places[block] < ends[part, None]
            weights = _weights(query[part, :, block].to(wide) * scale, keys[..., :last], visible)
            entropy = torch.special.entr(weights).sum(-1).mean(1)
            seen = visible.sum(-1)[:, 0]
            spread = entropy / seen.clamp(min=2).log()
            focus[part, block] = (1 - spread).clamp(0, 1) * (real & (seen > 1))
            given[..., :last] += (real[:, None, None].to(wide) @ weights)[:, :, 0]
            seers[:, :last] += (visible[:, 0] & real[..., None]).sum(1)
        mean = given / seers.clamp(min=1)[:, None]
        received[part, :longest] = (mean / mean.amax(-1, keepdim=True)).mean(1)
    return focus, received


def _weights(query: Tensor, keys: Tensor, visible: Tensor) -> Tensor:
    """Attention weights [batch, heads, queries, keys] of scaled queries; keys [batch, key heads, d, keys].

    Head h reads key head h // (heads / key heads), as transformers repeats them.
    """
    batch, heads, queries, width = query.shape
    grouped = query.reshape(batch, keys.shape[1], heads // keys.shape[1] * queries, width)
    scores = (grouped @ keys).view(batch, heads, queries, keys.shape[3])
    return scores.masked_fill_(~visible, -math.inf).softmax(-1)
