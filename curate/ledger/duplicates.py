"""Duplicates: of each stage that groups rows, the row's group, who survived, and how alike they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from curate.cleaner import Deduplicator
from curate.ledger.fates import SURVIVOR, others
from curate.ledger.stored import Stored
from curate.ledger.story import DuplicateGroup
from curate.registry import Registry
from curate.stage import DROP

LISTED = 5
"""Rows of a group that are listed."""


def duplicates(stages: Sequence[Stored], position: int, methods: Registry) -> list[DuplicateGroup]:
    """The groups that the row is in, in the order of the stages; none for a row that is like no other."""
    found = []
    for stage in stages:
        if not stage.adds(DROP, SURVIVOR):
            continue
        own = stage.row(position, SURVIVOR)
        if own is None:
            break
        survivor = own[SURVIVOR] if own[SURVIVOR] is not None else position
        gone = stage.scan(SURVIVOR).filter(pl.col(SURVIVOR) == survivor).select("position").collect()
        dropped = gone["position"].sort().to_list()
        if not dropped:
            continue
        listed = [each for each in dropped if each != position][:LISTED]
        alike = _similarities(stage, stages[0], survivor, {*listed, position}, methods)
        is_survivor = survivor == position
        found.append(
            DuplicateGroup(
                stage=stage.name,
                rows=len(dropped) + 1,
                survivor=None if is_survivor else others(stages, {survivor: alike[position]})[0],
                similarity=None if is_survivor else alike[position],
                dropped=others(stages, {each: alike[each] for each in listed}),
            )
        )
        if not is_survivor:
            break
    return found


def _similarities(
    stage: Stored, origin: Stored, survivor: int, rows: set[int], methods: Registry
) -> Mapping[int, float | None]:
    """Of these rows to the survivor, by the stage's own method; None where it is not known here as it was."""
    method = _method(stage.identity, methods)
    wanted = sorted(rows - {survivor})
    if method is None or not wanted:
        return dict.fromkeys(rows)
    texts = origin.rows([survivor, *wanted], *sorted(method.needs()))
    places = np.searchsorted(texts["position"].to_numpy(), [survivor, *wanted])
    return dict(zip(wanted, method.similarities(texts[places])[1:].tolist(), strict=True))


def _method(identity: Mapping[str, Any], methods: Registry) -> Deduplicator | None:
    if identity["method"] not in methods.names("cleaners"):
        return None
    kind = methods.get("cleaners", identity["method"])
    fields = {name: identity[name] for name in kind.model_fields if name in identity}
    if not issubclass(kind, Deduplicator) or identity["version"] != kind.version:
        return None
    return kind.model_validate(fields)
