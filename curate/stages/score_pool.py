"""The last step of scorers that compare rows over the pool, or models of a family, and scores of columns alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.reader import Reader
from curate.scorer import FamilyScorer, PooledSignalScorer, PoolScorer, Scorer
from curate.selector import Pool
from curate.stage import Artifacts, PoolResult, PoolStage
from curate.stages.columns import nullable, numbers
from curate.stages.embed import TARGET_EMBEDDING, load_target
from curate.stages.score_signals import Measure


@dataclass(frozen=True)
class _Last(PoolStage):
    """What the last steps share."""

    max_null_fraction: float
    method: Scorer

    @property
    def adds(self) -> frozenset[str]:
        """The score."""
        return frozenset({self.method.column})

    @property
    def null_limit(self) -> float | None:
        """As configured."""
        return self.max_null_fraction

    @property
    def null_is_a_verdict(self) -> frozenset[str]:
        """Of a scorer that says so."""
        return frozenset({self.method.column} if self.method.allows_null else ())

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """As the scorer states."""
        return {self.method.column: self.method.higher_is_better}

    def identity(self) -> dict[str, Any]:
        """The scorer's."""
        return self.method.identity()


@dataclass(frozen=True)
class CombineScores(_Last):
    """The last step of a scorer that compares rows over the pool."""

    method: PooledSignalScorer

    @property
    def needs(self) -> frozenset[str]:
        """The scorer's parts, and what else it reads."""
        return Measure(self.method).columns | self.method.pool_needs()

    @property
    def adds(self) -> frozenset[str]:
        """The score, and what stands beside it."""
        return frozenset({self.method.column, *self._beside().values()})

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """As the scorer states; what stands beside it has none."""
        return {**dict.fromkeys(self._beside().values()), self.method.column: self.method.higher_is_better}

    @property
    def null_is_a_verdict(self) -> frozenset[str]:
        """What stands beside the score, too."""
        return super().null_is_a_verdict | frozenset(self._beside().values())

    def _beside(self) -> dict[str, str]:
        return {part: f"{self.method.column}.{part}" for part in self.method.pool_parts}

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Combine the parts of all living rows."""
        frame = pool.frame(self.needs)
        parts = {part: numbers(frame[f"{self.method.column}.{part}"]) for part in self.method.parts}
        found = self.method.combine(parts, frame)
        names = {"score": self.method.column, **self._beside()}
        return PoolResult(pl.DataFrame([nullable(names[key], values) for key, values in found.items()]))


@dataclass(frozen=True)
class CompareFamily(_Last):
    """The last step of a scorer that compares what several models say."""

    method: FamilyScorer

    @property
    def needs(self) -> frozenset[str]:
        """What each model says."""
        return frozenset(self._columns())

    @property
    def null_is_a_verdict(self) -> frozenset[str]:
        """Where a sample is scored, the rest has none."""
        return frozenset({self.method.column}) if self.method.share() < 1 else super().null_is_a_verdict

    def _columns(self) -> list[str]:
        return [Measure(self.method, index).label for index in range(len(self.method.models()))]

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Compare."""
        frame = pool.frame(self.needs)
        measured = np.column_stack([numbers(frame[name]) for name in self._columns()])
        return PoolResult(pl.DataFrame([nullable(self.method.column, self.method.compare(measured))]))


@dataclass(frozen=True)
class ScorePool(_Last):
    """A score computed from columns of the whole pool."""

    method: PoolScorer
    higher_is_better: tuple[tuple[str, bool | None], ...]
    seed: int

    @property
    def needs(self) -> frozenset[str]:
        """What the scorer reads."""
        target = {f"artifact:{TARGET_EMBEDDING}"} if self.method.reads_target else set[str]()
        return self.method.needs() | {"uid", "source"} | target

    def identity(self) -> dict[str, Any]:
        """The scorer and the directions of the scores that it reads."""
        read = {name: better for name, better in self.higher_is_better if name in self.method.needs()}
        return {**self.method.identity(), "seed": self.seed, "higher_is_better": read}

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Score all living rows."""
        columns = Pool(
            pool.frame(need for need in self.needs if not need.startswith("artifact:")),
            dict(self.higher_is_better),
            self.seed,
        )
        target = load_target(artifacts[TARGET_EMBEDDING]) if self.method.reads_target else None
        return PoolResult(pl.DataFrame([nullable(self.method.column, self.method.score(columns, target))]))
