"""Loss: how surprised the model is by the response.

Formula: mean over supervised tokens t of -log p_t(y_t), in nats per token.
Direction: high is surprising (hard, rare, or noise), low is what the model already expects; neither end
    is the good one, so `higher_is_better` is None.
Cost: 1 forward, shared by all scorers of the pass; O(T V) beside it.
Source: maximum likelihood.
Deviations: none. A token at the very start of a row has no context and does not count, as in training.
"""

import numpy as np
from numpy.typing import NDArray

from curate.model.request import Signal, TokenSignals
from curate.scorer import SignalScorer


class Loss(SignalScorer):
    """Mean negative log-likelihood of the supervised tokens."""

    signals = (Signal.LOG_PROBABILITY,)
    higher_is_better = None

    def score(self, tokens: TokenSignals) -> NDArray[np.float64]:
        """Nats per token, float64 [examples], at least 0; null where a row has no supervised token."""
        return -tokens.mean(Signal.LOG_PROBABILITY)
