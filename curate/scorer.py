"""Scorer: adds one number per row, the column `score.<name>`.

A scorer declares what it reads; the engine takes the union over all scorers of a run and runs the
model once. A scorer's file holds its formula and little else. What a score compares rows with (a target,
a trained classifier) is made once, stored, and handed to it: see `Referenced`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.component import Component
from curate.model.request import Readout, Signal, States, TokenRow, TokenSignals, View
from curate.pool import Pool
from curate.settings import ModelSpec

if TYPE_CHECKING:
    from curate.model.load import LoadedModel

Numbers = NDArray[np.float64]
Reference = Mapping[str, Any]
"""What `refer` made, by name: torch tensors on the model's device, or numpy arrays for a scorer without a model."""


class Scorer(Component, ABC):
    """What all scorers state about themselves."""

    higher_is_better: ClassVar[bool | None]
    """The direction of a good row; None where both ends are bad or the field has not agreed."""

    allows_null: ClassVar[bool] = False
    """Whether null is a verdict of the method on a row, and so does not count against `max_null_fraction`."""

    parts: ClassVar[tuple[str, ...]] = ()
    """Per-row measurements beside the score, kept as columns `score.<name>.<part>`."""

    @property
    def column(self) -> str:
        """The column that this scorer adds."""
        return f"score.{self.name}"

    def models(self) -> tuple[ModelSpec | None, ...]:
        """The models that it reads; None stands for the run's own."""
        return ()


class Examples(Protocol):
    """The rows that a reference is made from, and the run's model, loaded when first asked for."""

    @property
    def seed(self) -> int:
        """For what is drawn."""

    @property
    def target(self) -> Sequence[TokenRow]:
        """The rows of `target:`, as tokens."""

    @property
    def model(self) -> LoadedModel:
        """The run's model, in evaluation mode."""

    @property
    def layers(self) -> int:
        """How many decoder layers the run's model has."""

    def sample(self, rows: int) -> Sequence[TokenRow]:
        """At most so many rows of the pool, as tokens, drawn by a hash of seed and uid."""

    def sample_tokens(self, tokens: int) -> Sequence[TokenRow]:
        """Rows of the pool drawn likewise, until they hold so many tokens."""

    def columns(self, names: Sequence[str], rows: NDArray[np.int64] | None = None) -> pl.DataFrame:
        """Columns of all living rows of the pool, or of those with these indices, in the order given."""

    def signals(self, rows: Sequence[TokenRow], readouts: Sequence[Readout]) -> TokenSignals:
        """A pass of the run's model over these rows."""

    def states(self, rows: Sequence[TokenRow], layer: int | None = None, attention_layers: int = 0) -> States:
        """The states of a few rows, of all their tokens; see `StateReadout`. They must fit in memory."""

    def mean_head_gradient(self, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
        """The mean over rows of the head's gradient, float32 [vocabulary, width (one more with a bias)]."""

    @property
    def folder(self) -> Path:
        """Where files may be left that go with the reference, for users."""


class Referenced(ABC):
    """A scorer that compares rows with something that is made before: stored, and made again only if it must be."""

    reads_target: ClassVar[bool] = True
    """Whether the reference is made from the rows of `target:`, which then must exist."""

    def reference_needs(self) -> frozenset[str]:
        """The columns of the pool that it is made from; none where the target is enough."""
        return frozenset()

    @abstractmethod
    def refer(self, examples: Examples) -> Mapping[str, NDArray[Any]]:
        """The reference, as named arrays. Raises DataError where the examples do not allow one."""

    def notes(self, reference: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
        """What to say of a reference in the run, as JSON values."""
        return {}


class SignalScorer(Scorer, ABC):
    """A score computed from the model's one pass, row by row."""

    signals: ClassVar[tuple[Signal, ...]] = ()
    views: ClassVar[tuple[View, ...]] = (View.FULL,)

    def models(self) -> tuple[ModelSpec | None, ...]:
        """The run's own."""
        return (None,)

    def readouts(self, reference: Reference) -> Sequence[Readout]:
        """What is read from the model's states under each of `views`, if anything."""
        return ()

    @abstractmethod
    def score(self, tokens: TokenSignals) -> Numbers:
        """float64 [examples]; NaN (null) where a row has no supervised token."""


class PooledSignalScorer(Scorer, ABC):
    """A score whose last step compares rows over the whole pool (DONOD's TOPSIS)."""

    signals: ClassVar[tuple[Signal, ...]] = ()
    views: ClassVar[tuple[View, ...]] = (View.FULL,)
    pool_parts: ClassVar[tuple[str, ...]] = ()
    """Columns `score.<name>.<part>` that the last step adds beside the score."""

    def models(self) -> tuple[ModelSpec | None, ...]:
        """The run's own."""
        return (None,)

    def readouts(self, reference: Reference) -> Sequence[Readout]:
        """As for a SignalScorer."""
        return ()

    def pool_needs(self) -> frozenset[str]:
        """Further columns that the last step reads."""
        return frozenset()

    @abstractmethod
    def measure(self, tokens: TokenSignals) -> Mapping[str, Numbers]:
        """The row's own measurements: for each name in `parts`, float64 [examples] or [examples, k]."""

    @abstractmethod
    def combine(self, parts: Mapping[str, Numbers], rows: pl.DataFrame) -> Mapping[str, Numbers]:
        """`score`, float64 [rows], over the pool, and each of `pool_parts`; NaN stays NaN.

        parts: as measured, of all rows. rows: the columns of `pool_needs`.
        """


class FamilyScorer(Scorer, ABC):
    """A score that compares what several models say of a row."""

    signals: ClassVar[tuple[Signal, ...]]
    views: ClassVar[tuple[View, ...]] = (View.FULL,)

    def share(self) -> float:
        """The share of the rows to score, drawn by a hash of their uid; the others stay null."""
        return 1.0

    @abstractmethod
    def models(self) -> tuple[ModelSpec | None, ...]:
        """The models, in order; None is the run's own. Each reads the rows by its own tokenizer and template."""

    @abstractmethod
    def measure(self, tokens: TokenSignals) -> Numbers:
        """What one model says: float64 [examples]."""

    @abstractmethod
    def compare(self, measured: Numbers) -> Numbers:
        """The score, float64 [rows], from float64 [rows, models]; NaN where one is missing."""


class RatingScorer(Scorer, ABC):
    """A score that an instruct model gives by answering rating prompts with one of a few tokens."""

    ratings: ClassVar[tuple[str, ...]] = ("1", "2", "3", "4", "5", "6")

    @abstractmethod
    def prompts(self, turns: Sequence[tuple[str, str]]) -> Sequence[str]:
        """The rating prompts of a conversation of (instruction, response) turns."""

    @abstractmethod
    def rate(self, ratings: Numbers) -> float:
        """The score of a row from the expected rating of each of its prompts, float64 [prompts]."""


class TextScorer(Scorer, ABC):
    """A score computed from the text of a row, without a model."""

    def needs(self) -> frozenset[str]:
        """The columns that this scorer reads."""
        return frozenset({"prompt", "response"})

    @abstractmethod
    def score(self, rows: pl.DataFrame) -> Numbers:
        """float64 [rows]; NaN (null) where the score is not defined."""


class LearnedTextScorer(Scorer, Referenced, ABC):
    """A score of a row's text by a classifier that was trained before."""

    def needs(self) -> frozenset[str]:
        """The columns that are scored."""
        return frozenset({"prompt", "response"})

    @abstractmethod
    def load(self, reference: Reference) -> Any:
        """The classifier, once per worker."""

    @abstractmethod
    def score(self, rows: pl.DataFrame, classifier: Any) -> Numbers:
        """float64 [rows]; NaN (null) where the score is not defined."""


class PoolScorer(Scorer, ABC):
    """A score computed from columns of the whole pool: other scores, embeddings, sources."""

    reads_target: ClassVar[bool] = False
    """Whether it compares with the embeddings of the rows of `target:`."""

    @abstractmethod
    def needs(self) -> frozenset[str]:
        """The columns that it reads."""

    def check(self, higher_is_better: Mapping[str, bool | None]) -> None:
        """Raise ConfigError for what the directions of the scores already show cannot work."""

    @abstractmethod
    def score(self, pool: Pool, target: NDArray[np.float32] | None) -> Numbers:
        """float64 [rows]. target: float32 [target rows, d], unit length, where it reads one."""
