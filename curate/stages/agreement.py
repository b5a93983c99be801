"""Agreement: the same scores of a few rows in another precision. What a rounding error can turn is no signal."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.health import spearman
from curate.model.request import TokenRow, union
from curate.numerics.seeds import uniform
from curate.scorer import PooledSignalScorer, Scorer, SignalScorer
from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.columns import nullable
from curate.stages.models import ModelHandle
from curate.stages.references import batch_tokens
from curate.stages.rows import SCORED, token_rows
from curate.stages.score_signals import in_precision

MOST_PROBED_ROWS = 64


@dataclass(frozen=True)
class MeasureAgreement(ArtifactStage):
    """Spearman correlation of each score with itself, in the run's precision and in another, on a sample.

    The other is float32, or bfloat16 where the run's is float32. Rows are drawn by a hash of seed and uid.
    """

    unit = "models"

    methods: tuple[Scorer, ...]
    model: ModelHandle
    rows: int
    seed: int

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """Tokens."""
        return SCORED | {"uid"}

    @property
    def adds(self) -> frozenset[str]:
        """Nothing that another stage reads: its notes are the result."""
        return frozenset({"artifact:agreement"})

    def identity(self) -> dict[str, Any]:
        """Scorers, model, sample."""
        methods = [method.identity() for method in self.methods]
        return {"methods": methods, "model": self.model.identity(), "rows": self.rows, "seed": self.seed}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Score twice, compare."""
        keys = uniform(self.seed, inputs.pool.frame(["uid"])["uid"].to_list())
        chosen = np.sort(np.argsort(keys, kind="stable")[: self.rows])
        frame = inputs.pool.take(SCORED | self._pool_needs(), chosen)
        rows = token_rows(frame)
        dtype = self.model.pinned.dtype
        other = "bfloat16" if dtype == "float32" else "float32"
        first = self._scores(self.model, rows, frame)
        tell(1, 2, 0)
        second = self._scores(in_precision(self.model, other), rows, frame)
        found = {
            name: spearman({"first": first[name], "second": second[name]})["first"]["second"]
            for name in first
        }
        (out / "agreement.json").write_text(json.dumps(found, indent=1))
        return {**found, "rows": len(rows), "precisions": [dtype, other]}

    def rehearsal(self) -> ArtifactStage | None:
        """Itself, where it is of few rows: they are as many for any pool."""
        return self if self.rows <= MOST_PROBED_ROWS else None

    def _pool_needs(self) -> frozenset[str]:
        pooled = [method for method in self.methods if isinstance(method, PooledSignalScorer)]
        return frozenset[str]().union(*(method.pool_needs() for method in pooled))

    def _scores(self, model: ModelHandle, rows: list[TokenRow], frame: pl.DataFrame) -> dict[str, pl.Series]:
        from curate.model.signals import compute_signals

        loaded = model.load()
        asked = [each for each in self.methods if isinstance(each, SignalScorer | PooledSignalScorer)]
        wanted = union((each.signals, each.views) for each in asked)
        readouts = {
            view: [read for each in asked if view in each.views for read in each.readouts({})]
            for view in wanted
        }
        budget = self.resources.batch_tokens or batch_tokens(loaded.device)
        tokens = compute_signals(loaded.model, rows, wanted, budget, readouts=readouts)
        scores = {}
        for each in asked:
            if isinstance(each, PooledSignalScorer):
                scores[each.column] = nullable(
                    each.column, each.combine(each.measure(tokens), frame)["score"]
                )
            else:
                scores[each.column] = nullable(each.column, each.score(tokens))
        return scores
