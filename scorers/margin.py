"""Margin: how far the truth stands above the model's best other choice.

Formula: mean over supervised tokens t of p_t(y_t) - max_{v != y_t} p_t(v), in [-1, 1].
Direction: low is hard or noise, high is already learnt; `higher_is_better` is None.
Cost: 1 forward, shared by all scorers of the pass; O(T V) beside it.
Source: the margin of classification, as in the code of Paul et al., Deep Learning on a Data Diet, 2021
    (arXiv 2107.07075); for language models, per token.
Deviations: the mean over tokens, where a classifier has one decision.
"""

from curate.model.request import Signal, TokenSignals
from curate.scorer import Numbers, SignalScorer


class Margin(SignalScorer):
    """Probability of the truth less that of the best other token."""

    signals = (Signal.MARGIN,)
    higher_is_better = None

    def score(self, tokens: TokenSignals) -> Numbers:
        """Float64 [examples], in [-1, 1]; null where a row has no supervised token."""
        return tokens.mean(Signal.MARGIN)
