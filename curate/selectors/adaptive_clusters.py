"""Adaptive clusters: in each cluster the score that says most there, covered level by level (Adapt-∞).

Rule, after clustering into pseudo-skills (the stages `embed` and `cluster`):
  1. prune each cluster: M_j = max over i < j of cos(i, j) inside the cluster; the share `prune` with the largest M
     goes. i < j is a random order by uid; with `earlier`, rows that it selected stand first, then those it knew.
  2. clusters share the budget equally; a small one gives all it has, its deficit is passed on.
  3. each cluster uses the score whose z-scored histogram (50 edges over ±4) has the highest entropy there; a score
     that does not vary has entropy 0; of equal ones the first of `by`.
  4. rows are drawn as `stratified` does, by that score, inside the cluster.
Lifelong: append the new data set to `sources`, and let `earlier` be the run before. What it pruned stays pruned
(by content), its rows stand before new ones, so that a new copy is the redundant one. Each run prunes its share of
what is left. The grown pool is scored and clustered anew: a stage is stored by all of its input.
Rank: a row of every cluster in turn, the largest first. Budgets in tokens are spent in that order, up to the first
row that does not fit. Rows without a cluster, or without their cluster's score, are never chosen.

Cost: O(sum of squared cluster sizes x d) to prune, in tiles of 16 MiB; O(n log n) and two hashes per row.
Source: Maharana et al., "Adapt-∞", 2024, and its code; CCS: see `stratified`.
Deviations: clusters are those of the `cluster` stage on embeddings, the paper's on projected gradients. A share of
each cluster is pruned; the code prunes to a number of rows, shared equally over clusters, in the order of the
files. Budgets are met exactly; the code rounds every share up. `loss` is the log of the perplexity.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from curate.budget import Budget
from curate.errors import ConfigError
from curate.numerics.adaptive import AdaptiveStrata, adaptive_strata, members_of
from curate.numerics.ranking import ranked
from curate.numerics.stratified import in_turn
from curate.pool import Pool, column_of
from curate.selector import Selection, Selector
from curate.selectors._lifelong import fingerprint, pruned, tables
from curate.selectors._reasons import after, mask, share_texts


class AdaptiveClusters(Selector):
    """In each cluster the score with the widest spread, covered level by level; redundant rows pruned before."""

    by: tuple[str, ...] = Field(
        default=("loss", "el2n", "entropy", "grand"), min_length=1, description="scorers to choose among"
    )
    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    prune: float = Field(default=0.1, ge=0, lt=1, description="share of each cluster to prune as redundant")
    bins: int = Field(default=50, ge=1, description="strata of equal width inside a cluster")
    low: float = Field(
        default=0.05, ge=0, le=1, description="lower quantile inside a cluster; rows below are out"
    )
    high: float = Field(
        default=0.95, ge=0, le=1, description="upper quantile inside a cluster; rows above are out"
    )
    earlier: Path | None = Field(
        default=None, description="folder of a run on the pool before it grew: what it pruned stays pruned"
    )

    @field_validator("earlier")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()  # a worker may run in another folder

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"`low` must be below `high`. Got {self.low:g} and {self.high:g}.")
        if self.earlier is not None:
            try:
                tables(self.earlier)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return self

    def needs(self) -> frozenset[str]:
        """The scores, the cluster, the embedding where something is pruned, and what the budget counts."""
        vectors = {"embedding", "id"} if self.prune else set[str]()
        return frozenset({*map(column_of, self.by), "cluster"} | vectors) | self.budget.needs()

    def identity(self) -> dict[str, Any]:
        """With the content of the earlier run's tables, not its place. Raises ConfigError where they are gone."""
        return {**super().identity(), "earlier": self.earlier and fingerprint(self.earlier)}

    def expected_memory_bytes(self, rows: int, width: int) -> int | None:
        """The embeddings, scaled and by cluster, and some tiles."""
        return 3 * 4 * rows * width + (1 << 26) if self.prune else None

    def select(self, pool: Pool) -> Selection:
        """The rows drawn, a row of every cluster in turn. Raises DataError where a score to be cut is infinite."""
        groups = pool.groups("cluster")
        count = len(groups.names)
        clusters = np.where(np.isnan(pool.values("cluster")), -1, groups.labels)
        gone, why, counts = pruned(pool, clusters, count, self.prune, self.earlier)
        labels = np.where(gone, -1, clusters)
        columns = [column_of(name) for name in self.by]
        values = np.stack([pool.values(column) for column in columns])
        found = adaptive_strata(values, members_of(labels, count), self.low, self.high, self.bins)
        inside = found.labels >= 0
        drawn = ranked(np.where(inside, pool.keys("adaptive_clusters"), np.nan), highest=False)
        by_stratum = in_turn(drawn, labels * self.bins + found.labels)
        sizes = np.bincount(labels[inside], minlength=count)
        largest_first = np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")
        order = in_turn(by_stratum, largest_first[labels])
        kept = pool.take(order, self.budget)
        texts = why.fill_null(self._texts(pool, columns, labels, found))
        texts = share_texts(texts, kept, order, groups, "cluster")
        texts = after(texts, mask(pool.rows, order) & ~mask(pool.rows, kept), ", not drawn")
        used = np.bincount(found.choice[sizes > 0], minlength=len(columns)).tolist()
        notes = {
            "clusters": int((sizes > 0).sum()),
            "clusters_by_score": dict(zip(self.by, used, strict=True)),
        }
        return Selection.of(kept, texts, {**notes, **counts})

    def _texts(
        self, pool: Pool, columns: list[str], labels: NDArray[np.int64], found: AdaptiveStrata
    ) -> pl.Series:
        """Texts like "el2n 0.83, stratum 7 of 50 by el2n (4.1 bits)", String [rows]."""
        by = pl.Series(self.by).gather(found.choice[labels])
        value = pl.coalesce(
            pl.when(by == name).then(pool.texts(column))
            for name, column in zip(self.by, columns, strict=True)
        )
        frame = pl.DataFrame({
            "by": by, "stratum": found.labels + 1, "in": labels >= 0, "bits": found.entropy[labels],
            "low": found.low[labels], "high": found.high[labels],
        }).with_columns(value=value)  # fmt: skip
        low, high = (
            pl.col(name).round_sig_figs(4).cast(pl.String).str.strip_suffix(".0") for name in ("low", "high")
        )
        return frame.select(
            pl.when(~pl.col("in")).then(pl.lit("no cluster"))
            .when(pl.col("value").is_null() | (pl.col("value") == "NaN"))
            .then(pl.format("no score ({}, which its cluster uses, is null)", "by"))
            .when(pl.col("stratum") == 0)
            .then(pl.format("{} {}, outside its cluster's quantiles ({} to {})", "by", "value", low, high))
            .otherwise(pl.format(
                f"{{}} {{}}, stratum {{}} of {self.bins} by the widest spread in its cluster ({{}} bits)",
                "by", "value", "stratum", pl.col("bits").round(2),
            ))
        ).to_series()  # fmt: skip
