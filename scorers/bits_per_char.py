"""Bits per character: how well the model compresses the response, whatever its tokenizer.

Formula: sum over supervised tokens t of -log2 p_t(y_t), over the characters of the supervised text.
Direction: high is surprising, low is expected; `higher_is_better` is None. Comparable between models of
    different vocabularies, which the loss per token is not.
Cost: 1 forward, shared by all scorers of the pass; O(T V) beside it.
Source: Shum et al., Predictive Data Selection (PreSelect), 2025 (arXiv 2503.00808): its normalised loss.
Deviations: PreSelect compresses whole documents; here it is the supervised text. Its bits include those of
    the closing tokens, its characters do not.
"""

import numpy as np

from curate.model.request import Signal, TokenSignals
from curate.scorer import Numbers, SignalScorer


class BitsPerChar(SignalScorer):
    """Bits that the model needs for each character of the response."""

    signals = (Signal.LOG_PROBABILITY,)
    higher_is_better = None

    def score(self, tokens: TokenSignals) -> Numbers:
        """Bits per character, float64 [examples]; null without a supervised token or a character."""
        bits = -tokens.sum(tokens.per_token[Signal.LOG_PROBABILITY]) / np.log(2)
        rate = np.full(len(bits), np.nan)
        np.divide(bits, tokens.characters, out=rate, where=tokens.characters > 0)
        return rate
