"""fastText quality: how much a text is like those of the best score, by a classifier trained on a scored sample.

Formula: P(good | text) by fastText, trained on the rows of the highest `by` and equally many of the lowest.
Direction: high is better: like the rows whose `by` is high.
Cost: no model; O(words) a row, and seconds of training, once.
Source: Shum et al., Predictive Data Selection (PreSelect), 2025 (arXiv 2503.00808), and its code; Joulin et al.,
    Bag of Tricks for Efficient Text Classification, 2016 (arXiv 1607.01759).
Deviations: 200,000 vectors for word pairs, where fastText has 2,000,000 (0.1 GB in place of 0.8). Examples in
    random order, by one thread. A tenth of them is kept out, by group, for the AUC in the run's notes.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.numerics.seeds import derive
from curate.pool import column_of
from curate.scorer import Examples, LearnedTextScorer, Numbers, Reference
from curate.settings import Fraction
from scorers._classifier import chance_of_good, draw, learn, lines, load, notes
from scorers._words import Part, columns, text


class FasttextQuality(LearnedTextScorer):
    """Probability, by a classifier of texts, of being like the rows of the best score."""

    higher_is_better = True
    reads_target = False
    dimension_fields = ("dim", "buckets")

    by: str = Field(default="predictive_strength", description="score or column to learn; high is good")
    fraction: Fraction | None = Field(
        default=None,
        gt=0,
        le=0.5,
        description="of the scored rows, for each kind; null: those of the maximum",
    )
    part: Part = Field(default="all", description="the text that is read")
    epochs: int = Field(default=3, ge=1, description="passes over the examples")
    learning_rate: float = Field(default=0.1, gt=0, description="of the first step; it falls to 0")
    word_ngrams: int = Field(default=2, ge=1, description="words of the longest run that counts")
    dim: int = Field(default=100, ge=1, description="width of the vectors")
    buckets: int = Field(default=200_000, ge=1, description="vectors that runs of words are hashed to")
    held_out: Fraction = Field(default=0.1, lt=1, description="share of the examples kept out, for the AUC")

    def needs(self) -> frozenset[str]:
        """The text."""
        return columns(self.part)

    def reference_needs(self) -> frozenset[str]:
        """The text, what is learnt, and what examples are drawn by."""
        return self.needs() | {column_of(self.by), "uid", "group"}

    def refer(self, examples: Examples) -> Mapping[str, NDArray[Any]]:
        """The classifier, and what `notes` tells. Raises DataError for too few examples."""
        column = column_of(self.by)
        rows = examples.columns([column, "uid", "group"])
        drawn = draw(rows, column, self.fraction, self.held_out, derive(examples.seed, self.name))
        passes = {"epoch": self.epochs, "lr": self.learning_rate, "seed": examples.seed % 2**31}
        shape = {"dim": self.dim, "wordNgrams": self.word_ngrams, "bucket": self.buckets}
        texts = examples.columns(sorted(self.needs()), drawn.rows).select(text(self.part)).to_series()
        return learn(lines(texts), drawn, {**passes, **shape})

    def notes(self, reference: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
        """Examples, good and bad, trained on and held out, and the AUC on the latter."""
        return notes(reference)

    def load(self, reference: Reference) -> Any:
        """The fastText model."""
        return load(reference["model"])

    def score(self, rows: pl.DataFrame, classifier: Any) -> Numbers:
        """Float64 [rows], in [0, 1]; null without text."""
        return chance_of_good(classifier, lines(rows.select(text(self.part)).to_series()))
