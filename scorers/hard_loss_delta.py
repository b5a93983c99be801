"""Hard loss delta: what a better model has learnt of a row that the run's model has not.

Formula: (mean over supervised tokens of -log p_t(y_t)) under the run's model, minus the same under `reference`,
    a tuned or a larger model: the reducible holdout loss where the reference was tuned on held-out data.
Direction: high is better: learnable and not yet learnt. Noise is hard for both, what is known easy for both.
Cost: 1 forward of the run's model, shared by all scorers of the pass, and 1 forward of the reference.
Source: Mindermann et al., Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet
    Learnt (RHO-LOSS), 2022 (arXiv 2206.07137).
Deviations: once, before training, where RHO-LOSS asks again at every step. Where the tokenizers differ, losses
    per token do not compare: choose a reference of the same family, or an adapter of the run's model.
"""

from pydantic import Field

from curate.model.request import Signal, TokenSignals
from curate.scorer import FamilyScorer, Numbers
from curate.settings import ModelSpec


class HardLossDelta(FamilyScorer):
    """Loss under the run's model minus loss under a reference."""

    signals = (Signal.LOG_PROBABILITY,)
    higher_is_better = True

    reference: ModelSpec = Field(description="the better model: a path, or {path, adapter} for a tuned one")

    def models(self) -> tuple[ModelSpec | None, ...]:
        """The run's own, and the reference."""
        return (None, self.reference)

    def measure(self, tokens: TokenSignals) -> Numbers:
        """Nats per token, float64 [examples]."""
        return -tokens.mean(Signal.LOG_PROBABILITY)

    def compare(self, measured: Numbers) -> Numbers:
        """Nats per token, float64 [rows]; null where either is."""
        delta: Numbers = measured[:, 0] - measured[:, 1]
        return delta
