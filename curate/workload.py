"""Workload: what a stage of a plan will read, as well as it is known before the run."""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from curate.engine import Planned
from curate.errors import CurateError
from curate.stage import DROP, RowStage
from curate.stages.ingest import CHUNK_ROWS, Ingest
from curate.store import Entry
from curate.view import Located, View


@dataclass(frozen=True)
class Step:
    """A stage with its entries, and the pool as it finds it."""

    planned: Planned
    view: View


@dataclass(frozen=True)
class Workload:
    """What a stage will read. tokens: None where its time does not go by them. at_most: whether it may be fewer."""

    rows: int
    tokens: int | None
    at_most: bool = False

    @property
    def units(self) -> int:
        """What its time is proportional to: tokens, or rows where it reads no tokens."""
        return self.rows if self.tokens is None else self.tokens


@dataclass(frozen=True)
class Sample:
    """Rows as they reach a stage, each with its `weight`, and what they stand for."""

    rows: pl.DataFrame
    work: Workload


def stored(place: Located | None) -> bool:
    """Whether what lies there is complete."""
    return place is not None and (place.folder / "manifest.json").exists()


def stored_work(stage: RowStage, view: View) -> Workload | None:
    """What the stage will read, exactly, where its rows (and their tokens, if it reads them) are stored."""
    reads_tokens = "tokens" in stage.needs
    if not stored(view.rows) or (reads_tokens and not stored(view.columns["tokens"])):
        return None
    reader = view.reader()
    return Workload(len(reader), int(reader.frame(["tokens"])["tokens"].sum()) if reads_tokens else None)


def record_counts(first: Step) -> list[int]:
    """Records of each file that the first stage reads, good and bad. They are counted, not parsed; O(bytes)."""
    return [sum(chunk.count for chunk in file.file.chunks(CHUNK_ROWS)) for file in ingest_of(first).files]


def ingest_of(first: Step) -> Ingest:
    """The first stage."""
    if not isinstance(first.planned.stage, Ingest):
        raise CurateError("the first stage must read the sources")
    return first.planned.stage


def kept_by(planned: Planned) -> Entry | None:
    """The entry that lists the rows which live after a stage, where that is stored."""
    entries = [planned.entries[name] for name, added in planned.stage.outputs.items() if DROP in added]
    return entries[0] if entries and entries[0].manifest() is not None else None


def columns_of(needs: Iterable[str]) -> frozenset[str]:
    """Those of the needs that are columns, but for `position`."""
    return frozenset(need for need in needs if ":" not in need and need != "position")
