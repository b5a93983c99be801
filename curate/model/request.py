"""What scorers ask of the model's one pass, and what they get back. Needs numpy alone."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


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

    input_ids: int32 [tokens]; supervised: bool [tokens], True where the token is a target.
    """

    input_ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]


@dataclass(frozen=True)
class TokenSignals:
    """Signals of a batch of examples under one view, tokens laid end to end.

    offsets: int64 [examples + 1]; the supervised tokens of example i are offsets[i]:offsets[i+1].
    A row's very first token is predicted from nothing and never counts, as in the trainer's loss.
    per_token: signal -> float64 [tokens]; per_example: signal -> float64 [examples].
    views: the same examples under the other views that were asked for.
    """

    offsets: NDArray[np.int64]
    per_token: Mapping[Signal, NDArray[np.float64]]
    per_example: Mapping[Signal, NDArray[np.float64]] = field(default_factory=dict)
    views: Mapping[View, TokenSignals] = field(default_factory=dict)

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
        return self.views[view]
