"""Lessons: what a round of `_rounds` learns: the model tuned on what was drawn, and the clusters' new weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from curate.numerics.reweigh import group_means, reweighed
from curate.numerics.seeds import derive
from curate.pool import column_of
from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.rows import token_rows
from curate.stages.train import Tuning
from pipelines._rounds import WEIGHTS, Plan, drawn, gone_rows, weights_of

SHOWN = 10
"""Clusters whose weights a run's record tells, from either end; all are in the store."""


@dataclass(frozen=True)
class TuneDrawn(ArtifactStage):
    """Tunes the model, as it was, on all that was drawn up to a round. number: that round."""

    tuning: Tuning
    number: int

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The stored tokens and what was drawn."""
        return frozenset({"input_ids", "supervised", *(drawn(each) for each in range(1, self.number + 1))})

    @property
    def adds(self) -> frozenset[str]:
        """The tuned model."""
        return frozenset({f"artifact:round{self.number}.model"})

    def identity(self) -> dict[str, Any]:
        """How it is trained."""
        return self.tuning.identity()

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Train once over each row drawn, times the epochs, shuffled."""
        columns = [drawn(each) for each in range(1, self.number + 1)]
        chosen = np.flatnonzero(gone_rows(inputs.pool.frame(columns), self.number))
        rows = token_rows(inputs.pool.take(["input_ids", "supervised"], chosen))
        order = np.random.default_rng(derive(self.tuning.seed, "order")).permutation(len(rows))
        return self.tuning.run(rows, order, out, work, tell)


@dataclass(frozen=True)
class Reweigh(ArtifactStage):
    """Moves the weights of the clusters by the mean of what their rows' answers are worth; writes weights.parquet.

    reward: the column, null for rows that were not answered. One row a cluster in weights.parquet: its name,
    `before`, the mean `score` (null where no row was scored), `scored` rows, and `weight`.
    """

    unit: ClassVar[str] = "clusters"
    plan: Plan
    number: int
    reward: str

    @property
    def needs(self) -> frozenset[str]:
        """Clusters, which rows have a score, rewards, and the weights before."""
        weights = {f"artifact:{weights_of(self.number - 1)}"} if self.number > 1 else set[str]()
        return frozenset({"cluster", column_of(self.plan.method.by), self.reward} | weights)

    @property
    def adds(self) -> frozenset[str]:
        """The weights."""
        return frozenset({f"artifact:{weights_of(self.number)}"})

    def identity(self) -> dict[str, Any]:
        """Only its inputs."""
        return {"reweigh": 1}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Average, multiply, normalise."""
        names = [need for need in self.needs if not need.startswith("artifact:")]
        candidates = self.plan.pool(inputs.pool.frame(names))
        groups = candidates.groups("cluster")
        before = self.plan.weights(self.number, candidates, groups, inputs.artifacts)
        rewards = candidates.values(self.reward)
        scores = group_means(rewards, groups.labels, len(before))
        weights = reweighed(before, scores)
        frame = pl.DataFrame(
            {
                "cluster": pl.Series(groups.names, dtype=pl.String),
                "before": before,
                "score": pl.Series(scores).fill_nan(None),
                "scored": groups.sizes(np.flatnonzero(~np.isnan(rewards))),
                "weight": weights,
            }
        )
        frame.write_parquet(out / WEIGHTS)
        tell(len(before), len(before), 0)
        return _told(frame)


def round_tuning(tuning: Tuning, number: int, epochs: float | None) -> Tuning:
    """How to train in a round: as after the selection, but for the epochs, and nothing of it is kept for users."""
    changed: dict[str, Any] = {"save_at": ()} | ({} if epochs is None else {"epochs": epochs})
    return replace(
        tuning, spec=tuning.spec.model_copy(update=changed), seed=derive(tuning.seed, "round", str(number))
    )


def _told(frame: pl.DataFrame) -> dict[str, Any]:
    """What a run's record says of the weights: how many were moved, how, and the ends of the list."""
    scores = frame["score"].drop_nulls().to_numpy()
    ordered = frame.filter(pl.col("weight") > 0).sort("weight", "cluster", descending=[True, False])
    shown = ordered if ordered.height <= 2 * SHOWN else pl.concat([ordered.head(SHOWN), ordered.tail(SHOWN)])
    return {
        "clusters": ordered.height,
        "scored_clusters": len(scores),
        "scored_rows": int(frame["scored"].sum()),
        "form": "product" if len(scores) and scores.min() > 0 else "softmax",
        "weights": {
            row["cluster"]: {name: row[name] for name in ("before", "score", "scored", "weight")}
            for row in shown.iter_rows(named=True)
        },
    }
