"""What scorers ask of the model's one pass, and what they get back. Needs numpy alone."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


class Signal(enum.StrEnum):
    """A quantity that the pass can compute. Per token unless it says per example.

    Notation of methods/scoring.md: at supervised position t, logits l_t, p_t = softmax(l_t),
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
    """The supervised tokens without the prompt."""


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

    def mean(self, signal: Signal) -> NDArray[np.float64]:
        """Mean of a per-token signal over each example's supervised tokens.

        float64 [examples]; NaN (null) where an example has no supervised token.
        """
        totals = np.concatenate([[0.0], np.cumsum(self.per_token[signal], dtype=np.float64)])
        sums = totals[self.offsets[1:]] - totals[self.offsets[:-1]]
        counts = self.counts
        return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)

    def example(self, signal: Signal) -> NDArray[np.float64]:
        """A per-example signal, float64 [examples]; NaN where an example has no supervised token."""
        return self.per_example[signal]

    def view(self, view: View) -> TokenSignals:
        """The same examples under another view that the scorer declared."""
        return self.views[view]
