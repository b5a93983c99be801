"""Replay: a schedule that was saved, and perhaps edited, is trained again.

Formula: one draw for each line of the file, in the order of the lines. What is read: `uid`, the content of the row that
is drawn, of which any selected row with that content will do; `phase`, any text; and, where they are there, `start` and
`length` of a piece in tokens (empty for the whole row), `step`, the optimizer step, from 0, in all lines or in none,
`composed`, a line of composed.parquet beside the file. `draw` and `position` are not read. Composed examples are
tokenised anew; the mixer needs `model:` therefore.

A run leaves such a file, schedule.parquet; `polars.read_parquet(...).write_csv(...)` turns it into one for a
spreadsheet. Its content counts for the fingerprint, not its place: an edited file is another mixture.

Cost: O(n log n).
Source: none; what makes a schedule an artifact.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from curate.errors import ConfigError
from curate.mixer import Mixer, Schedule
from curate.mixers._saved_schedule import Rows, composed_of, pieces_of, read_table, steps_of
from curate.model.folders import file_hash
from curate.pool import Pool

SCHEDULE, COMPOSED = "schedule.parquet", "composed.parquet"


class Replay(Mixer):
    """The draws of a saved schedule, by the content of the rows."""

    composes: ClassVar[bool] = True

    schedule: Path = Field(
        description="a schedule (.parquet or .csv: uid, phase, and perhaps start, length, step, composed), or the "
        "folder of a run"
    )

    @field_validator("schedule")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()  # a worker may run in another folder

    def needs(self) -> frozenset[str]:
        """Lengths and masks: a piece must lie within its row and have a target."""
        return frozenset({"tokens", "supervised"})

    @property
    def file(self) -> Path:
        """The schedule. Raises ConfigError where there is none."""
        found = self.schedule / SCHEDULE if self.schedule.is_dir() else self.schedule
        if not found.is_file():
            raise ConfigError(
                f"replay: {found} does not exist. `schedule` must be a schedule, or a run's folder."
            )
        if found.suffix not in (".parquet", ".csv"):
            raise ConfigError(f"replay: `schedule` must be a .parquet or .csv file. Got {found.name}.")
        return found

    def identity(self) -> dict[str, Any]:
        """The content of the files in place of the path."""
        files = [self.file, self.file.parent / COMPOSED]
        content = [file_hash(file) for file in files if file.exists()]
        return {**super().identity(), "schedule": content}

    def mix(self, pool: Pool) -> Schedule:
        """Find the rows. Raises DataError for a file that does not hold a schedule of the selected rows."""
        table = read_table(self.file)
        rows = Rows(pool, self.file.name)
        of_rows = table["composed"].is_null().to_numpy()
        draws = np.empty(table.height, dtype=np.int64)
        draws[of_rows] = rows.of(table.filter(of_rows)["uid"])
        used, places = np.unique(table["composed"].drop_nulls().to_numpy(), return_inverse=True)
        draws[~of_rows] = pool.rows + places
        starts, lengths = pieces_of(table, draws, pool, self.file.name)
        return Schedule(
            draws,
            table["phase"].to_list(),
            starts=starts,
            lengths=lengths,
            steps=steps_of(table["step"], self.file.name),
            composed=composed_of(self.file.parent / COMPOSED, used, rows) if len(used) else (),
        )
