"""DONOD: rows whose one step grows the output head (generalises) while moving it little (is no noise).

Formula: one plain SGD step from the same W for every row, W' = W - eta G, G = dloss/dW of the output head:
    NOD = ||W' - W|| = eta ||G||,
    DON = ||W'|| - ||W|| = (eta^2 ||G||^2 - 2 eta <W, G>) / (||W'|| + ||W||),
    then TOPSIS over the pool: closeness to (max DON, min NOD). |DON| <= NOD.
Direction: high is better, in [0, 1]; the authors keep the top 20 to 30 %.
Cost: 1 forward, shared by all scorers of the pass; O(T V min(T, d)) beside it, for T tokens, V logits
    and width d.
Source: Hu et al., DONOD: Efficient and Generalizable Instruction Fine-Tuning for LLMs via Model-Intrinsic
    Dataset Pruning, 2025 (arXiv 2504.14810); norms without a
    backward pass: see curate/model/head.py.
Deviations: the authors' probe update and weights are not published, so `learning_rate` and the weights are
    options; the step is forward only. Tied embeddings: the gradient through the output side only.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.model.request import Signal, TokenSignals
from curate.numerics.topsis import topsis
from curate.scorer import PooledSignalScorer


class DONOD(PooledSignalScorer):
    """Delta of norm against norm of delta of the output head, joined by TOPSIS."""

    signals = (Signal.HEAD_GRADIENT_NORM, Signal.HEAD_WEIGHT_GRADIENT_PRODUCT, Signal.HEAD_WEIGHT_NORM)
    parts = ("don", "nod")
    higher_is_better = True

    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False, description="eta of the probe step")
    don_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="TOPSIS weight of DON")
    nod_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="TOPSIS weight of NOD")

    def measure(self, tokens: TokenSignals) -> Mapping[str, NDArray[np.float64]]:
        """Parts don and nod, float64 [examples]; null where a row has no supervised token."""
        norm = tokens.example(Signal.HEAD_WEIGHT_NORM)
        nod = self.learning_rate * tokens.example(Signal.HEAD_GRADIENT_NORM)
        growth = nod**2 - 2 * self.learning_rate * tokens.example(Signal.HEAD_WEIGHT_GRADIENT_PRODUCT)
        after = np.sqrt(np.maximum(norm**2 + growth, 0))
        return {"don": growth / (after + norm), "nod": nod}

    def combine(
        self, parts: Mapping[str, NDArray[np.float64]], rows: pl.DataFrame
    ) -> Mapping[str, NDArray[np.float64]]:
        """TOPSIS closeness over the pool, float64 [rows], in [0, 1]."""
        criteria = np.column_stack([parts["don"], parts["nod"]])
        weights = (self.don_weight, self.nod_weight)
        return {"score": topsis(criteria, weights, maximise=(True, False))}
