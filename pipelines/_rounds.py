"""Rounds: drawing rows from clusters in several rounds, by weights that what the model makes of them moves.

The stages of a round, in order: `Draw`, and, but for the last, `_lessons.TuneDrawn`, those of
`curate.stages.answers`, and `_lessons.Reweigh`. `SelectDrawn` then keeps what was drawn. What a round drew stands in
a column of its own, `round1.drawn`; the weights that it left in an artifact of its own, `round1.weights`. So each is
stored, and none is computed twice.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.budget import Budget
from curate.errors import CurateError, DataError
from curate.numerics.apportion import apportion
from curate.numerics.ranking import group_rank, interleaved
from curate.pool import Groups, Pool, column_of, label_of
from curate.reader import Reader
from curate.selectors._reasons import no_score
from curate.selectors.kmeans_quality import KmeansQuality
from curate.stage import DROP, Artifacts, PoolResult, PoolStage

WEIGHTS = "weights.parquet"


def drawn(number: int) -> str:
    """The column of what a round drew: the place in its draw, from 0; null for rows that it did not draw."""
    return f"round{number}.drawn"


def weights_of(number: int) -> str:
    """The artifact of the weights after a round."""
    return f"round{number}.weights"


@dataclass(frozen=True)
class Plan:
    """What all rounds share: the selection that they make together, its seed and directions."""

    method: KmeansQuality
    seed: int
    higher_is_better: tuple[tuple[str, bool | None], ...]
    rounds: int

    def needs(self) -> frozenset[str]:
        """What a draw reads."""
        return self.method.needs() | {"uid", "source"}

    def identity(self) -> dict[str, Any]:
        """The method, its seed, the direction of its score, the number of rounds."""
        read = {name: better for name, better in self.higher_is_better if name in self.method.needs()}
        own = {**self.method.identity(), "seed": self.seed, "higher_is_better": read}
        return {"rounds": self.rounds, "rounds_version": 1, **own}

    def pool(self, frame: pl.DataFrame) -> Pool:
        """The rows as a selector sees them."""
        return Pool(frame, dict(self.higher_is_better), self.seed)

    def sizes(self, pool: Pool, groups: Groups) -> NDArray[np.int64]:
        """Rows of each cluster that can be drawn, those with a score, int64 [clusters]."""
        return groups.sizes(np.flatnonzero(~np.isnan(pool.values(column_of(self.method.by)))))

    def weights(self, number: int, pool: Pool, groups: Groups, artifacts: Artifacts) -> NDArray[np.float64]:
        """The weights that a round draws by, float64 [clusters]: first all equal, then what the round before left.

        Raises CurateError for the weights of other clusters.
        """
        if number == 1:
            filled = self.sizes(pool, groups) > 0
            return np.asarray(filled / max(1, filled.sum()), dtype=np.float64)
        path = artifacts[weights_of(number - 1)] / WEIGHTS
        left = pl.read_parquet(path)
        if left["cluster"].to_list() != list(groups.names):
            raise CurateError(
                f"{path}: holds the weights of other clusters. Delete its folder and run again."
            )
        return left["weight"].to_numpy()


@dataclass(frozen=True)
class Draw(PoolStage):
    """One round's draw: a share of the budget, over the clusters by their weights, inside by quality.

    number: which round, from 1.
    """

    plan: Plan
    number: int

    @property
    def needs(self) -> frozenset[str]:
        """Scores and clusters, what was drawn before, the weights that the round before left."""
        weights = {f"artifact:{weights_of(self.number - 1)}"} if self.number > 1 else set[str]()
        return self.plan.needs() | {drawn(earlier) for earlier in range(1, self.number)} | weights

    @property
    def adds(self) -> frozenset[str]:
        """The place in the draw."""
        return frozenset({drawn(self.number)})

    def identity(self) -> dict[str, Any]:
        """What all rounds share, and the number."""
        return {**self.plan.identity(), "round": self.number}

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Draw from what is left."""
        frame = pool.frame([need for need in self.needs if not need.startswith("artifact:")])
        candidates = self.plan.pool(frame)
        order, _ = self.plan.method.draw_order(candidates)
        groups = candidates.groups("cluster")
        weights = self.plan.weights(self.number, candidates, groups, artifacts)
        gone = gone_rows(frame, self.number - 1)
        chosen = self._choose(candidates, order, gone, groups, weights)
        place = np.full(frame.height, -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        notes = {"drawn": len(chosen), "clusters": int((groups.sizes(chosen) > 0).sum())}
        return PoolResult(pl.DataFrame([_nullable(drawn(self.number), place)]), notes)

    def _choose(
        self,
        pool: Pool,
        order: NDArray[np.int64],
        gone: NDArray[np.bool_],
        groups: Groups,
        weights: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """The rows of this round, in the order of their draw. Raises DataError where the budget cannot be met."""
        budget, rounds, left = self.plan.method.budget, self.plan.rounds, order[~gone[order]]
        whole = pool.take(order, budget)
        if budget.column is None:
            shares = apportion(np.ones(rounds), len(whole))
            if not shares.all():
                raise DataError(
                    f"a budget of {budget} ({len(whole)} rows) must hold a row for each of {rounds} rounds."
                )
            of_clusters = apportion(weights, int(shares[self.number - 1]), caps=groups.sizes(left))
            return left[group_rank(left, groups.labels) < of_clusters[groups.labels[left]]]
        counts = pool.counts(budget.column)
        limit = int(counts[order].sum()) if budget.is_all else budget.limit(int(counts.sum()))
        share = limit * self.number // rounds - int(counts[gone].sum())
        taken = pool.take(interleaved(left, groups.labels, weights), Budget(share, budget.unit))
        return left[np.isin(left, taken)]


@dataclass(frozen=True)
class SelectDrawn(PoolStage):
    """Keeps what was drawn, in the order of the rounds and of each round's draw, with the ledger of a selection."""

    plan: Plan

    @property
    def needs(self) -> frozenset[str]:
        """All draws, and the weights that each was made by."""
        rounds = range(1, self.plan.rounds + 1)
        weights = {f"artifact:{weights_of(number)}" for number in rounds[:-1]}
        return self.plan.needs() | {drawn(number) for number in rounds} | weights

    @property
    def adds(self) -> frozenset[str]:
        """As a selection: rank (0 is the first drawn) and reason of the kept, reason of the dropped."""
        return frozenset({DROP, "rank", "reason"})

    def predicted_rows(self, rows: int) -> int | None:
        """The budget, where it is one of rows."""
        return self.plan.method.expected_rows(rows)

    def identity(self) -> dict[str, Any]:
        """What all rounds share."""
        return self.plan.identity()

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Rank and reasons, built by columns."""
        frame = pool.frame([need for need in self.needs if not need.startswith("artifact:")])
        candidates = self.plan.pool(frame)
        groups = candidates.groups("cluster")
        rows, clusters = self.plan.sizes(candidates, groups), len(groups.names)
        rank, text = np.full(frame.height, -1, dtype=np.int64), groups.labels + self.plan.rounds * clusters
        left, kept, texts, rounds = rows.copy(), 0, list[str](), list[dict[str, int]]()
        for number in range(1, self.plan.rounds + 1):
            weights = self.plan.weights(number, candidates, groups, artifacts)
            places = frame[drawn(number)]
            chosen = np.flatnonzero(places.is_not_null().to_numpy())
            rank[chosen] = kept + places.drop_nulls().to_numpy()
            text[chosen] = groups.labels[chosen] + (number - 1) * clusters
            of = groups.sizes(chosen)
            texts += [
                f"round {number} of {self.plan.rounds}, cluster {name} (weight {100 * weights[index]:.3g}%, "
                f"{of[index]} of the {left[index]} rows left)"
                for index, name in enumerate(groups.names)
            ]
            left, kept = left - of, kept + len(chosen)
            rounds.append({"drawn": len(chosen), "clusters": int((of > 0).sum())})
        texts += [
            f"not drawn in {self.plan.rounds} rounds, cluster {name}: {rows[index] - left[index]} of {rows[index]} "
            "rows drawn"
            for index, name in enumerate(groups.names)
        ]
        reasons = pl.Series(texts, dtype=pl.String).gather(text)
        ledger = self._ledger(candidates, _nullable("rank", rank), reasons)
        return PoolResult(ledger, {"kept": kept, "of": frame.height, "rounds": rounds})

    def _ledger(self, pool: Pool, rank: pl.Series, reasons: pl.Series) -> pl.DataFrame:
        """The columns of a selection."""
        column = column_of(self.plan.method.by)
        score = pl.format("{} {}", pl.lit(label_of(column)), "score")
        whole = pl.when(pl.col("score").is_null()).then(pl.lit(no_score(column)))
        frame = pl.DataFrame({"rank": rank, "score": pool.texts(column), "reason": reasons}).with_columns(
            reason=whole.otherwise(pl.concat_str("reason", score, separator="; "))
        )
        kept = pl.col("rank").is_not_null()
        return frame.select(
            "rank", pl.when(kept).then("reason").alias("reason"), pl.when(~kept).then("reason").alias(DROP)
        )


def gone_rows(frame: pl.DataFrame, rounds: int) -> NDArray[np.bool_]:
    """Which rows the first rounds drew, bool [rows]."""
    found = np.zeros(frame.height, dtype=np.bool_)
    for number in range(1, rounds + 1):
        found |= frame[drawn(number)].is_not_null().to_numpy()
    return found


def _nullable(name: str, numbers: NDArray[np.int64]) -> pl.Series:
    """A column, null where the number is below 0."""
    series = pl.Series(name, numbers)
    return series.set(series < 0, None)
