"""A small rater for tests: a random Llama of `passes` with a tokenizer of whole words, digits among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import toys
from numpy.typing import NDArray
from passes import VOCABULARY

from curate.model.load import LoadedModel
from curate.model.ratings import Rater
from curate.model.request import TokenRow
from curate.scorer import RatingScorer

Turns = Sequence[tuple[str, str]]


def word_tokenizer(digits: str = "123456", chat_template: str | None = toys.CHATML) -> Any:
    """One token a word, so that rating prompts are short: the digits, then w0, w1, …; else <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<unk>", *toys.SPECIAL_TOKENS, *digits]
    words = [*known, *(f"w{index}" for index in range(VOCABULARY - len(known)))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(toys.SPECIAL_TOKENS),
    )
    fast.chat_template = chat_template
    return fast


def rater(model: Any, tokenizer: Any = None, batch_tokens: int = 2000, ratings: str = "123456") -> Rater:
    """The model as a rater."""
    chosen = word_tokenizer() if tokenizer is None else tokenizer
    return Rater.of(LoadedModel(model, chosen, "float32", "cpu", "toy"), tuple(ratings), batch_tokens)


def turns_of(row: TokenRow) -> Turns:
    """A conversation of words, one a token: what is supervised is an answer, what stands before it a question."""
    spans = groupby(zip(row.input_ids, row.supervised, strict=True), key=lambda pair: bool(pair[1]))
    said = [(answer, " ".join(f"w{token}" for token, _ in span)) for answer, span in spans]
    if said and said[0][0]:
        said.insert(0, (False, ""))
    texts = [text for _, text in said]
    return list(zip(texts[::2], [*texts[1::2], ""], strict=False))


def ratings(scorer: RatingScorer, asked: Rater, turns: Sequence[Turns]) -> Mapping[str, NDArray[np.float64]]:
    """The scorer's column for these conversations, all asked at once."""
    prompts = [scorer.prompts(each) for each in turns]
    answered = iter(asked.rate([prompt for row in prompts for prompt in row]).expected)
    scores = [scorer.rate(np.array([next(answered) for _ in row], dtype=np.float64)) for row in prompts]
    return {scorer.column: np.array(scores, dtype=np.float64)}
