"""Ratings: what an instruct model answers to a rating prompt, as the expected value over a few rating tokens.

Only the first generated position is read: the logits of the tokens "1", "2", … there, their softmax, and the
mean of the ratings under it (Deita). Nothing is generated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from curate.errors import ConfigError, CurateError
from curate.model.batches import run_with_backoff
from curate.model.forward import choose_layout, forward, plan_batches, prepare
from curate.model.head import OutputHead
from curate.model.spans import with_fixed_day
from curate.model.views import Input

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from curate.model.load import LoadedModel


@dataclass(frozen=True)
class Answers:
    """What a rater said to prompts. A prompt longer than the model reads has NaN, and -1 for `likeliest`.

    expected: float64 [prompts], the mean rating. likeliest: int64 [prompts], the place of the likeliest one.
    probability: float64 [prompts], of any of the ratings among all that could come next: near 1 where the
    rater answers as it was asked to. tokens: that went through the model, padding apart.
    """

    expected: NDArray[np.float64]
    likeliest: NDArray[np.int64]
    probability: NDArray[np.float64]
    tokens: int


@dataclass(frozen=True)
class Rater:
    """A model and its rating tokens.

    template: the chat template, its clock stopped. lead: tokens that stand before each rating token (the space
    of a SentencePiece tokenizer). rating_ids: int64 [ratings]; values: float64 [ratings], 1, 2, …
    max_tokens: the longest prompt that the model reads; None for no bound.
    """

    model: nn.Module
    tokenizer: Any
    head: OutputHead
    template: str
    lead: tuple[int, ...]
    rating_ids: NDArray[np.int64]
    values: NDArray[np.float64]
    batch_tokens: int
    max_tokens: int | None

    @classmethod
    def of(cls, loaded: LoadedModel, ratings: Sequence[str], batch_tokens: int) -> Rater:
        """Raises ConfigError where the model has no chat template, or no token of its own for a rating.

        Raises CurateError for a head whose logits are scaled or capped (see OutputHead.of).
        """
        tokenizer: Any = loaded.tokenizer
        if tokenizer.chat_template is None:
            raise ConfigError(
                "a rater must be an instruct model with a chat template. Got a tokenizer without one; name "
                "another model in the scorer's `rater`."
            )
        lead, ids = _rating_tokens(tokenizer, ratings)
        config: Any = loaded.model.config.get_text_config()
        return cls(
            model=loaded.model,
            tokenizer=tokenizer,
            head=OutputHead.of(loaded.model),
            template=with_fixed_day(tokenizer.get_chat_template()),
            lead=lead,
            rating_ids=np.array(ids, dtype=np.int64),
            values=np.array([float(rating) for rating in ratings]),
            batch_tokens=batch_tokens,
            max_tokens=getattr(config, "max_position_embeddings", None),
        )

    def rate(self, prompts: Sequence[str]) -> Answers:
        """The answer to each prompt. Raises CurateError where the model gives logits that are not finite."""
        rows = self._encode(prompts)
        fits = np.flatnonzero([self.max_tokens is None or len(row.ids) <= self.max_tokens for row in rows])
        live = [rows[place] for place in fits.tolist()]
        lengths = [len(row.ids) for row in live]
        layout = choose_layout(self.model)
        device = self.head.weight.device
        logits = np.full((len(prompts), len(self.values)), np.nan)
        probability = np.full(len(prompts), np.nan)

        def one(places: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            batch = prepare(self.model, [live[place] for place in places.tolist()], layout, device)
            with torch.inference_mode():
                return self._read(forward(self.model, batch, None).hidden)

        for places, (ratings, share) in run_with_backoff(
            one,
            plan_batches(self.model, lengths, self.batch_tokens, layout),
            lambda notice: _log.warning("%s", notice),
            "rating prompt {}".format,
        ):
            logits[fits[places]], probability[fits[places]] = ratings, share
        likeliest = np.full(len(prompts), -1, dtype=np.int64)
        likeliest[fits] = logits[fits].argmax(axis=1)
        return Answers(expected_rating(logits, self.values), likeliest, probability, sum(lengths))

    def _read(self, hidden: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Logits of the ratings, float64 [prompts, ratings], and the probability of any, float64 [prompts]."""
        weight, bias = self.head.weight, self.head.bias
        ids = torch.from_numpy(self.rating_ids).to(weight.device)
        chosen = None if bias is None else bias[ids].float()
        ratings = nn.functional.linear(hidden.float(), weight[ids].float(), chosen).double()
        if not torch.isfinite(ratings).all():
            raise CurateError("the rater's logits must be finite. Got others: load it in another dtype.")
        whole = nn.functional.linear(hidden, weight, bias).float().logsumexp(dim=1).double()
        share = (ratings.logsumexp(dim=1) - whole).exp().clamp(max=1)
        return ratings.cpu().numpy(), share.cpu().numpy()

    def _encode(self, prompts: Sequence[str]) -> list[Input]:
        if not prompts:
            return []
        texts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                chat_template=self.template,
                add_generation_prompt=True,
                tokenize=False,
                enable_thinking=False,  # read by templates of models that would think aloud first
            )
            for prompt in prompts
        ]
        # verbose: a prompt longer than the model reads is counted, not warned of.
        found = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return [_last_place([*ids, *self.lead]) for ids in found]


def expected_rating(logits: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the values under the softmax of the logits, float64 [prompts]; NaN for a row of NaN.

    logits: float64 [prompts, ratings]; values: float64 [ratings]. Equal logits give the plain mean, 3.5 of 1-6.
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = (shifted * values).sum(axis=1) / shifted.sum(axis=1)
    return found


def _rating_tokens(tokenizer: Any, ratings: Sequence[str]) -> tuple[tuple[int, ...], list[int]]:
    """The tokens that all ratings begin with, and the one token in which each differs from the others."""
    pieces = [tuple(tokenizer.encode(rating, add_special_tokens=False)) for rating in ratings]
    leads, ids = {piece[:-1] for piece in pieces}, [piece[-1] for piece in pieces if piece]
    if len(leads) > 1 or len(set(ids)) < len(ratings) or tokenizer.unk_token_id in ids:
        told = ", ".join(
            f"{rating!r} as {tokenizer.convert_ids_to_tokens(list(piece))}"
            for rating, piece in zip(ratings, pieces, strict=True)
        )
        raise ConfigError(
            f"a rater must have one token of its own for each rating. Got {told}; name another model in the "
            "scorer's `rater`."
        )
    return leads.pop(), ids


def _last_place(ids: list[int]) -> Input:
    """A prompt whose one target comes after its last token; which target that is does not matter."""
    last = np.array([len(ids) - 1], dtype=np.int64)
    return Input(np.array(ids, dtype=np.int32), last, np.zeros(1, dtype=np.int64))
