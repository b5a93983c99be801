"""Comparison: what the runs of a comparison say of its methods, with intervals, and in words.

Of each method, budget and model: the mean over the seeds of the held-out loss (that of the sources, each counting the
same) with its 95 % bootstrap interval; and the differences to random, to the length-matched subset and to the full
pool, paired by seed: mean, bootstrap interval, Student's interval, sign test. A difference is called shown only where
both intervals exclude zero: the bootstrap of three seeds alone would call too many.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.evaluate import bootstrap_interval
from curate.numerics.diversity import nearest_other
from curate.numerics.paired import sign_test, t_interval
from curate.runs import Run
from curate.scoring_cost import scoring_cost
from curate.store import write_json

Kind = Literal["method", "baseline", "matched"]
FILE, TABLE = "comparison.json", "comparison.md"
SOUND, REFERENCES = ("", "none"), ("random", "lengths", "full")
FOOT = "Intervals: over the seeds, on one set of held-out rows; each at 95 % by itself, however many methods there are."
HEAD = (
    "budget", "method", "loss", "95 % (bootstrap)", "against random", "against its lengths", "rows",
    "trained tokens", "noise", "nearest", "scoring tokens", "forwards", "backwards", "scoring s", "training s",
)  # fmt: skip
"""Columns of the table; differences with Student's 95 % interval."""
PRINTED = ("budget", "method", "loss", "against random", "against its lengths", "rows", "noise", "scoring s")
"""Those that fit a terminal."""


@dataclass(frozen=True)
class Cell:
    """One training: a method (or a baseline, or the length-matched subset of a method), model, budget and seed."""

    method: str
    kind: Kind
    model: str
    budget: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a cell's run came to.

    loss: held out, nats per supervised token, the mean over sources; before: of the base model. target: on the target's
    rows, null without one. noise: the share of the kept rows that are noise. nearest_distance: mean cosine distance of
    a kept row to the nearest other. scoring: of the stages that the selection reads (see scoring_cost.py).
    training_tokens: that went forward and backward.
    """

    cell: Cell
    run: str
    loss: float
    before: float
    sources: Mapping[str, float]
    target: float | None
    rows: int
    supervised_tokens: int
    steps: int
    noise: float | None
    nearest_distance: float | None
    scoring_tokens: int
    scoring_forwards: int
    scoring_backwards: int
    scoring_seconds: float
    training_tokens: int
    training_seconds: float


class Comparison:
    """Gathers outcomes; writes comparison.json and comparison.md into a folder after each.

    noise: the column that is null, empty or `none` for a sound row; None where no noise is known.
    """

    def __init__(self, folder: Path, noise: str | None) -> None:
        self._folder, self._noise = folder, noise
        self.outcomes: list[Outcome] = []

    def add(self, cell: Cell, run: Run) -> None:
        """Take in a finished run."""
        self.outcomes.append(outcome(cell, run, self._noise))
        told = report(self.outcomes)
        write_json(self._folder / FILE, told)
        (self._folder / TABLE).write_text(markdown(told))


def outcome(cell: Cell, run: Run, noise: str | None) -> Outcome:
    """The figures of a finished run with `train` and `evaluate`."""
    losses = run.evaluation["losses"]
    trained = next(stage["notes"] for stage in run.stages if stage["name"] == "train")
    selected = run.selected.select("position").collect()["position"]
    spoiled = None
    if noise is not None:
        marks = run.rows.filter(pl.col("position").is_in(selected.implode())).select(noise).collect()[noise]
        spoiled = int((~marks.fill_null("").is_in(SOUND)).sum()) / len(marks)
    cost = scoring_cost(run)
    tuned = losses["selected"]
    return Outcome(
        cell=cell,
        run=run.name,
        loss=tuned["source_mean"],
        before=losses["before"]["source_mean"],
        sources={name: each["loss"] for name, each in tuned["sources"].items()},
        target=tuned["target"]["loss"] if "target" in tuned else None,
        rows=len(selected),
        supervised_tokens=trained["supervised_tokens"],
        steps=trained["steps"],
        noise=spoiled,
        nearest_distance=_nearest_distance(run, selected),
        scoring_tokens=cost.tokens,
        scoring_forwards=cost.forwards,
        scoring_backwards=cost.backwards,
        scoring_seconds=cost.seconds,
        training_tokens=trained["tokens"],
        training_seconds=trained["seconds"],
    )


def _nearest_distance(run: Run, selected: pl.Series) -> float | None:
    """Mean cosine distance to the nearest other kept row; None where nothing was embedded or one row is kept."""
    stages = [stage for stage in run.stages if "embedding" in stage["adds"]]
    if not stages or len(selected) < 2:
        return None
    table = pl.scan_parquet(run.shards(stages[-1])).select("position", "embedding")
    kept = table.filter(pl.col("position").is_in(selected.implode())).drop_nulls().collect()
    if kept.height < 2:
        return None
    return float(1 - nearest_other(kept["embedding"].to_numpy()).mean())


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Outcomes, summaries by model, budget and method, and a verdict of each method in words, as JSON values."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.cell.model, each.cell.budget), []).append(each)
    models = dict.fromkeys(each.cell.model for each in outcomes)
    summaries = [
        _summary(model, budget, name, inside)
        for (model, budget), inside in groups.items()
        for name in dict.fromkeys(each.cell.method for each in inside)
    ]
    return {
        "unit": "nats per supervised token, held out, mean over sources",
        "summaries": summaries,
        "verdicts": [
            f"{each['model']}: {verdict(each)}" if len(models) > 1 else verdict(each)
            for each in summaries
            if each["kind"] == "method"
        ],
        "outcomes": [asdict(each) for each in outcomes],
    }


def _summary(model: str, budget: str, name: str, inside: Sequence[Outcome]) -> dict[str, Any]:
    mine = {each.cell.seed: each for each in inside if each.cell.method == name}
    others = {"random": "random", "lengths": f"{name}, lengths", "full": "full"}
    differences = {}
    for reference in REFERENCES:
        theirs = {each.cell.seed: each for each in inside if each.cell.method == others[reference]}
        seeds = sorted(mine.keys() & theirs.keys())
        if name != others[reference] and seeds:
            found = np.array([mine[seed].loss - theirs[seed].loss for seed in seeds])
            differences[reference] = difference(found)
    first = next(iter(mine.values()))
    losses = np.array([each.loss for each in mine.values()])
    return {
        "model": model,
        "budget": budget,
        "method": name,
        "kind": first.cell.kind,
        "seeds": sorted(mine),
        "loss": float(losses.mean()),
        "interval": _bootstrap(losses),
        "before": first.before,
        "sources": {source: _mean(each.sources[source] for each in mine.values()) for source in first.sources},
        **{
            field: _mean(getattr(each, field) for each in mine.values())
            for field in (
                "target", "rows", "supervised_tokens", "steps", "noise", "nearest_distance", "scoring_tokens",
                "scoring_forwards", "scoring_backwards", "scoring_seconds", "training_tokens", "training_seconds",
            )
        },
        "differences": differences,
    }  # fmt: skip


def difference(found: NDArray[np.float64]) -> dict[str, Any]:
    """Of paired differences, float64 [seeds]: mean, both 95 % intervals, sign test, and whether it is shown.

    One seed has no interval (None), and shows nothing.
    """
    bootstrap, student = _bootstrap(found), t_interval(found)
    intervals = [each for each in (bootstrap, student) if each is not None]
    shown = len(intervals) == 2 and all(low > 0 or high < 0 for low, high in intervals)
    return {
        "values": found.tolist(),
        "mean": float(found.mean()),
        "interval": bootstrap,
        "t_interval": None if student is None else list(student),
        "sign_test_p": sign_test(found),
        "shown": shown,
    }


def verdict(summary: Mapping[str, Any]) -> str:
    """What a method's differences say, in a sentence."""
    parts = []
    names = {"random": "random", "lengths": "random of its lengths", "full": "the full pool, cut"}
    for reference, found in summary["differences"].items():
        if not found["shown"]:
            parts.append(f"no difference shown from {names[reference]} ({found['mean']:+.3f})")
            continue
        low, high = found["t_interval"]
        better = "better than" if found["mean"] < 0 else "worse than"
        parts.append(f"{better} {names[reference]} ({found['mean']:+.3f}, {low:+.3f} to {high:+.3f})")
    said = "; ".join(parts) or "nothing to compare with"
    return f"{summary['method']} at {summary['budget']}, {len(summary['seeds'])} seeds: {said}."


def markdown(told: Mapping[str, Any]) -> str:
    """The report as a table, one for each model, and sentences."""
    lines: list[str] = []
    for title, summaries in tables(told):
        lines += [] if title is None else [f"{title}:", ""]
        lines += [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
        lines += [*(f"| {' | '.join(cells(each))} |" for each in summaries), ""]
    return "\n".join([*lines, *(f"- {each}" for each in told["verdicts"]), "", FOOT, ""])


def tables(told: Mapping[str, Any]) -> list[tuple[str | None, list[Mapping[str, Any]]]]:
    """The summaries of each table, with the model as its title; None where there is one model."""
    models = list(dict.fromkeys(each["model"] for each in told["summaries"]))
    return [
        (model if len(models) > 1 else None, [each for each in told["summaries"] if each["model"] == model])
        for model in models
    ]


def cells(summary: Mapping[str, Any]) -> list[str]:
    """A summary as a line of a table under HEAD."""
    interval = summary["interval"]
    return [
        summary["budget"],
        summary["method"],
        f"{summary['loss']:.4f}",
        "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}",
        *(_difference_text(summary["differences"].get(name)) for name in ("random", "lengths")),
        f"{summary['rows']:.0f}",
        f"{summary['supervised_tokens']:,.0f}",
        "-" if summary["noise"] is None else f"{summary['noise']:.1%}",
        "-" if summary["nearest_distance"] is None else f"{summary['nearest_distance']:.3f}",
        f"{summary['scoring_tokens']:,.0f}",
        f"{summary['scoring_forwards']:,.0f}",
        f"{summary['scoring_backwards']:,.0f}",
        f"{summary['scoring_seconds']:.0f}",
        f"{summary['training_seconds']:.0f}",
    ]


def _difference_text(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    student = found["t_interval"]
    around = "" if student is None else f" ({student[0]:+.3f} to {student[1]:+.3f})"
    return f"{found['mean']:+.3f}{around}"


def _bootstrap(values: NDArray[np.float64]) -> list[float] | None:
    """The 95 % interval of the mean, [low, high]; None for a single value, which has no spread."""
    return list(bootstrap_interval(values, 0)) if len(values) > 1 else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
