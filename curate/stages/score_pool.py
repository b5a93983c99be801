"""The last step of scorers that compare rows over the pool, or models of a family, and scores of columns alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.pool import Pool
from curate.reader import Reader
from curate.scorer import FamilyScorer, PooledSignalScorer, PoolScorer
from curate.stage import Artifacts, PoolResult, PoolStage
from curate.stages.columns import nullable, numbers
from curate.stages.embed import TARGET_EMBEDDING, load_target
from curate.stages.score_signals import Measure
from curate.stages.scorer_stage import ScorerStage


@dataclass(frozen=True)
class CombineScores(ScorerStage, PoolStage):
    """The last step of a scorer that compares rows over the pool."""

    methods: tuple[PooledSignalScorer]

    @property
    def needs(self) -> frozenset[str]:
        """The scorer's parts, and what else it reads."""
        return Measure(self.methods[0]).columns | self.methods[0].pool_needs()

    @property
    def adds(self) -> frozenset[str]:
        """The score, and what stands beside it."""
        return frozenset({self.methods[0].column, *self._beside().values()})

    @property
    def outputs(self) -> Mapping[str, frozenset[str]]:
        """All in one."""
        return {self.label: self.adds}

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """As the scorer states; what stands beside it has none."""
        return {
            **dict.fromkeys(self._beside().values()),
            self.methods[0].column: self.methods[0].higher_is_better,
        }

    @property
    def null_is_a_verdict(self) -> frozenset[str]:
        """What stands beside the score, too."""
        return super().null_is_a_verdict | frozenset(self._beside().values())

    def _beside(self) -> dict[str, str]:
        return {part: f"{self.methods[0].column}.{part}" for part in self.methods[0].pool_parts}

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Combine the parts of all living rows."""
        frame = pool.frame(self.needs)
        parts = {part: numbers(frame[f"{self.methods[0].column}.{part}"]) for part in self.methods[0].parts}
        found = self.methods[0].combine(parts, frame)
        names = {"score": self.methods[0].column, **self._beside()}
        return PoolResult(pl.DataFrame([nullable(names[key], values) for key, values in found.items()]))


@dataclass(frozen=True)
class CompareFamily(ScorerStage, PoolStage):
    """The last step of a scorer that compares what several models say."""

    methods: tuple[FamilyScorer]

    @property
    def needs(self) -> frozenset[str]:
        """What each model says."""
        return frozenset(self._columns())

    @property
    def null_is_a_verdict(self) -> frozenset[str]:
        """Where a sample is scored, the rest has none."""
        return (
            frozenset({self.methods[0].column}) if self.methods[0].share() < 1 else super().null_is_a_verdict
        )

    def _columns(self) -> list[str]:
        return [Measure(self.methods[0], index).label for index in range(len(self.methods[0].models()))]

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Compare."""
        frame = pool.frame(self.needs)
        measured = np.column_stack([numbers(frame[name]) for name in self._columns()])
        return PoolResult(pl.DataFrame([nullable(self.methods[0].column, self.methods[0].compare(measured))]))


@dataclass(frozen=True)
class ScorePool(ScorerStage, PoolStage):
    """A score computed from columns of the whole pool."""

    methods: tuple[PoolScorer]
    higher_is_better: tuple[tuple[str, bool | None], ...]
    seed: int

    @property
    def needs(self) -> frozenset[str]:
        """What the scorer reads."""
        target = {f"artifact:{TARGET_EMBEDDING}"} if self.methods[0].reads_target else set[str]()
        return self.methods[0].needs() | {"uid", "source"} | target

    def output_identity(self, output: str) -> dict[str, Any]:
        """The scorer and the directions of the scores that it reads."""
        read = {name: better for name, better in self.higher_is_better if name in self.methods[0].needs()}
        return {**self.methods[0].identity(), "seed": self.seed, "higher_is_better": read}

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Score all living rows."""
        columns = Pool(
            pool.frame(need for need in self.needs if not need.startswith("artifact:")),
            dict(self.higher_is_better),
            self.seed,
        )
        target = load_target(artifacts[TARGET_EMBEDDING]) if self.methods[0].reads_target else None
        return PoolResult(
            pl.DataFrame([nullable(self.methods[0].column, self.methods[0].score(columns, target))])
        )
