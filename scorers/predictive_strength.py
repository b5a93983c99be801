"""Predictive strength: whether abler models compress a row better, pair by pair.

Formula: sum over i < j of 1[C_i > C_j] / (N (N - 1) / 2), with C_i the bits per character of the row under model
    i of N, the least able first. Strict: a tie counts as a pair, and not as a success.
Direction: high is better: 1 where every abler model compresses the row better, 0 where none does. Without ties
    it is (tau + 1) / 2, Kendall's tau between compression and ability.
Cost: N forwards, one of each model, of the sampled rows alone; O(N²) a row beside them.
Source: Shum et al., Predictive Data Selection: The Data That Predicts Is the Data That Teaches (PreSelect), 2025
    (arXiv 2503.00808).
Deviations: the order of the family is the ability, and it is strict: the paper measures it on benchmarks, and
    leaves out pairs of equal ability. Compressed is the supervised text, not the whole document. Any models
    may be named: sizes of one family, or the base model and the checkpoints of one training.
"""

from pydantic import Field

from curate.model.request import Signal, TokenSignals
from curate.numerics.predictive_strength import predictive_strength
from curate.scorer import FamilyScorer, Numbers
from curate.settings import Fraction, ModelSpec
from scorers.bits_per_char import BitsPerChar


class PredictiveStrength(FamilyScorer):
    """Share of the pairs of models of which the abler compresses the row better."""

    signals = (Signal.LOG_PROBABILITY,)
    higher_is_better = True
    execution_fields = frozenset({"family"})  # what they measure is an input of the comparison

    family: tuple[ModelSpec, ...] = Field(
        min_length=2, description="models of one family, the least able first: paths, or {path, adapter}"
    )
    sample: Fraction = Field(
        default=0.05, gt=0, description="share of the rows that are scored, drawn by a hash of their uid"
    )

    def models(self) -> tuple[ModelSpec | None, ...]:
        """The family."""
        return self.family

    def share(self) -> float:
        """The sample."""
        return self.sample

    def measure(self, tokens: TokenSignals) -> Numbers:
        """Bits per character under one model, float64 [examples]; null without a supervised character."""
        return BitsPerChar().score(tokens)

    def compare(self, measured: Numbers) -> Numbers:
        """Float64 [rows], in [0, 1]; null where a model has no number for the row."""
        return predictive_strength(measured)
