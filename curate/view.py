"""View: the pool as the next stage sees it. Paths and fingerprints, no data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import CurateError
from curate.reader import Reader


@dataclass(frozen=True)
class Located:
    """Where something lies, and the fingerprint of what made it."""

    folder: Path
    fingerprint: str


@dataclass(frozen=True)
class View:
    """The pool as the next stage sees it: which rows live, and where their columns lie."""

    rows: Located | None = None
    columns: Mapping[str, Located] = field(default_factory=dict)
    artifacts: Mapping[str, Located] = field(default_factory=dict)
    named_rows: Mapping[str, Located] = field(default_factory=dict)

    def reader(self, rows: Located | None = None) -> Reader:
        """A reader of the living rows, or of rows set aside earlier."""
        rows = rows or self.rows
        if rows is None:
            raise CurateError("no rows were read yet")
        return Reader(rows.folder, {name: place.folder for name, place in self.columns.items()})

    def inputs(self, needs: Iterable[str], pool: bool = True) -> dict[str, Any]:
        """The fingerprints of what a stage reads, for its own. pool: whether it depends on the living rows."""
        found: dict[str, Any] = {"rows": self.rows.fingerprint if self.rows and pool else None}
        for need in sorted(needs):
            kind, _, name = need.rpartition(":")
            if kind == "artifact":
                found[need] = self.artifacts[name].fingerprint
            elif kind == "rows":
                found[need] = self.named_rows[name].fingerprint
            else:
                found[need] = self.columns[need].fingerprint
        return found
