"""Hold out: set rows aside for evaluation, by group, before any other stage sees them."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.errors import DataError
from curate.numerics.seeds import uniform
from curate.reader import Reader
from curate.stage import DROP, Artifacts, Inputs, PoolResult, PoolStage

HELD_OUT = "held out"
SHARED = "shares its group (prompt or conversation) with a held-out row"


@dataclass(frozen=True)
class HoldOut(PoolStage):
    """Drops held-out rows from the pool, with the reason that the evaluation looks for.

    fraction: share of each source's rows. reserved: sources that are wholly held out (evaluation and
    target files). target: the one of them with the target examples, which no evaluation can do with alone.

    A group is never split: a pool row that shares its group with a held-out row of any source leaves the
    pool too, and so does one that starts as a held-out row does, whatever groups they are in. Groups are
    drawn by a hash of (seed, group), so that adding rows to a pool moves no other group. They are taken in
    this order, each whole, but for those that would bring a source above its share: these are passed over.
    Only where no group of a source fits is its smallest one held out, and a warning says so; if that is more
    than half of the source, the run stops.
    """

    fraction: float
    reserved: tuple[str, ...]
    target: str | None
    seed: int

    @property
    def needs(self) -> frozenset[str]:
        """Group, start and source."""
        return frozenset({"group", "start", "source"})

    @property
    def adds(self) -> frozenset[str]:
        """The reason, and whether the row is for evaluation."""
        return frozenset({DROP, "held_out"})

    @property
    def names_rows(self) -> tuple[str, ...]:
        """The pool that is left."""
        return ("pool",)

    def identity(self) -> dict[str, Any]:
        """Share, reserved sources, seed. Where nothing is drawn, how it would be does not count."""
        drawn = {"fraction": self.fraction, "seed": self.seed, "drawn": "groups that fit"}
        return {"version": 2, "reserved": list(self.reserved), **(drawn if self.fraction else {})}

    def predicted_rows(self, rows: int) -> int:
        """Less the share."""
        return rows - round(rows * self.fraction)

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Set rows aside.

        Raises DataError where an evaluation would have no row, where more than half of a source would be held
        out, its groups being that large, and where no row is left in the pool.
        """
        frame = pool.frame(self.needs)
        reserved = frame["source"].is_in(list(self.reserved))
        groups = self._draw(frame.filter(~reserved)) if self.fraction else []
        held = reserved | frame["group"].is_in(groups)
        evaluated = [source for source in self.reserved if source != self.target]
        if (self.fraction or evaluated) and not (held & (frame["source"] != (self.target or ""))).any():
            raise DataError(
                f"no row is held out to evaluate on: a share of {self.fraction:g} is less than a row of each "
                "source. Raise `evaluate.held_out`, or give files to evaluate on: `evaluate.sources`."
            )
        shares = pl.Series(np.zeros(frame.height, dtype=bool))
        for key in ("group", "start"):  # a group that one file names says nothing of a file that does not
            shares |= frame[key].is_in(frame.filter(held)[key].unique().implode())
        if (held | shares).all():
            raise DataError(
                f"all {frame.height:,} rows are held out or share a group with a held-out row; none is left to select"
            )
        reason = pl.when("held_out").then(pl.lit(HELD_OUT)).when("shares").then(pl.lit(SHARED))
        found = pl.DataFrame({"held_out": held, "shares": shares}).with_columns(reason.alias(DROP))
        notes = {"held_out": int(held.sum()), "kept_away": int((shares & ~held).sum())}
        return PoolResult(found.select(DROP, "held_out"), notes)

    def _draw(self, rows: pl.DataFrame) -> list[str]:
        """The groups of the pool's rows to hold out."""
        sizes = dict(rows.group_by("source", maintain_order=True).len().iter_rows())
        wanted = {source: round(self.fraction * size) for source, size in sizes.items()}
        left = dict(wanted)
        table = rows.group_by("group", "source", maintain_order=True).len("rows")
        table = table.group_by("group", maintain_order=True).agg("source", "rows")
        draw = pl.Series("draw", uniform(self.seed, table["group"].to_list()))
        table = table.with_columns(draw).sort("draw", maintain_order=True)
        chosen: list[str] = []
        for group, sources, counts, _ in table.iter_rows():
            if not any(left.values()):
                break
            if all(count <= left[source] for source, count in zip(sources, counts, strict=True)):
                chosen.append(group)
                for source, count in zip(sources, counts, strict=True):
                    left[source] -= count
        for source, size in sizes.items():
            if not wanted[source] or left[source] < wanted[source]:
                continue
            own = table.filter(pl.col("source").list.contains(source))
            group, sources, counts, _ = own.sort(pl.col("rows").list.sum(), maintain_order=True).row(0)
            count = counts[sources.index(source)]
            what = f"source `{source}`: {wanted[source]:,} of its {size:,} rows are to be held out, but"
            if 2 * count > size:
                raise DataError(
                    f"{what} its smallest group (rows of one prompt, conversation or `group`) has {count:,}. "
                    "Groups are never split; give files to evaluate on: `evaluate: {held_out: 0, sources: […]}`."
                )
            logging.getLogger(__name__).warning(
                "hold out: %s its smallest group has %d: held out", what, count
            )
            chosen.append(group)
            for other, count in zip(sources, counts, strict=True):
                left[other] -= count
        return chosen


def held_out_rows(inputs: Inputs, columns: Iterable[str]) -> pl.DataFrame:
    """The rows to evaluate on, evaluation and target files included: `position` and these columns, in pool order."""
    everything = inputs.rows["all"]
    held = np.flatnonzero(everything.frame(["held_out"])["held_out"].to_numpy())
    return everything.take(columns, held)
