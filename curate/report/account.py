"""Account: what a run kept of what, where the others went, and what its losses say, in words and figures."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.comparison import difference
from curate.errors import CurateError
from curate.plotted import passed

if TYPE_CHECKING:
    from curate.runs import Run

REASONS = 5
"""Kinds of reason that are told of a stage."""

GONE = {"quarantined": "not usable", "held out": "held out", "dropped": "dropped"}
"""What became of records that are not kept: as `passed` has it, and as it is told."""

NAMES = {
    "before": "before tuning",
    "selected": "tuned on the selection",
    "random": "tuned on random rows",
    "length_matched_random": "tuned on random rows of the selection's lengths",
}
"""What a model of eval.json is."""


@dataclass(frozen=True)
class Step:
    """A stage that took rows out: how many it got and left, and the commonest reasons, (reason, rows)."""

    stage: str
    rows: int
    left: int
    reasons: list[tuple[str, int]]


@dataclass(frozen=True)
class Loss:
    """A model's held-out loss, nats per supervised token: the mean over sources, each source's, the target's."""

    model: str
    mean: float
    sources: Mapping[str, float]
    target: float | None


def facts(run: "Run") -> list[tuple[str, str]]:
    """(what, how much) of the run as a whole, as far as it has come.

    What is gone and what is kept add up to what was read. Raises CurateError where the run has no finished stage.
    """
    steps = passed(run)
    read = steps[0].left + sum(steps[0].lost.values())
    gone = Counter[str]()
    for step in steps:
        for (kind, _), rows in step.lost.items():
            gone[kind] += rows
    found = [("records read", f"{read:,}")]
    found += [(name, f"{gone[kind]:,}") for kind, name in GONE.items() if gone[kind]]
    if (run.path / "selection.parquet").exists():
        kept = pl.scan_parquet(run.path / "selection.parquet")
        rows = kept.select(pl.len()).collect().item()
        found.append(("rows kept", f"{rows:,} ({rows / max(1, read):.1%})"))
        if "supervised_tokens" in kept.collect_schema():
            tokens = kept.select(pl.col("supervised_tokens").cast(pl.Int64).sum()).collect().item()
            found.append(("supervised tokens kept", f"{tokens:,}"))
    return found


def funnel(run: "Run") -> list[Step]:
    """The stages that took rows out, in order. Raises CurateError where the run has no finished stage."""
    steps = []
    for each in passed(run):
        if not each.lost:
            continue
        ordered = sorted(each.lost.items(), key=lambda found: (-found[1], found[0]))
        reasons = [
            (reason if kind in ("dropped", reason) else f"{kind}: {reason}", rows)
            for (kind, reason), rows in ordered
        ]
        told, rest = reasons[:REASONS], reasons[REASONS:]
        if rest:
            told.append((f"other reasons, of {len(rest):,} kinds", sum(rows for _, rows in rest)))
        steps.append(Step(each.stage, each.left + sum(each.lost.values()), each.left, told))
    return steps


def losses(run: "Run") -> list[Loss]:
    """The held-out losses of each model. Raises CurateError where the run has no evaluation."""
    return [
        Loss(
            NAMES.get(name, name),
            each["source_mean"],
            {source: found["loss"] for source, found in each["sources"].items()},
            each["target"]["loss"] if "target" in each else None,
        )
        for name, each in run.evaluation["losses"].items()
    ]


def verdicts(run: "Run") -> list[str]:
    """What the losses say of the selection, in sentences. Raises CurateError where the run has no evaluation."""
    found = run.evaluation["losses"]
    before, tuned = found["before"]["source_mean"], found["selected"]["source_mean"]
    said = [
        f"Held-out loss is {before:.3f} nats per token before tuning and {tuned:.3f} after tuning on the "
        f"selection ({_signed(tuned - before)})."
    ]
    for name, each in found.items():
        if name in ("before", "selected"):
            continue
        other = NAMES.get(name, name).removeprefix("tuned on ")
        change = tuned - each["source_mean"]
        told = _paired(run, name)
        if told is None or told["t_interval"] is None:
            said.append(
                f"No difference shown from {other} ({_signed(change)}): the run keeps no losses of two or more single "
                "rows, so the difference has no interval."
            )
            continue
        low, high = told["t_interval"]
        around = (
            f"({_signed(change)}, 95 % interval over the held-out rows {_signed(low)} to {_signed(high)})"
        )
        if not told["shown"]:
            said.append(f"No difference shown from {other} {around}.")
        else:
            said.append(
                f"{'Better' if change < 0 else 'Worse'} than {other} on these held-out rows {around}. That is one "
                "training of each; `curate compare` tells what other seeds say."
            )
    return said


def _paired(run: "Run", baseline: str) -> Mapping[str, Any] | None:
    """What `comparison.difference` says of selection less baseline, over rows; None where no row losses are stored.

    Each row counts by its tokens within its source, and each source the same: the mean is that of the sources' losses.
    """
    tables = [_row_losses(run, name) for name in ("selected", baseline)]
    if tables[0] is None or tables[1] is None:
        return None
    sources = list(run.evaluation["losses"]["selected"]["sources"])
    both = tables[0].join(tables[1].select("position", other="loss"), on="position")
    weighed = both.filter(pl.col("source").is_in(sources)).select(
        (pl.col("loss") - pl.col("other"))
        * pl.col("tokens") / pl.col("tokens").sum().over("source")
        * pl.len() / len(sources)
    )  # fmt: skip
    return difference(weighed.to_series().to_numpy())


def _row_losses(run: "Run", model: str) -> pl.DataFrame | None:
    for stage in run.stages:
        if f"artifact:losses.{model}" in stage["adds"]:
            path = run.store / stage["folder"] / "files" / "losses.parquet"
            if not path.exists():
                raise CurateError(f"{path.parent}: is gone from the store. Run the configuration again.")
            return pl.read_parquet(path)
    return None


def _signed(difference: float) -> str:
    return f"{difference:+.3f}".replace("-", "−")


def machine(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of the versions and the machine that a run was made with."""
    commit = [("commit", info["commit"])] if info.get("commit") else []
    return [*info["versions"].items(), *commit, *info["machine"].items(), ("runner", info.get("runner", "-"))]
