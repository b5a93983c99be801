"""Mix: turn the selected rows into a schedule, an artifact that can be read, kept and replayed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.mixer import Mixer
from curate.selector import Pool
from curate.stage import ArtifactStage, Inputs, Tell

SCHEDULE = "schedule.parquet"


@dataclass(frozen=True)
class Mix(ArtifactStage):
    """Writes `schedule.parquet`: draw, position, phase."""

    method: Mixer
    seed: int
    higher_is_better: tuple[tuple[str, bool | None], ...]

    @property
    def needs(self) -> frozenset[str]:
        """What the mixer reads, and what names a row."""
        return self.method.needs() | {"uid", "source"}

    @property
    def adds(self) -> frozenset[str]:
        """The schedule."""
        return frozenset({"artifact:schedule"})

    def identity(self) -> dict[str, Any]:
        """The mixer, its seed, and the directions of the scores that it reads."""
        read = {name: better for name, better in self.higher_is_better if name in self.method.needs()}
        return {**self.method.identity(), "seed": self.seed, "higher_is_better": read}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Mix and write the schedule of one epoch."""
        frame = inputs.pool.frame(need for need in self.needs if not need.startswith("artifact:"))
        schedule = self.method.mix(Pool(frame, dict(self.higher_is_better), self.seed, inputs.artifacts))
        draws = np.asarray(schedule.draws, dtype=np.int64)
        table = pl.DataFrame(
            {
                "draw": np.arange(len(draws)),
                "position": frame["position"].to_numpy()[draws],
                "phase": pl.Series(schedule.phases, dtype=pl.String),
            }
        )
        table.write_parquet(out / SCHEDULE)
        return {"draws": len(draws), "distinct_rows": len(np.unique(draws))}
