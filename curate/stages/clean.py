"""Clean: drop rows that nobody should train on. One engine stage per filter, two per deduplicator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.cleaner import Deduplicator, Filter
from curate.reader import Reader
from curate.stage import DROP, PoolResult, PoolStage, RowStage, Stage
from curate.spec import Resources


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

    def setup(self) -> None:
        """Nothing to prepare."""

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
        """The signature columns, stored as `<method>.<column>`."""
        return frozenset(f"{self.method.name}.{name}" for name in self.method.signature)

    def identity(self) -> dict[str, Any]:
        """The deduplicator's."""
        return self.method.identity()

    def setup(self) -> None:
        """Nothing to prepare."""

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """The signatures."""
        signed = self.method.sign(rows)
        return signed.rename({name: f"{self.method.name}.{name}" for name in signed.columns})


@dataclass(frozen=True)
class GroupDuplicates(PoolStage):
    """Drops all rows of a duplicate group but its survivor."""

    method: Deduplicator

    @property
    def needs(self) -> frozenset[str]:
        """The signatures, the id for the reason, and what `group` reads further."""
        signature = {f"{self.method.name}.{name}" for name in self.method.signature}
        return frozenset(signature | self.method.group_needs() | {"id"})

    @property
    def adds(self) -> frozenset[str]:
        """The reason, and the position of the survivor that stands for the row."""
        return frozenset({DROP, "duplicate_of"})

    def identity(self) -> dict[str, Any]:
        """The deduplicator's."""
        return self.method.identity()

    def apply(self, pool: Reader) -> PoolResult:
        """Group and drop."""
        columns = pool.frame(self.needs)
        prefix = f"{self.method.name}."
        signatures = columns.rename({name: name.removeprefix(prefix) for name in columns.columns if name.startswith(prefix)})
        found = self.method.group(signatures.drop("id"))
        rows = np.arange(len(pool))
        dropped = found.survivor != rows
        positions = columns["position"].to_numpy()
        kind = self.method.name.removesuffix("s").replace("_", " ")
        ids = columns["id"].gather(found.survivor)
        frame = pl.DataFrame({"dropped": dropped, "of": ids, "similarity": found.similarity}).select(
            pl.when(pl.col("dropped"))
            .then(pl.format(kind + " of {}", pl.col("of")) + _similarity())
            .otherwise(None)
            .alias(DROP)
        )
        of = pl.Series("duplicate_of", np.where(dropped, positions[found.survivor], -1), dtype=pl.Int64)
        groups = len(np.unique(found.survivor[dropped]))
        notes: Mapping[str, Any] = {"groups": groups, "dropped": int(dropped.sum())}
        return PoolResult(frame.with_columns(of.replace(-1, None)), notes)


def _similarity() -> pl.Expr:
    known = pl.col("similarity").is_not_nan() & (pl.col("similarity") < 1)
    text = pl.format(" (similarity {})", pl.col("similarity").round(3))
    return pl.when(known).then(text).otherwise(pl.lit(""))
