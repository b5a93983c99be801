"""Schedule view: what a run trains on when, counted: the phases, and stretches of the training with their shares.

Time is counted in optimizer steps: a draw takes its part of the step that it is in, which is the same for all where
the trainer cuts steps by rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.stages.mix import COMPOSED

if TYPE_CHECKING:
    from curate.runs import Run


@dataclass(frozen=True)
class Phase:
    """draws, tokens: of an epoch; tokens are None where the run has no model. shortest, longest: a draw's tokens.

    first_draw, last_draw, first_step, last_step: from 0, where it begins and ends; steps are None without a `train`.
    """

    name: str
    draws: int
    tokens: int | None
    first_draw: int
    last_draw: int
    first_step: int | None
    last_step: int | None
    shortest: int | None
    longest: int | None


@dataclass(frozen=True)
class Stretch:
    """A part of the training. phases, sources: name -> share of its time, those of none left out; each sums to 1."""

    first_draw: int
    draws: int
    tokens: int | None
    phases: Mapping[str, float]
    sources: Mapping[str, float]


@dataclass(frozen=True)
class ScheduleView:
    """draws, tokens, steps: of an epoch. epochs: that the run trains for. phases: in the order in which they begin.

    stretches: of equal time, in order.
    """

    draws: int
    tokens: int | None
    steps: int | None
    epochs: float | None
    phases: Sequence[Phase]
    stretches: Sequence[Stretch]

    @property
    def sources(self) -> list[str]:
        """The sources that are drawn, by name."""
        return sorted({name for stretch in self.stretches for name in stretch.sources})

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def view_schedule(run: "Run", stretches: int) -> ScheduleView:
    """The schedule of a run, in so many stretches, or fewer where there are fewer draws.

    Raises CurateError where the run has no schedule, or the store has lost its rows.
    """
    draws = _draws(run)
    train = next((each["train"] for each in run.info["config"]["stages"] if "train" in each), None)
    if train is not None:
        draws = draws.with_columns(pl.col("step").fill_null(pl.col("draw") // train["batch_rows"]))
    count = min(stretches, draws.height)
    draws = draws.with_columns((_middle() * count).floor().clip(0, count - 1).cast(pl.Int64).alias("stretch"))
    tokens = pl.col("tokens").sum() if draws["tokens"].null_count() == 0 else pl.lit(None, dtype=pl.Int64)
    phases = draws.group_by("phase", maintain_order=True).agg(
        pl.len().alias("draws"),
        tokens.alias("tokens"),
        pl.col("draw").min().alias("first_draw"),
        pl.col("draw").max().alias("last_draw"),
        pl.col("step").min().alias("first_step"),
        pl.col("step").max().alias("last_step"),
        pl.col("tokens").min().alias("shortest"),
        pl.col("tokens").max().alias("longest"),
    )
    parts = draws.group_by("stretch").agg(
        pl.col("draw").min().alias("first_draw"), pl.len().alias("draws"), tokens.alias("tokens")
    )
    by_phase, by_source = _shares(draws, "phase"), _shares(_by_source(run, draws), "source")
    whole = draws.select(tokens.alias("tokens"), (pl.col("step").max() + 1).alias("steps"))
    return ScheduleView(
        draws=draws.height,
        **whole.row(0, named=True),
        epochs=None if train is None else train["epochs"],
        phases=[Phase(name=row.pop("phase"), **row) for row in phases.iter_rows(named=True)],
        stretches=[
            Stretch(phases=by_phase[at], sources=by_source[at], **row)
            for row in parts.sort("stretch").iter_rows(named=True)
            for at in (row.pop("stretch"),)
        ],
    )


def _middle() -> pl.Expr:
    """Where the middle of a draw lies in the training, from 0 to 1."""
    return (pl.col("time").cum_sum() - pl.col("time") / 2) / pl.col("time").sum()


def _draws(run: "Run") -> pl.DataFrame:
    """draw, position, phase, step, composed, tokens (null without a model) and time of each draw."""
    table = run.schedule
    counted = [stage for stage in run.stages if "tokens" in stage["adds"]]
    tokens = [pl.col("length")]
    if counted:
        rows = pl.scan_parquet(run.shards(counted[-1])).select("position", pl.col("tokens").cast(pl.Int64))
        table = table.join(rows, on="position", how="left", maintain_order="left")
        tokens.append(pl.col("tokens"))
    if (run.path / COMPOSED).exists():
        table = table.join(_composed(run), on="composed", how="left", maintain_order="left")
        tokens.insert(0, pl.col("composed_tokens"))
    of_step = pl.when(pl.col("step").is_null()).then(1).otherwise(pl.len().over("step"))
    return table.with_columns(tokens=pl.coalesce(tokens), time=1 / of_step).collect()


def _composed(run: "Run") -> pl.LazyFrame:
    """composed, composed_tokens, members."""
    made = pl.scan_parquet(run.path / COMPOSED).with_row_index("composed")
    length = pl.col("input_ids").list.len().cast(pl.Int64).alias("composed_tokens")
    return made.select(pl.col("composed").cast(pl.Int64), length, "members")


def _by_source(run: "Run", draws: pl.DataFrame) -> pl.DataFrame:
    """stretch, time and source of each draw; of a composed one, of each row inside, its time in equal parts."""
    whole = draws.filter(pl.col("position").is_not_null()).select("stretch", "time", "position")
    parts = [whole]
    if "members" in draws.columns:
        inside = draws.filter(pl.col("members").is_not_null())
        each = pl.col("time") / pl.col("members").list.len()
        parts.append(inside.select("stretch", each, pl.col("members").alias("position")).explode("position"))
    sources = run.rows.select("position", "source")
    return pl.concat(parts).lazy().join(sources, on="position", how="left").collect()


def _shares(draws: pl.DataFrame, column: str) -> dict[int, dict[str, float]]:
    """stretch -> name -> share of its time, by name."""
    sums = draws.group_by("stretch", column).agg(pl.col("time").sum())
    shared = sums.with_columns(pl.col("time") / pl.col("time").sum().over("stretch")).sort("stretch", column)
    found: dict[int, dict[str, float]] = {}
    for stretch, name, share in shared.select("stretch", column, "time").iter_rows():
        found.setdefault(stretch, {})[name] = share
    return found
