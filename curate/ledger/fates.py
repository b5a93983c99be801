"""Fates: what became of rows, in the fewest words."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from curate.ledger.stored import Stored
from curate.ledger.story import Other
from curate.stage import DROP
from curate.stages.hold_out import HELD_OUT

DUPLICATE = "duplicate"
SURVIVOR = "duplicate_of"


def fate(stage: Stored, reason: str) -> str:
    """That of a row which this stage dropped for this reason."""
    if stage.record["quarantined"]:
        return "quarantined"
    if reason == HELD_OUT:
        return HELD_OUT
    return DUPLICATE if stage.adds(SURVIVOR) else f"dropped by {stage.name}"


def living(stages: Sequence[Stored]) -> str:
    """The fate of a row that no stage has dropped."""
    return "selected" if stages[0].run.status == "done" else "kept so far"


def fates(stages: Sequence[Stored], positions: Iterable[int]) -> dict[int, str]:
    """Position -> fate."""
    left, found = set(positions), {}
    for stage in stages:
        if not stage.drops or not left:
            continue
        for position, reason in stage.rows(left - _kept(stage, left), DROP).drop_nulls(DROP).iter_rows():
            found[position] = fate(stage, reason)
            left.remove(position)
    return found | dict.fromkeys(left, living(stages))


def others(stages: Sequence[Stored], similarities: Mapping[int, float | None]) -> list[Other]:
    """The rows at these positions, in the order given, each with its similarity."""
    names = {place: (id, source) for place, id, source in stages[0].rows(similarities, "id", "source").rows()}
    known = fates(stages, similarities)
    found = []
    for place, similarity in similarities.items():
        id, source = names[place]
        found.append(Other(id, source, known[place], similarity))
    return found


def _kept(stage: Stored, positions: Iterable[int]) -> set[int]:
    """Which of these positions a stage left."""
    kept, wanted = stage.kept(), np.array(list(positions), dtype=np.int64)
    places = np.minimum(np.searchsorted(kept, wanted), max(len(kept) - 1, 0))
    return set(wanted[kept[places] == wanted].tolist()) if len(kept) else set()
