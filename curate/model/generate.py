"""Generate: what a model answers to the prompts of rows, greedily; in batches of like length.

transformers' own `generate` does the decoding, with a key-value cache; prompts are padded on the left, so that the
attention mask gives every row its own positions. A row's answer does not depend on its batch, but for ties that
the rounding of bfloat16 decides.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from curate.model.batches import length_batches, pad, run_with_backoff
from curate.model.request import TokenRow

if TYPE_CHECKING:
    from curate.model.load import LoadedModel

_log = logging.getLogger(__name__)

Tokens = NDArray[np.int32]


def last_turn(row: TokenRow) -> tuple[Tokens, Tokens]:
    """(prompt, answer), int32: the last unbroken run of supervised tokens, and all that stands before it.

    Of a conversation, the last trained turn with its closing token; of a plain text, all but its first token.
    Raises ValueError for a row without a supervised token.
    """
    places = np.flatnonzero(row.supervised)
    if not len(places):
        raise ValueError("the row must have a supervised token. Got none.")
    end = int(places[-1]) + 1
    breaks = np.flatnonzero(~row.supervised[:end])
    start = int(breaks[-1]) + 1 if len(breaks) else 0
    return row.input_ids[:start], row.input_ids[start:end]


def end_tokens(loaded: LoadedModel) -> list[int]:
    """The tokens that end an answer: the tokenizer's end token, and those of the model's own configuration."""
    stated = loaded.model.generation_config.eos_token_id
    several = stated if isinstance(stated, list) else [stated]
    own: Any = loaded.tokenizer.eos_token_id
    return sorted({token for token in [own, *several] if token is not None})


def generate(
    loaded: LoadedModel, prompts: Sequence[Tokens], max_new_tokens: int, batch_tokens: int
) -> list[Tokens | None]:
    """The greedy answer to each prompt, int32, with the token that ended it, if one did; at most `max_new_tokens`.

    prompts: int32, at least one token each. None for a prompt that with `max_new_tokens` more is longer than the
    model reads. batch_tokens: padded tokens of a batch at its longest, with what is generated; a batch that memory
    cannot hold is halved, and said. What the model's own configuration says of decoding (sampling, penalties) does
    not count. O(tokens) memory for the cache of a batch. Raises ValueError for an empty prompt or `max_new_tokens`
    below 1.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1. Got {max_new_tokens}.")
    if any(not len(prompt) for prompt in prompts):
        raise ValueError("every prompt must have a token. Got an empty one.")
    config: Any = loaded.model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    lengths = np.array([len(prompt) + max_new_tokens for prompt in prompts], dtype=np.int64)
    fits = np.flatnonzero(lengths <= limit) if limit is not None else np.arange(len(prompts))
    ends = end_tokens(loaded)
    answers: list[Tokens | None] = [None] * len(prompts)

    def one(places: NDArray[np.int64]) -> list[Tokens]:
        return _decode(loaded, [prompts[fits[place]] for place in places.tolist()], max_new_tokens, ends)

    for places, found in run_with_backoff(
        one,
        length_batches(lengths[fits], batch_tokens),
        lambda notice: _log.warning("%s", notice),
        "prompt {}".format,
    ):
        for place, answer in zip(fits[places].tolist(), found, strict=True):
            answers[place] = answer
    return answers


def _decode(
    loaded: LoadedModel, prompts: Sequence[Tokens], max_new_tokens: int, ends: Sequence[int]
) -> list[Tokens]:
    from transformers import GenerationConfig

    model: Any = loaded.model
    padding: Any = loaded.tokenizer.pad_token_id
    ids, mask = (part.flip(1) for part in pad([prompt[::-1] for prompt in prompts], padding))
    own = model.generation_config
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        eos_token_id=list(ends) or None,
        pad_token_id=padding,
    )
    try:
        with torch.inference_mode():
            whole = model.generate(ids.to(model.device), attention_mask=mask.to(model.device))
    finally:
        model.generation_config = own
    return [_until_end(answer, ends) for answer in whole[:, ids.shape[1] :].cpu().numpy()]


def _until_end(answer: NDArray[np.int64], ends: Sequence[int]) -> Tokens:
    """The tokens up to the first that ends the answer, that one included."""
    found = np.flatnonzero(np.isin(answer, ends))
    return answer[: found[0] + 1 if len(found) else len(answer)].astype(np.int32)
