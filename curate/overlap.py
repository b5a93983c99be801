"""Overlap: how alike the selections and the scores of finished runs are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import polars as pl

from curate.errors import ConfigError
from curate.runs import Run

LEAST_ROWS = 3


@dataclass(frozen=True)
class Pair:
    """Two runs. jaccard: of the contents (uids) that both kept; shared: how many.

    spearman: score -> rank correlation over the rows that both scored; scores of fewer than 3 such rows are left out.
    """

    first: str
    second: str
    shared: int
    jaccard: float
    spearman: dict[str, float]


@dataclass(frozen=True)
class Overlaps:
    """runs: of each its kept rows and, where it was evaluated, its held-out loss before and after."""

    runs: Sequence[dict[str, Any]]
    pairs: Sequence[Pair]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def overlaps(runs: Sequence[Run]) -> Overlaps:
    """Compare every two of the runs. Raises ConfigError for fewer than two."""
    if len(runs) < 2:
        raise ConfigError(f"compare: needs a configuration, or at least two runs. Got {len(runs)} run.")
    kept = {run.name: set(run.selected.select("uid").collect()["uid"]) for run in runs}
    facts = []
    for run in runs:
        losses = run.evaluation["losses"] if (run.path / "eval.json").exists() else {}
        means = {name: losses[name]["source_mean"] for name in ("before", "selected") if name in losses}
        facts.append({"run": run.name, "kept": len(kept[run.name]), **means})
    pairs = []
    for first, second in combinations(runs, 2):
        shared = len(kept[first.name] & kept[second.name])
        either = len(kept[first.name] | kept[second.name])
        correlation = score_correlations(first, second)
        pairs.append(Pair(first.name, second.name, shared, shared / max(either, 1), correlation))
    return Overlaps(facts, pairs)


def score_correlations(first: Run, second: Run) -> dict[str, float]:
    """Spearman of each score (and part of one) over the contents that both runs scored; see `Pair.spearman`."""
    if not all((run.path / "scores.parquet").exists() for run in (first, second)):
        return {}
    tables = [run.scores for run in (first, second)]
    columns = [set(table.collect_schema().names()) for table in tables]
    shared = sorted(name for name in columns[0] & columns[1] if name.startswith("score."))
    one, other = (table.select("uid", *shared).unique("uid") for table in tables)
    both = one.join(other, on="uid", suffix=".other").collect()
    found = {}
    for name in shared:
        known = both.select(name, f"{name}.other").drop_nulls()
        if known.height >= LEAST_ROWS:
            rho = known.select(pl.corr(name, f"{name}.other", method="spearman")).item()
            if rho is not None and rho == rho:
                found[name.removeprefix("score.")] = float(rho)
    return found
