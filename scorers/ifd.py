"""IFD, instruction-following difficulty: what share of the response's surprise the prompt does not remove.

Formula: loss(y | x) / loss(y): the mean loss of the response after its prompt over that without it.
Direction: the paper keeps the highest below 1: the prompt helps least there. Above 1 the prompt
    misleads: drop those rows with a selector (`band`, `threshold`). On noisy data the low end is the
    cleaner one, so `higher_is_better` is None and a selector must say which.
Cost: 2 forwards, shared by all scorers of the pass: the whole row and the response alone; O(T V) beside
    them.
Source: Li et al., From Quantity to Quality (Cherry LLM), 2023 (arXiv 2308.12032); Superfiltering, 2024
    (arXiv 2402.00530).
Deviations: both means run over the same tokens. Alone, the first response token has no context unless
    the model has a BOS that opens the row; without one it counts in neither mean, where the authors'
    code keeps it in the numerator. The response is the supervised tokens of all turns, end to end, as
    tokenised in the whole row, with the closing tokens that the trainer learns.
"""

import numpy as np
from numpy.typing import NDArray

from curate.model.request import Signal, TokenSignals, View
from curate.scorer import SignalScorer


class IFD(SignalScorer):
    """Loss of the response with its prompt, relative to its loss without."""

    signals = (Signal.LOG_PROBABILITY,)
    views = (View.FULL, View.RESPONSE_ONLY)
    higher_is_better = None

    def score(self, tokens: TokenSignals) -> NDArray[np.float64]:
        """Float64 [examples], at least 0; null for a row without a prompt, or with no token to compare."""
        alone = tokens.view(View.RESPONSE_ONLY)
        after_prompt = tokens.mean(Signal.LOG_PROBABILITY, skip=tokens.counts - alone.counts)
        by_itself = alone.mean(Signal.LOG_PROBABILITY)
        ratio = np.full(len(by_itself), np.nan)
        np.divide(after_prompt, by_itself, out=ratio, where=by_itself < 0)
        return ratio
