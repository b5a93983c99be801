"""GraNd: how far one row would move the model, as the norm of its loss gradient.

Formula: ||G||_F, G = dloss/dW = (1/T) sum_t e_t h_t^T for the mean-token loss and the output head W, by
    ||G||^2 = (1/T^2) sum_{t,s} (e_t . e_s)(h_t . h_s): forward only. A bias of the head counts too.
Direction: high is hard or noise, low is already learnt; `higher_is_better` is None. Select a band.
Cost: 1 forward, shared by all scorers of the pass; O(T V min(T, d)) beside it, for T tokens, V logits
    and width d.
Source: Paul et al., Deep Learning on a Data Diet: Finding Important Examples Early in Training, 2021
    (arXiv 2107.07075); the norm without a
    backward pass: see curate/model/head.py.
Deviations: the output head's parameters only; one model as it is, not the mean over ten networks early
    in training. Where input and output embeddings are tied, the gradient through the output side only.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.model.request import Signal, TokenSignals
from curate.scorer import SignalScorer


class GraNd(SignalScorer):
    """Gradient norm of the row's mean-token loss."""

    signals = (Signal.HEAD_GRADIENT_NORM,)
    higher_is_better = None

    parameters: Literal["head"] = Field(default="head", description="the parameters: the output head")

    def score(self, tokens: TokenSignals) -> NDArray[np.float64]:
        """Float64 [examples], at least 0; null where a row has no supervised token."""
        return tokens.example(Signal.HEAD_GRADIENT_NORM)
