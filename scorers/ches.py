"""CHES, centered hidden embedding similarity: preference pairs that would pull the preferred answer down.

Formula: s+ and s- the sums of the last-layer states from the last prompt token to the second-to-last token of
    the preferred and of the rejected answer, n+ and n- their numbers:
    <s+, s-> - ||s+||^2, or length-normalised <s+, s->/(n+ n-) - ||s+||^2 / n+^2. Equal answers score 0.
Direction: low is better: pairs whose states are alike make preference training unlikely to help and likely to
    lower both answers; keep the lowest.
Cost: 2 forwards (the preferred one shared by all scorers of the pass); O(T d) beside them.
Source: Razin et al., Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization,
    2024 (arXiv 2410.08847).
Deviations: over all supervised turns of a conversation, whose answers differ in the last; "last layer" is what
    the output head reads, after the final norm.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from curate.model.request import Readout, StateReadout, States, TokenSignals, View
from curate.scorer import Numbers, Reference, SignalScorer


class Ches(SignalScorer):
    """How alike the states of a preferred and a rejected answer are."""

    views = (View.FULL, View.REJECTED)
    higher_is_better = False

    normalised: bool = Field(default=True, description="divide each sum by its number of tokens")

    def readouts(self, reference: Reference) -> Sequence[Readout]:
        """The sum of the states that predict the answer."""
        return [StateReadout("ches", _sum)]

    def score(self, tokens: TokenSignals) -> Numbers:
        """Float64 [examples]; null for a row without a rejected answer."""
        other = tokens.view(View.REJECTED)
        preferred, rejected = (np.asarray(of.readings["ches"], dtype=np.float64) for of in (tokens, other))
        if preferred.ndim == 1 or rejected.ndim == 1:  # no row has states under one of the views
            return np.full(len(preferred), np.nan)
        if self.normalised:
            preferred = preferred / np.maximum(tokens.counts, 1)[:, None]
            rejected = rejected / np.maximum(other.counts, 1)[:, None]
        score: Numbers = ((rejected - preferred) * preferred).sum(axis=1)
        return score


def _sum(states: States):  # type: ignore[no-untyped-def]
    return states.total(states.hidden.float() * states.predicts[:, None])
