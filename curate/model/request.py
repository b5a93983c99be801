"""What scorers ask of the model's one pass, and what they get back. Needs numpy alone."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class Signal(enum.StrEnum):
    """A quantity that the pass can compute. Per token unless it says per example.

    Notation: at supervised position t, logits l_t, p_t = softmax(l_t),
    target y_t, residual e_t = p_t - onehot(y_t), head input h_t, head weight W, G = dloss/dW.
    """

    LOG_PROBABILITY = "log_probability"
    """log p_t(y_t), nats."""
    ENTROPY = "entropy"
    """-sum_v p_t log p_t, nats."""
    ERROR_NORM = "error_norm"
    """||e_t||_2, in [0, sqrt 2]."""
    MARGIN = "margin"
    """p_t(y_t) - max_{v != y_t} p_t(v), in [-1, 1]; above 0 where the target is the first choice."""
    TARGET_RANK = "target_rank"
    """How many tokens have a larger logit than y_t: 0 for the first choice, below k for the top k."""
    HEAD_GRADIENT_NORM = "head_gradient_norm"
    """Per example: ||G||_F of the mean-token loss."""
    HEAD_WEIGHT_GRADIENT_PRODUCT = "head_weight_gradient_product"
    """Per example: <W, G> of the mean-token loss."""
    HEAD_WEIGHT_NORM = "head_weight_norm"
    """Per example, the same for all: ||W||_F."""


PER_EXAMPLE = frozenset(
    {Signal.HEAD_GRADIENT_NORM, Signal.HEAD_WEIGHT_GRADIENT_PRODUCT, Signal.HEAD_WEIGHT_NORM}
)


class View(enum.StrEnum):
    """Which tokens of a row the model sees."""

    FULL = "full"
    """The whole row: prompt and response."""
    RESPONSE_ONLY = "response_only"
    """The supervised tokens end to end, without what stands before or between them.

    The first has no context here and is not predicted, unless a BOS is kept in front of it: a token that
    opens the row, is the model's BOS and occurs nowhere else in the row (so it is no turn marker). A row
    without a prompt (at most one token before the first supervised one: a BOS, or the start of plain
    text) has no tokens here.
    """
    PROMPT_ONLY = "prompt_only"
    """The tokens before the first supervised one, each but the first a target."""
    REJECTED = "rejected"
    """The whole row with the answer that was not preferred; FULL is the one with the preferred answer."""


@dataclass(frozen=True)
class States:
    """The states of a batch of rows under one view, on the model's device, tokens laid end to end.

    hidden: [tokens, width], at every token of the view (also the last): the input of the output head, or the
    output of the layer that was asked for. ids: int64 [tokens]. example: int64 [tokens], which row of the
    batch a token is of, ascending; place: int64 [tokens], which token of its row it is, from 0. counts: int64
    [examples], tokens of each. predicts: bool [tokens], whether the next token
    is a target. focus, received: float32 [tokens], the attention statistics (model/attention.py), where
    they were asked for.
    """

    hidden: Tensor
    ids: Tensor
    example: Tensor
    place: Tensor
    counts: Tensor
    predicts: Tensor
    focus: Tensor | None = None
    received: Tensor | None = None

    def total(self, values: Tensor) -> Tensor:
        """The sum over each example's tokens: [tokens, ...] to [examples, ...].

        Each from its own tokens alone, in an order that no thread of a GPU changes.
        """
        import torch

        return torch.stack([part.sum(0) for part in torch.split(values, self.counts.tolist())])

    def largest(self, values: Tensor) -> Tensor:
        """The largest of each example's tokens: [tokens] to [examples]."""
        found = values.new_full((len(self.counts),), float("-inf"))
        return found.scatter_reduce_(0, self.example, values, "amax")

    def after(self, opening: Tensor) -> Tensor:
        """bool [tokens]: from the first token of each example on that is not the opening's.

        opening: int64 [s], tokens that examples may begin with; their states say nothing of an example.
        """
        if not len(opening):
            return self.ids >= 0
        other = opening[self.place.clamp(max=len(opening) - 1)] != self.ids
        differs = other | (self.place >= len(opening))
        first = -self.largest((-self.place.float()).masked_fill(~differs, float("-inf")))
        return self.place >= first[self.example]


@dataclass(frozen=True)
class StateReadout:
    """What a scorer reads from the model's states, on their device, batch by batch.

    name: under which it is found in `TokenSignals.readings`. read: [examples] or [examples, k] of a batch.
    layer: None for what the output head reads, else a decoder layer, from 0, or from the end below 0.
    attention_layers: how many of the last layers the attention statistics are taken over; 0: none.
    width: k, where `read` gives [examples, k] that is to be stored: rows without states have as many NaN.
    """

    name: str
    read: Callable[[States], Tensor]
    layer: int | None = None
    attention_layers: int = 0
    width: int | None = None


@dataclass(frozen=True)
class HeadProduct:
    """<G, D> of each example: G the head's gradient of its mean-token loss, D a given direction.

    direction: [vocabulary, width], one column more where the head has a bias.
    """

    name: str
    direction: Tensor


Readout = StateReadout | HeadProduct


def union(asked: Iterable[tuple[Sequence[Signal], Sequence[View]]]) -> dict[View, frozenset[Signal]]:
    """What one pass must compute for several scorers, given each one's (signals, views).

    Under each view only the signals of the scorers that ask for that view.
    """
    wanted: dict[View, frozenset[Signal]] = {}
    for signals, views in asked:
        for view in views:
            wanted[view] = wanted.get(view, frozenset()) | frozenset(signals)
    return wanted


@dataclass(frozen=True)
class TokenRow:
    """A row as the pass and the trainer take it.

    input_ids: int32 [tokens]; supervised: bool [tokens], True where the token is a target. characters: of
    the supervised text, closing tokens apart. rejected: the same row with the answer that was not preferred.
    """

    input_ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    characters: int = 0
    rejected: TokenRow | None = None


@dataclass(frozen=True)
class TokenSignals:
    """Signals of a batch of examples under one view, tokens laid end to end.

    offsets: int64 [examples + 1]; the supervised tokens of example i are offsets[i]:offsets[i+1].
    A row's very first token is predicted from nothing and never counts, as in the trainer's loss.
    per_token: signal -> float64 [tokens]; per_example: signal -> float64 [examples].
    views: the same examples under the other views that were asked for.
    readings: name -> float64 [examples] or [examples, k], NaN where an example has no supervised token.
    characters: int64 [examples], of the supervised text.
    """

    offsets: NDArray[np.int64]
    per_token: Mapping[Signal, NDArray[np.float64]]
    per_example: Mapping[Signal, NDArray[np.float64]] = field(default_factory=dict)
    views: Mapping[View, TokenSignals] = field(default_factory=dict)
    readings: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    characters: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Supervised tokens of each example, int64 [examples]."""
        return np.diff(self.offsets)

    def mean(self, signal: Signal, skip: int | NDArray[np.int64] = 0) -> NDArray[np.float64]:
        """Mean of a per-token signal over each example's supervised tokens, without its first `skip`.

        skip: one number, or int64 [examples]. Returns float64 [examples]; NaN (null) where no token is
        left. An example's mean depends on its own tokens alone, to the last bit.
        """
        starts = self.offsets[:-1] + skip
        kept = np.arange(len(self.per_token[signal])) >= np.repeat(starts, self.counts)
        examples = np.repeat(np.arange(len(starts)), self.counts)[kept]
        sums = np.bincount(examples, weights=self.per_token[signal][kept], minlength=len(starts))
        counts = self.offsets[1:] - starts
        means = np.full(len(counts), np.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    def example(self, signal: Signal) -> NDArray[np.float64]:
        """A per-example signal, float64 [examples]; NaN where an example has no supervised token."""
        return self.per_example[signal]

    def view(self, view: View) -> TokenSignals:
        """The same examples under another view that the scorer declared."""
        return self if view is View.FULL else self.views[view]

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over each example's supervised tokens, float64 [examples]; NaN where it has none.

        values: float64 [tokens]. An example's sum depends on its own tokens alone, to the last bit.
        """
        examples = np.repeat(np.arange(len(self.counts)), self.counts)
        sums = np.bincount(examples, weights=values, minlength=len(self.counts))
        return np.where(self.counts > 0, sums, np.nan)
