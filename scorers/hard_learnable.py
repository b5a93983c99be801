"""Hard but learnable: the loss at the tokens that the model could have chosen.

Formula: the median of -log p_t(y_t) over the supervised tokens t whose truth is among the model's `top_k` most
    likely tokens; null where there is none (the paper's -infinity: such a row is never chosen).
Direction: high is better: uncertain where the answer is within reach, as a small model sees it. Noise has its
    truth out of reach and does not count.
Cost: 1 forward, shared by all scorers of the pass; O(T V) beside it.
Source: Rawat et al., A Little Help Goes a Long Way: Efficient LLM Training by Leveraging Small LMs (SALT),
    2024 (arXiv 2410.18779).
Deviations: over the supervised tokens of a row, where the paper takes segments of pre-training text. Tokens of
    equal logits rank by the number of strictly larger ones.
"""

import numpy as np
from pydantic import Field

from curate.model.request import Signal, TokenSignals
from curate.scorer import Numbers, SignalScorer


class HardLearnable(SignalScorer):
    """Median loss of the tokens whose truth is within the model's top k."""

    signals = (Signal.LOG_PROBABILITY, Signal.TARGET_RANK)
    higher_is_better = True
    allows_null = True

    top_k: int = Field(default=10, gt=0, description="a truth ranked below this is within reach")

    def score(self, tokens: TokenSignals) -> Numbers:
        """Nats, float64 [examples], at least 0; null where no supervised token is within reach."""
        losses, reachable = -tokens.per_token[Signal.LOG_PROBABILITY], tokens.per_token[Signal.TARGET_RANK]
        found = np.full(len(tokens.counts), np.nan)
        for row, (start, stop) in enumerate(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)):
            within = losses[start:stop][reachable[start:stop] < self.top_k]
            if len(within):
                found[row] = np.median(within)
        return found
