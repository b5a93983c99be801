"""Tables: what the report shows in figures, line by line."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.report.account import losses

if TYPE_CHECKING:
    from curate.runs import Run

HEALTH = ("score", "rows", "nulls", "5 %", "50 %", "95 %", "skew", "Spearman with length", "agreement")
COST = ("stage", "rows", "seconds", "tokens", "peak memory, GiB", "")


@dataclass(frozen=True)
class Table:
    """Lines of text under a head; the first cell names its line. title: what the lines are of, where that varies."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True)
class Compared:
    """comparison.json: its verdicts, and a table for each model."""

    verdicts: Sequence[str]
    tables: Sequence[Table]


def health(told: Mapping[str, Any]) -> Table:
    """A line per score of health.json."""
    rows = [
        (
            name.removeprefix("score."),
            f"{score['rows']:,}",
            f"{score['nulls']:,}",
            *(figure(score["quantiles"][per_cent]) for per_cent in ("5", "50", "95")),
            *(figure(score[each]) for each in ("skew", "length_spearman", "agreement")),
        )
        for name, score in told["scores"].items()
    ]
    return Table(HEALTH, rows)


def loss_table(run: "Run") -> Table:
    """A line per model. Raises CurateError where the run has no evaluation."""
    found = losses(run)
    sources = list(found[0].sources)
    target = ["target"] if any(each.target is not None for each in found) else []
    rows = [
        (
            each.model,
            f"{each.mean:.4f}",
            *(f"{each.sources[source]:.4f}" for source in sources),
            *(figure(each.target) for _ in target),
        )
        for each in found
    ]
    return Table(("model", "mean over sources", *sources, *target), rows)


def comparison(run: "Run") -> Compared | None:
    """None where the run is no comparison."""
    from curate.comparison import FILE, HEAD, cells, tables

    path = run.path / FILE
    if not path.exists():
        return None
    told = json.loads(path.read_bytes())
    order = [HEAD.index("method"), *(place for place, name in enumerate(HEAD) if name != "method")]

    def arranged(row: Sequence[str]) -> list[str]:
        return [row[place] for place in order]

    return Compared(
        told["verdicts"],
        [
            Table(arranged(HEAD), [arranged(cells(each)) for each in rows], title or "Methods")
            for title, rows in tables(told)
        ],
    )


def cost(run: "Run") -> Table:
    """A line per stage."""
    rows = [
        (
            stage["name"],
            f"{stage['rows']:,}",
            f"{stage['seconds']:.1f}",
            f"{stage['tokens']:,}" if stage["tokens"] else "-",
            f"{stage['peak_memory_bytes'] / 2**30:.2f}" if stage["peak_memory_bytes"] else "-",
            "stored by an earlier run" if stage["cached"] else "",
        )
        for stage in run.stages
    ]
    return Table(COST, rows)


def figure(value: float | None) -> str:
    """A number as the tables show it."""
    return "-" if value is None else f"{value:.4g}"
