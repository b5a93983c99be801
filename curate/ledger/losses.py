"""Losses: of one row before and after tuning: stored for a held-out row, computed on request for any other."""

from collections.abc import Sequence

import polars as pl

from curate.errors import CurateError
from curate.ledger.placement import TUNED
from curate.ledger.stored import Stored, last
from curate.ledger.story import Losses, Score
from curate.settings import ModelSpec
from curate.stages.evaluate import LOSSES

PREFIX = "artifact:losses."
NOW = "computed now, as the evaluation does"


def known_losses(stages: Sequence[Stored], position: int, loss: Score | None) -> Losses:
    """What the run holds: of a held-out row, its loss by every model; of another, its score `loss` as `before`."""
    found: dict[str, float] = {}
    for stage in stages:
        for name in stage.record["adds"]:
            if name.startswith(PREFIX):
                table = pl.scan_parquet(stage.files / LOSSES).filter(pl.col("position") == position)
                values = table.select("loss").collect()["loss"].to_list()
                found |= {name.removeprefix(PREFIX): value for value in values}
    if found:
        return Losses(found, "by the evaluation, of a held-out row")
    if last(stages, TUNED) is None:
        after = "after tuning: this run has no tuned model"
    else:
        after = "after tuning: not computed; ask for it by --losses or why(id, losses=True)"
    if loss is None or loss.value is None:
        return Losses({}, after)
    return Losses({"before": loss.value}, f"before: the score `loss`; {after}")


def computed_losses(stages: Sequence[Stored], position: int) -> Losses:
    """One forward pass of the base model and one of the tuned one, by the evaluation's own code.

    Raises CurateError where the run has no tuned model, its base model has changed since, or the row no tokens.
    """
    run = stages[0].run
    tuned, tokens = last(stages, TUNED), last(stages, "input_ids", "supervised")
    if tuned is None or tokens is None:
        raise run.lacks("has no tuned model", "Its configuration has no `train`. Ask without the losses.")
    row = tokens.rows([position], "input_ids", "supervised").drop_nulls()
    if not row.height:
        raise CurateError(f"{run.path}: the row has no tokens, so no loss. Ask without the losses.")
    from curate.evaluate import held_out_losses, load_tuned
    from curate.stages.models import ModelHandle
    from curate.stages.rows import token_rows

    spec = ModelSpec.model_validate(run.info["config"]["model"])
    handle = ModelHandle(spec)
    if handle.identity() != tuned.identity["model"]:
        raise CurateError(
            f"model {spec.path}: is not the one that this run has tuned; its files or settings have changed since. "
            "Ask without the losses, or run the configuration again."
        )
    loaded = handle.load()
    source = [""]
    found = {}
    for name, artifact in (("before", None), ("selected", tuned.files)):
        losses = held_out_losses(load_tuned(loaded, artifact), token_rows(row), source)
        found[name] = float(losses.row_losses[0])
    return Losses(found, NOW)
