"""Verdicts: what each stage that drops rows said of one: rule, bound, value; its place against the cut, and what was
kept last where a budget left it out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.ledger.stored import Stored, last
from curate.ledger.story import LastKept, Standing, Verdict
from curate.pool import column_of
from curate.stage import DROP

ABOUT_ITSELF = frozenset({"version", "seed", "higher_is_better", "code", "model", "constraints"})
"""What an identity holds beside the fields that a user wrote."""


def verdicts(stages: Sequence[Stored], position: int) -> list[Verdict]:
    """The verdicts on a row, in order, up to the one that dropped it."""
    found = []
    for index, stage in enumerate(stages):
        if not stage.drops or index == 0:
            continue
        chooses = stage.adds("rank", "reason")
        own = stage.row(position, DROP, *(("rank", "reason") if chooses else ()))
        if own is None:
            break
        kept = own[DROP] is None
        ranking = _ranking(stages, index) if chooses else None
        left_out = chooses and not kept and "budget" in stage.identity
        found.append(
            Verdict(
                stage=stage.name,
                kept=kept,
                reason=own.get("reason") if kept else own[DROP],
                rule=_rule(stage.identity),
                rows=stage.record["rows"],
                rows_kept=stage.record["kept"],
                standing=None if ranking is None else ranking.standing(position),
                last_kept=_last_kept(stages, index, position, ranking) if left_out else None,
            )
        )
        if not kept:
            break
    return found


@dataclass(frozen=True)
class _Ranking:
    """What a `select` ranks by. positions: int64 [rows]; values: float64 [rows], those that are not null."""

    column: str
    positions: NDArray[np.int64]
    values: NDArray[np.float64]
    highest_first: bool

    def value(self, position: int) -> float | None:
        found = self.values[self.positions == position]
        return float(found[0]) if len(found) else None

    def standing(self, position: int) -> Standing:
        mine = self.value(position)
        place = None
        if mine is not None:
            before = self.values > mine if self.highest_first else self.values < mine
            tied = (self.values == mine) & (self.positions < position)
            place = int((before | tied).sum()) + 1
        return Standing(self.column, mine, place, len(self.values), self.highest_first)


def _ranking(stages: Sequence[Stored], index: int) -> _Ranking | None:
    """By what the `select` at `index` ranks; None where it ranks by no column of numbers."""
    identity = stages[index].identity
    by = identity.get("by")
    found = _column(stages, index, by) if isinstance(by, str) else None
    if found is None:
        return None
    column = found.columns[1]
    order, stated = identity.get("order"), identity.get("higher_is_better", {}).get(column)
    values = found.with_columns(pl.col(column).cast(pl.Float64, strict=False)).drop_nulls()
    highest = stated is True if order is None else order == "highest"
    return _Ranking(column, values["position"].to_numpy(), values[column].to_numpy(), highest)


def _column(stages: Sequence[Stored], index: int, name: str) -> pl.DataFrame | None:
    """Position and a column of the rows that the stage at `index` saw; None where no stage before adds it."""
    column = column_of(name)
    origin = last(stages[:index], column)
    if origin is None:
        return None
    return origin.scan(column).join(stages[index].scan(), on="position", how="semi").collect()


def _last_kept(
    stages: Sequence[Stored], index: int, position: int, ranking: _Ranking | None
) -> LastKept | None:
    """The row kept last by the stage at `index`, in the row's own group where the rule chooses per group."""
    stage = stages[index]
    kept = stage.scan("rank").filter(pl.col("rank").is_not_null()).collect()
    group, per = None, stage.identity.get("per") or ("cluster" if "cluster" in stage.manifest.inputs else "")
    groups = _column(stages, index, per) if isinstance(per, str) and per else None
    if groups is not None:
        column = groups.columns[1]
        own = groups.filter(pl.col("position") == position)[column].item()
        group = f"{per} {own}"
        kept = kept.join(groups.filter(pl.col(column).eq_missing(pl.lit(own))), on="position", how="semi")
    if not kept.height:
        return None
    place, rank = kept.sort("rank").row(-1)
    (id,) = stages[0].rows([place], "id")["id"]
    (reason,) = stage.rows([place], "reason")["reason"]
    return LastKept(id, group, rank, None if ranking is None else ranking.value(place), reason)


def _rule(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The method and its fields, those that are not set left out; nothing where no method was configured."""
    if "method" not in identity:
        return {}
    return {name: value for name, value in identity.items() if value is not None and name not in ABOUT_ITSELF}
