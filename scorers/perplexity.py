"""Perplexity: the loss on the scale of an effective number of choices per token.

Formula: exp(mean over supervised tokens t of -log p_t(y_t)); the exponential is taken last, in float64.
Direction: lower is better, as POINTS filters: keep the rows of lowest perplexity.
Cost: 1 forward, shared by all scorers of the pass; O(T V) beside it.
Source: Liu et al., POINTS: Improving Your Vision-language Model with Affordable Strategies, 2024
    (arXiv 2409.04828): keep the lowest fifth.
Deviations: POINTS measures pre-training documents with a separate model; here it is the supervised
    tokens under the model of the run. A mean loss above 700 nats per token, where float64 ends, is null.
"""

import numpy as np
from numpy.typing import NDArray

from curate.model.request import Signal, TokenSignals
from curate.scorer import SignalScorer


class Perplexity(SignalScorer):
    """Exponential of the mean loss of the supervised tokens."""

    signals = (Signal.LOG_PROBABILITY,)
    higher_is_better = False

    def score(self, tokens: TokenSignals) -> NDArray[np.float64]:
        """Float64 [examples], at least 1; null where a row has no supervised token."""
        loss = -tokens.mean(Signal.LOG_PROBABILITY)
        return np.exp(np.where(loss <= 700, loss, np.nan))
