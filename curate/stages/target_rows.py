"""Target rows: the texts of the target, for selectors that read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.references import target_positions

TARGET_ROWS = "target_rows"


@dataclass(frozen=True)
class TargetRows(ArtifactStage):
    """Writes the prompts and responses of the target's rows. target: their source."""

    unit = "targets"

    target: str

    @property
    def reads_pool(self) -> bool:
        """No: the target's rows alone."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """The texts of all rows, among them the target's."""
        return frozenset({"prompt", "response", "source", "rows:all"})

    @property
    def adds(self) -> frozenset[str]:
        """The texts."""
        return frozenset({f"artifact:{TARGET_ROWS}"})

    def identity(self) -> dict[str, Any]:
        """Which source."""
        return {"version": 1, "target": self.target}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Write them, in pool order."""
        places = target_positions(inputs, self.target)
        rows = inputs.rows["all"].take(["prompt", "response"], places)
        rows.select("prompt", "response").write_parquet(out / "rows.parquet")
        return {"rows": rows.height}


def load_target_rows(folder: Path) -> pl.DataFrame:
    """`prompt` and `response` of the target's rows."""
    return pl.read_parquet(folder / "rows.parquet")
