"""Confidence: how sure of a row the checkpoints of a training are, on average.

Formula: -(1/C) sum over C checkpoints c of exp(mean over supervised tokens t of -log p_t^c(y_t)).
Direction: high is confident, low is hard or noise; `higher_is_better` is None: SFTMix mixes both ends.
Cost: C forwards, one of each model; nothing beside them.
Source: Xiao et al., SFTMix: Elevating Language Model Instruction Tuning with Mixup Recipe, 2024
    (arXiv 2410.05248).
Deviations: any models may be named, not the checkpoints of one training alone; each reads the rows by its own
    tokenizer. A mean loss above 700 nats per token, where float64 ends, is null.
"""

import numpy as np
from pydantic import Field

from curate.model.request import Signal, TokenSignals
from curate.scorer import FamilyScorer, Numbers
from curate.settings import ModelSpec


class Confidence(FamilyScorer):
    """Minus the mean perplexity over checkpoints."""

    signals = (Signal.LOG_PROBABILITY,)
    higher_is_better = None

    checkpoints: tuple[ModelSpec, ...] = Field(
        min_length=1, description="models, each a path or {path, adapter}"
    )

    def models(self) -> tuple[ModelSpec | None, ...]:
        """The checkpoints."""
        return self.checkpoints

    def measure(self, tokens: TokenSignals) -> Numbers:
        """Perplexity under one checkpoint, float64 [examples], at least 1."""
        loss = -tokens.mean(Signal.LOG_PROBABILITY)
        return np.exp(np.where(loss <= 700, loss, np.nan))

    def compare(self, measured: Numbers) -> Numbers:
        """Float64 [rows], at most -1; null where one checkpoint has none."""
        confidence: Numbers = -measured.mean(axis=1)
        return confidence
