"""Entropy: how undecided the model is, whatever the truth.

Formula: mean over supervised tokens t of -sum_v p_t(v) log p_t(v), in nats per token, in [0, ln V].
Direction: high is undecided, low is decided (rightly or wrongly); `higher_is_better` is None.
Cost: 1 forward, shared by all scorers of the pass; O(T V) beside it.
Source: Maharana et al., Adapt-infinity: Scalable Continual Multimodal Instruction Tuning via Dynamic Data
    Selection, 2024 (arXiv 2410.10636), which offers it among its scoring functions.
Deviations: the plain mean over the supervised tokens of every turn.
"""

import numpy as np
from numpy.typing import NDArray

from curate.model.request import Signal, TokenSignals
from curate.scorer import SignalScorer


class Entropy(SignalScorer):
    """Mean entropy of the model's prediction at the supervised tokens."""

    signals = (Signal.ENTROPY,)
    higher_is_better = None

    def score(self, tokens: TokenSignals) -> NDArray[np.float64]:
        """Nats per token, float64 [examples]; null where a row has no supervised token."""
        return tokens.mean(Signal.ENTROPY)
