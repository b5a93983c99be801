"""Head influence: how much a step on a row would lower the loss on the target, through the output head.

Formula: <G_row, G_target>, G = dloss/dW of the output head, G_target the mean over the target's rows;
    by (1/T) sum_t e_t . (G_target h_t), forward only. With `normalise`: divided by ||G_row|| ||G_target||, the
    cosine, in [-1, 1].
Direction: high is better: the row pulls the head where the target does.
Cost: 1 forward, shared by all scorers of the pass; O(T V d) beside it, as much as the head itself; and one
    forward of the target's rows. Memory: V d numbers in float32 for the target's gradient.
Source: Pruthi et al., Estimating Training Data Influence by Tracing Gradient Descent (TracIn), 2020
    (arXiv 2002.08484), at one checkpoint, of the last layer; without a backward pass: curate/model/head.py.
Deviations: one model as it is, no warm-up and no Adam moments (as LESS has). The inner product favours rows of
    large gradient: hard and noisy ones; hence the cosine by default. Tied embeddings: the output side only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.errors import DataError
from curate.model.request import HeadProduct, Readout, Signal, TokenSignals
from curate.scorer import Examples, Numbers, Reference, Referenced, SignalScorer


class HeadInfluence(SignalScorer, Referenced):
    """Inner product or cosine of the row's head gradient with the target's."""

    signals = (Signal.HEAD_GRADIENT_NORM,)
    higher_is_better = True

    normalise: bool = Field(default=True, description="the cosine; false: the inner product")

    def refer(self, examples: Examples) -> Mapping[str, NDArray[Any]]:
        """The target's mean gradient, [V, d], divided by its norm for the cosine."""
        gradient = examples.mean_head_gradient(examples.target)
        norm = float(np.linalg.norm(gradient))
        if norm == 0:
            raise DataError("target: the head's gradient on its rows is 0; there is nothing to compare with.")
        return {"gradient": gradient / norm if self.normalise else gradient}

    def readouts(self, reference: Reference) -> Sequence[Readout]:
        """The product with the target's gradient."""
        return [HeadProduct("head_influence", reference["gradient"])]

    def score(self, tokens: TokenSignals) -> Numbers:
        """Float64 [examples], the cosine in [-1, 1]; null without a supervised token; a gradient of 0 gives 0."""
        products = tokens.readings["head_influence"]
        if not self.normalise:
            return products
        norms = tokens.example(Signal.HEAD_GRADIENT_NORM)
        cosines: Numbers = np.clip(products / np.where(norms == 0, 1, norms), -1, 1)
        return cosines
