"""Mix: turn the selected rows into a schedule, an artifact that can be read, edited, kept and replayed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from curate.errors import CurateError, DataError
from curate.mixer import Mixer, Schedule
from curate.pool import Pool
from curate.stage import DROP, ArtifactStage, Inputs, Tell
from curate.stages.tokenize import Tokenize

SCHEDULE = "schedule.parquet"
COMPOSED = "composed.parquet"


@dataclass(frozen=True)
class Mix(ArtifactStage):
    """Writes `schedule.parquet` and, for a mixer that composes, `composed.parquet`.

    schedule: draw, position and uid of the row (null for a composed example), phase; start and length of the piece
    in tokens (null for the whole); step (null where the trainer cuts); composed, the place in the other file.
    composed: messages (JSON), members (positions) and member_uids, input_ids, supervised.
    tokenize: how composed examples become tokens; None where the mixer composes none.
    """

    unit = "draws"

    method: Mixer
    seed: int
    higher_is_better: tuple[tuple[str, bool | None], ...]
    tokenize: Tokenize | None = None

    @property
    def needs(self) -> frozenset[str]:
        """What the mixer reads, and what names a row."""
        return self.method.needs() | {"uid", "source"}

    @property
    def adds(self) -> frozenset[str]:
        """The schedule."""
        return frozenset({"artifact:schedule"})

    def identity(self) -> dict[str, Any]:
        """The mixer, its seed, the directions of the scores that it reads, and the tokenizer if it composes."""
        read = {name: better for name, better in self.higher_is_better if name in self.method.needs()}
        tokens = {} if self.tokenize is None else {"tokenize": self.tokenize.identity()}
        return {
            **self.method.identity(), "seed": self.seed, "higher_is_better": read, "schedule": 3, **tokens,
        }  # fmt: skip

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Mix and write the schedule of one epoch."""
        frame = inputs.pool.frame(need for need in self.needs if not need.startswith("artifact:"))
        given = {name: at for name, at in inputs.artifacts.items() if f"artifact:{name}" in self.needs}
        schedule = self.method.mix(Pool(frame, dict(self.higher_is_better), self.seed, given))
        table = schedule_table(schedule, frame)
        notes: dict[str, Any] = {"draws": table.height, "distinct_rows": len(np.unique(schedule.draws))}
        if schedule.composed:
            composed = self._composed(schedule, frame)
            composed.write_parquet(out / COMPOSED)
            notes["composed"] = composed.height
        table.write_parquet(out / SCHEDULE)
        return {**notes, **schedule.notes}

    def rehearsal(self) -> ArtifactStage | None:
        """Itself; none where it reads what only the run makes."""
        return None if any(need.startswith("artifact:") for need in self.needs) else self

    def _composed(self, schedule: Schedule, frame: pl.DataFrame) -> pl.DataFrame:
        """The composed examples as tokens. Raises DataError for one that cannot be tokenised."""
        if self.tokenize is None:
            raise CurateError(f"mixer `{self.method.name}` composes examples and does not say so")
        positions = frame["position"].to_numpy()
        table = pl.DataFrame(
            {
                "messages": [orjson.dumps(list(each.messages)).decode() for each in schedule.composed],
                "members": [positions[each.members] for each in schedule.composed],
                "member_uids": [frame["uid"].gather(each.members) for each in schedule.composed],
            },
            schema={"messages": pl.String, "members": pl.List(pl.Int64), "member_uids": pl.List(pl.String)},
        )
        nothing = pl.lit(None, dtype=pl.String)
        rows = table.with_columns(tools=nothing, rejected=nothing)
        encoded = self.tokenize.apply(rows, self.tokenize.setup({}), frozenset())
        refused = encoded.filter(pl.col(DROP).is_not_null())
        if refused.height:
            raise DataError(
                f"mixer `{self.method.name}`: {refused.height} of {table.height} composed examples cannot be "
                f"tokenised, the first: {refused[DROP][0]}"
            )
        return table.with_columns(encoded["input_ids"], encoded["supervised"])


def schedule_table(schedule: Schedule, frame: pl.DataFrame) -> pl.DataFrame:
    """The schedule as it is stored. Raises CurateError where the mixer's answer does not fit together."""
    draws = np.asarray(schedule.draws, dtype=np.int64)
    rows = frame.height
    columns = (schedule.phases, schedule.starts, schedule.lengths, schedule.steps)
    if any(each is not None and len(each) != len(draws) for each in columns):
        raise CurateError("a schedule must have one phase, start, length and step for each draw")
    if (schedule.starts is None) != (schedule.lengths is None):
        raise CurateError("a schedule must have starts and lengths, or neither: a piece needs both")
    if len(draws) and not 0 <= draws.min() <= draws.max() < rows + len(schedule.composed):
        raise CurateError(f"a schedule must draw rows 0 to {rows - 1} or composed examples after them")
    if schedule.steps is not None and not _counts_up(schedule.steps):
        raise CurateError("a schedule's steps must ascend from 0 and leave none out")
    of_rows = pl.Series(draws < rows)
    inside = np.minimum(draws, rows - 1)
    return pl.DataFrame(
        {
            "draw": np.arange(len(draws)),
            "position": frame["position"].gather(inside),
            "uid": frame["uid"].gather(inside),
            "phase": pl.Series(schedule.phases, dtype=pl.String),
            "start": schedule.starts,
            "length": schedule.lengths,
            "step": schedule.steps,
            "composed": draws - rows,
        },
        schema_overrides=dict.fromkeys(("start", "length", "step", "composed"), pl.Int64),
    ).with_columns(
        pl.when(of_rows).then("position").alias("position"),
        pl.when(of_rows).then("uid").alias("uid"),
        pl.when(~of_rows).then("composed").alias("composed"),
    )


def _counts_up(steps: NDArray[np.int64]) -> bool:
    return len(steps) == 0 or (int(steps[0]) == 0 and bool(np.isin(np.diff(steps), (0, 1)).all()))


def draws_of(folder: Path) -> pl.LazyFrame:
    """draw and position of every row that a stored schedule trains on, those inside composed examples too."""
    schedule = pl.scan_parquet(folder / SCHEDULE)
    rows = schedule.filter(pl.col("composed").is_null()).select("draw", "position")
    if not (folder / COMPOSED).exists():
        return rows
    members = pl.scan_parquet(folder / COMPOSED).select(pl.col("members").alias("position"))
    inside = schedule.filter(pl.col("composed").is_not_null()).select("draw", "composed")
    numbered = members.with_row_index("composed").with_columns(pl.col("composed").cast(pl.Int64))
    exploded = inside.join(numbered, on="composed").select("draw", "position").explode("position")
    return pl.concat([rows, exploded]).sort("draw")
