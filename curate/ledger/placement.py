"""Placement: when a row is trained on: its draws in an epoch, and the optimizer steps that they come to.

The steps are those that `training.packing.steps` cuts, found for the row's draws alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.ledger.stored import Stored, last, survivors
from curate.ledger.story import Piece, Placement
from curate.numerics.seeds import derive
from curate.stages.mix import COMPOSED, SCHEDULE, draws_of

TUNED = "artifact:adapter"


def placement(stages: Sequence[Stored], position: int) -> Placement | None:
    """Of a row that no stage has dropped; None where the run has come to neither a `mix` nor a `train`."""
    mixed, trained = last(stages, "artifact:schedule"), last(stages, TUNED)
    steps: NDArray[np.int64] | None = None
    if mixed is not None:
        place = _scheduled(mixed, position)
        table = pl.read_parquet(mixed.files / SCHEDULE, columns=["step"])["step"]
        steps = None if table.null_count() else table.to_numpy()
    elif trained is not None:
        order = _shuffled(stages, trained)
        row = np.searchsorted(survivors(stages), position)
        place = Placement(np.flatnonzero(order == row).tolist(), len(order))
    else:
        return None
    if trained is None:
        return place
    spec = trained.identity
    if spec.get("steps_per_epoch") is not None:
        from curate.training.packing import equal_steps

        steps = equal_steps(_supervised_tokens(stages, mixed, trained), spec["steps_per_epoch"])
    found, total = training_steps(place.draws, place.epoch_draws, spec, steps)
    return replace(
        place,
        epochs=spec["epochs"],
        steps=sorted(set(found)),
        training_steps=total,
        trainings=len(found),
    )


def training_steps(
    draws: Sequence[int], epoch_draws: int, spec: Mapping[str, Any], step_of: NDArray[np.int64] | None
) -> tuple[list[int], int]:
    """The optimizer step of each time that one of these draws is trained on, and how many steps there are.

    spec: epochs, batch_rows and max_steps of the training. step_of: int64 [epoch_draws], as `packing.steps` takes it.
    """
    if step_of is None:
        stream = max(1, round(spec["epochs"] * epoch_draws))
        total = math.ceil(stream / spec["batch_rows"])
        found = [place // spec["batch_rows"] for draw in draws for place in range(draw, stream, epoch_draws)]
    else:
        once = int(step_of[-1]) + 1
        total = max(1, round(spec["epochs"] * once))
        found = [step for draw in draws for step in range(int(step_of[draw]), total, once)]
    total = min(total, spec["max_steps"] or total)
    return sorted(step for step in found if step < total), total


def _scheduled(mixed: Stored, position: int) -> Placement:
    """The row in the schedule of an epoch."""
    own = draws_of(mixed.files).filter(pl.col("position") == position).collect()["draw"]
    table = pl.scan_parquet(mixed.files / SCHEDULE)
    drawn = table.filter(pl.col("draw").is_in(own.implode())).sort("draw").collect()
    pieces = drawn.drop_nulls("length").select("start", "length").iter_rows()
    return Placement(
        draws=own.sort().to_list(),
        epoch_draws=table.select(pl.len()).collect().item(),
        phases=drawn["phase"].drop_nulls().unique(maintain_order=True).to_list(),
        pieces=[Piece(start, length) for start, length in pieces],
        composed=drawn["composed"].drop_nulls().to_list(),
    )


def _shuffled(stages: Sequence[Stored], trained: Stored) -> NDArray[np.int64]:
    """The living rows, int64, in the order in which a training without a schedule draws each of them once."""
    seed = derive(trained.identity["seed"], "order")
    return np.random.default_rng(seed).permutation(len(survivors(stages)))


def _supervised_tokens(stages: Sequence[Stored], mixed: Stored | None, trained: Stored) -> NDArray[np.int64]:
    """Of each draw of an epoch, int64 [draws]: a whole row, a piece (its first token is none), or a composed one."""
    tokens = last(stages, "input_ids", "supervised_tokens")
    if tokens is None:
        return np.zeros(0, dtype=np.int64)
    if mixed is None:
        counts = tokens.scan("supervised_tokens").sort("position").collect()
        inside = np.searchsorted(counts["position"].to_numpy(), survivors(stages))
        return counts["supervised_tokens"].to_numpy()[inside][_shuffled(stages, trained)].astype(np.int64)
    table = pl.scan_parquet(mixed.files / SCHEDULE).select("draw", "position", "start", "length", "composed")
    whole = table.filter(pl.col("length").is_null() & pl.col("composed").is_null())
    piece = pl.col("supervised").list.slice(pl.col("start") + 1, pl.col("length") - 1).list.sum()
    parts = [
        whole.join(tokens.scan("supervised_tokens"), on="position").select(
            "draw", pl.col("supervised_tokens").cast(pl.Int64)
        ),
        table.filter(pl.col("length").is_not_null())
        .join(tokens.scan("supervised"), on="position")
        .select("draw", piece.cast(pl.Int64).alias("supervised_tokens")),
    ]
    if (mixed.files / COMPOSED).exists():
        made = pl.scan_parquet(mixed.files / COMPOSED).select(pl.col("supervised").list.sum().cast(pl.Int64))
        numbered = made.with_row_index("composed").with_columns(pl.col("composed").cast(pl.Int64))
        found = table.join(numbered, on="composed").select(
            "draw", pl.col("supervised").alias("supervised_tokens")
        )
        parts.append(found)
    return pl.concat(parts).sort("draw").collect()["supervised_tokens"].to_numpy()
