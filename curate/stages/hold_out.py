"""Hold out: set rows aside for evaluation, by group, before any other stage sees them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.errors import DataError
from curate.numerics.seeds import uniform
from curate.reader import Reader
from curate.stage import DROP, PoolResult, PoolStage

HELD_OUT = "held out"
SHARED = "shares its group (prompt or conversation) with a held-out row"


@dataclass(frozen=True)
class HoldOut(PoolStage):
    """Drops held-out rows from the pool, with the reason that the evaluation looks for.

    fraction: share of each source's rows. reserved: sources that are wholly held out (evaluation and
    target files). A group is never split: a pool row that shares its group with a held-out row of any
    source leaves the pool too. Groups are drawn by a hash of (seed, group), so that adding rows to
    a pool moves no other group.
    """

    fraction: float
    reserved: tuple[str, ...]
    seed: int

    @property
    def needs(self) -> frozenset[str]:
        """Group and source."""
        return frozenset({"group", "source"})

    @property
    def adds(self) -> frozenset[str]:
        """The reason, and whether the row is for evaluation."""
        return frozenset({DROP, "held_out"})

    @property
    def names_rows(self) -> tuple[str, ...]:
        """The pool that is left."""
        return ("pool",)

    def identity(self) -> dict[str, Any]:
        """Share, reserved sources, seed."""
        drawn = {"fraction": self.fraction, "seed": self.seed} if self.fraction else {}
        return {"version": 1, "reserved": list(self.reserved), **drawn}

    def predicted_rows(self, rows: int) -> int:
        """Less the share."""
        return rows - round(rows * self.fraction)

    def apply(self, pool: Reader) -> PoolResult:
        """Draw groups until each source has given its share. Raises DataError if the pool is empty after."""
        frame = pool.frame(self.needs)
        reserved = frame["source"].is_in(list(self.reserved))
        groups = frame.select("group").unique(maintain_order=True)
        draw = groups.with_columns(pl.Series("draw", uniform(self.seed, groups["group"].to_list())))
        rows = frame.join(draw, on="group", how="left", maintain_order="left").with_row_index("row")
        held = np.zeros(frame.height, dtype=bool)
        if self.fraction > 0:
            for _, source in rows.filter(~reserved).group_by("source", maintain_order=True):
                wanted = round(self.fraction * source.height)
                ordered = source.sort("draw", "row")
                held[ordered["row"].to_numpy()[:wanted]] = True
        held |= reserved.to_numpy()
        held_groups = frame.filter(pl.Series(held))["group"].unique()
        shares = frame["group"].is_in(held_groups.implode()).to_numpy()
        if (
            self.fraction > 0
        ):  # whole groups of the drawn rows are held out; of reserved files', only kept away
            drawn = frame.filter(pl.Series(held) & ~reserved)["group"].unique()
            held |= (frame["group"].is_in(drawn.implode()) & ~reserved).to_numpy()
        reason = np.where(held, HELD_OUT, np.where(shares, SHARED, ""))
        if not (reason == "").any():
            raise DataError(
                f"all {frame.height:,} rows are held out or share a group with a held-out row; none is left to select"
            )
        series = pl.Series(DROP, reason.tolist(), dtype=pl.String).replace("", None)
        notes = {"held_out": int(held.sum()), "kept_away": int((shares & ~held).sum())}
        return PoolResult(pl.DataFrame([series, pl.Series("held_out", held)]), notes)
