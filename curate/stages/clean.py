"""Clean: drop rows that nobody should train on. One engine stage per filter, two per deduplicator."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.cleaner import Deduplicator, Filter
from curate.reader import Reader
from curate.settings import Resources
from curate.stage import DROP, Artifacts, PoolResult, PoolStage, RowStage, Stage


def clean_stages(method: Filter | Deduplicator, entry: int, resources: Resources) -> list[Stage]:
    """The engine's stages for one item of a `clean:` list."""
    label = f"clean.{method.name}"
    if isinstance(method, Filter):
        return [FilterRows(label, entry, resources, method)]
    return [
        SignRows(f"{label}.signatures", entry, resources, method),
        GroupDuplicates(label, entry, resources, method),
    ]


@dataclass(frozen=True)
class FilterRows(RowStage):
    """Drops the rows that a filter rejects."""

    method: Filter

    @property
    def needs(self) -> frozenset[str]:
        """What the filter reads."""
        return self.method.needs()

    @property
    def adds(self) -> frozenset[str]:
        """The reason to drop."""
        return frozenset({DROP})

    def identity(self) -> dict[str, Any]:
        """The filter's."""
        return self.method.identity()

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """The filter's verdicts."""
        return pl.DataFrame({DROP: pl.Series(list(self.method.judge(rows)), dtype=pl.String)})


@dataclass(frozen=True)
class SignRows(RowStage):
    """Adds a deduplicator's signature columns."""

    method: Deduplicator

    @property
    def needs(self) -> frozenset[str]:
        """What `sign` reads."""
        return self.method.needs()

    @property
    def adds(self) -> frozenset[str]:
        """The signature columns."""
        return frozenset(self.method.signature)

    def identity(self) -> dict[str, Any]:
        """The deduplicator's."""
        return self.method.identity()

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """The signatures."""
        return self.method.sign(rows)


@dataclass(frozen=True)
class GroupDuplicates(PoolStage):
    """Drops all rows of a duplicate group but its survivor."""

    method: Deduplicator

    @property
    def needs(self) -> frozenset[str]:
        """The signatures, the id for the reason, and what `group` reads further."""
        return frozenset(self.method.signature) | self.method.group_needs() | {"id"}

    @property
    def adds(self) -> frozenset[str]:
        """The reason, and the position of the survivor that stands for the row."""
        return frozenset({DROP, "duplicate_of"})

    def identity(self) -> dict[str, Any]:
        """The deduplicator's."""
        return self.method.identity()

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Group and drop."""
        found = self.method.group(pool)
        dropped = np.flatnonzero(found.survivor != np.arange(len(pool)))
        ids = pool.frame(["id"])["id"]
        survivors = found.survivor[dropped]
        reasons = [
            self.method.reason(id, similarity)
            for id, similarity in zip(ids.gather(survivors), found.similarity[dropped], strict=True)
        ]
        verdicts = pl.DataFrame(
            {
                "row": pl.Series(dropped, dtype=pl.Int64),
                DROP: pl.Series(reasons, dtype=pl.String),
                "duplicate_of": pl.Series(np.asarray(pool.positions)[survivors], dtype=pl.Int64),
            }
        )
        rows = pl.DataFrame({"row": pl.int_range(len(pool), eager=True, dtype=pl.Int64)})
        frame = rows.join(verdicts, on="row", how="left", maintain_order="left").drop("row")
        return PoolResult(frame, {"groups": len(np.unique(survivors)), "dropped": len(dropped)})
