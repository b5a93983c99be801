"""EL2N: how wrong the model's whole prediction is, token by token.

Formula: mean over supervised tokens t of ||e_t||_2 with e_t = p_t - onehot(y_t), so that
    ||e_t||^2 = sum_v p_t(v)^2 - 2 p_t(y_t) + 1. In [0, sqrt 2]: 0 right and sure, sqrt(1 - 1/V) undecided
    among all V tokens, sqrt 2 wrong and sure.
Direction: high is hard, and the highest is often noise; `higher_is_better` is None. Select a band.
Cost: 1 forward, shared by all scorers of the pass; O(T V) beside it.
Source: Paul et al., Deep Learning on a Data Diet: Finding Important Examples Early in Training, 2021
    (arXiv 2107.07075); for language models, per token, as in Adapt-infinity (arXiv 2410.10636).
Deviations: one model as it is, not the mean over ten networks early in training.
"""

import numpy as np
from numpy.typing import NDArray

from curate.model.request import Signal, TokenSignals
from curate.scorer import SignalScorer


class EL2N(SignalScorer):
    """Error L2 norm: how wrong the model's whole prediction is, token by token."""

    signals = (Signal.ERROR_NORM,)
    higher_is_better = None

    def score(self, tokens: TokenSignals) -> NDArray[np.float64]:
        """Float64 [examples], in [0, sqrt 2]; null where a row has no supervised token."""
        return tokens.mean(Signal.ERROR_NORM)
