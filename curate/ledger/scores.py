"""Scores: each score of a row, with its place among all rows that were scored."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from curate.ledger.stored import Stored
from curate.ledger.story import Score
from curate.registry import Registry
from curate.scorer import Scorer


def scores(stages: Sequence[Stored], position: int, methods: Registry) -> dict[str, Score]:
    """Column -> score, in the order in which they were computed; those that the row was not there for are left out."""
    found: dict[str, Score] = {}
    for stage in stages:
        columns = [name for name in stage.record["adds"] if name.startswith("score.")]
        if not columns:
            continue
        kinds = stage.scan(*columns).collect_schema()
        columns = [name for name in columns if kinds[name].is_numeric()]  # an array is no score
        own = stage.row(position, *columns)
        if own is None:
            continue
        counts = stage.scan(*columns).select(
            *(pl.col(name).count().alias(f"of {name}") for name in columns),
            *(
                (pl.col(name) < own[name]).sum().alias(f"below {name}")
                for name in columns
                if own[name] is not None
            ),
        )
        counted = counts.collect().row(0, named=True)
        for name in columns:
            scored = counted[f"of {name}"]
            percentile = None if own[name] is None else 100 * counted[f"below {name}"] / scored
            found[name] = Score(own[name], percentile, scored, _direction(stage.identity, name, methods))
    return found


def _direction(identity: Mapping[str, Any], column: str, methods: Registry) -> bool | None:
    """Whether higher is better; None for a part of a score, and where the scorer is not known here."""
    name = identity.get("method")
    if name is None or column != f"score.{name}" or name not in methods.names("scorers"):
        return None
    scorer = methods.get("scorers", name)
    return scorer.higher_is_better if issubclass(scorer, Scorer) else None
