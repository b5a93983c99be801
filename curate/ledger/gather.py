"""Gather: the ledger of one row from its parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.errors import CurateError
from curate.ledger.duplicates import duplicates
from curate.ledger.fates import fates
from curate.ledger.lookup import address, file_of, find, record_address
from curate.ledger.losses import computed_losses, known_losses
from curate.ledger.neighbourhood import cluster, neighbours
from curate.ledger.placement import placement
from curate.ledger.scores import scores
from curate.ledger.stored import Stored, last, stages_of
from curate.ledger.story import Ledger, Verdict
from curate.ledger.verdicts import verdicts
from curate.registry import Registry

if TYPE_CHECKING:
    from curate.runs import Run

TEXT = ("uid", "id", "source", "line", "prompt", "response")


def ledger(run: "Run", id: str, losses: bool = False, nearest: int = 5) -> Ledger:
    """The ledger of the row with this id, uid or address (see `lookup`).

    losses: compute those that the run does not hold. nearest: how many neighbours. Raises ConfigError for an id that
    the run does not know, or that several rows have; CurateError where losses are asked for and cannot be had.
    """
    stages = stages_of(run)
    found = find(stages, id)
    if not isinstance(found, int):
        if losses:
            raise CurateError(
                f"{run.name}: `{id}` was never a row, so it has no loss. Ask without the losses."
            )
        return _quarantined(found, record_address(stages[0], found))
    position = found
    methods = Registry(tuple(Path(folder) for folder in run.info["config"].get("plugins", ())))
    row = stages[0].rows([position], *TEXT).row(0, named=True)
    outcome = fates(stages, [position])[position]
    lives = outcome in ("selected", "kept so far")
    told = verdicts(stages, position)
    scored = scores(stages, position, methods)
    known = known_losses(stages, position, scored.get("score.loss"))
    if losses and "selected" not in known.of:
        known = computed_losses(stages, position)
    place = placement(stages, position) if lives else None
    tokens, supervised = _tokens(stages, position)
    return Ledger(
        **{name: row[name] for name in TEXT},
        address=address(stages[0], position),
        file=file_of(stages[0], position),
        fate=outcome,
        cause=told[-1].reason if outcome == "quarantined" else None,
        copies=_copies(stages[0], row["uid"]),
        tokens=tokens,
        supervised_tokens=supervised,
        duplicates=duplicates(stages, position, methods),
        scores=scored,
        cluster=cluster(stages, position),
        neighbours=neighbours(stages, position, nearest),
        verdicts=told,
        rank=_rank(stages, position) if lives else None,
        repeats=None if place is None else len(place.draws),
        schedule=place,
        losses=None if outcome == "quarantined" else known,
    )


def _quarantined(line: Mapping[str, Any], place: str) -> Ledger:
    """Of a record that could not be read as a row, from its line of quarantine.jsonl."""
    told = Verdict("ingest", False, line["cause"], {}, 0, 0)
    return Ledger(
        id=line["id"],
        uid=None,
        source=line["source"],
        address=place,
        file=line["file"],
        line=line["line"],
        fate="quarantined",
        response=line["record"],
        cause=line["cause"],
        verdicts=(told,),
    )


def _copies(origin: Stored, uid: str) -> int:
    same = origin.scan("uid").filter(pl.col("uid") == uid).select(pl.len()).collect()
    return int(same.item()) - 1


def _tokens(stages: Sequence[Stored], position: int) -> tuple[int | None, int | None]:
    """All, and supervised ones; None where the run has no model, or the row no tokens."""
    stage = last(stages, "tokens", "supervised_tokens")
    own = None if stage is None else stage.row(position, "tokens", "supervised_tokens")
    return (None, None) if own is None else (own["tokens"], own["supervised_tokens"])


def _rank(stages: Sequence[Stored], position: int) -> int | None:
    stage = last(stages, "rank")
    own = None if stage is None else stage.row(position, "rank")
    return None if own is None else own["rank"]
