"""Pool: what becomes of it, by stage and reason, and the mixture of its sources from read to trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import polars as pl

from curate.charts.style import (
    BLUE,
    GREY,
    PURPLE,
    RED,
    WIDTH,
    YELLOW,
    largest,
    legible,
    others,
    others_name,
    values,
)

SOURCES = 12
REASONS = 3
"""Reasons that are shown of each stage."""
REASON_CHARACTERS = 90
REASON_PIXELS = 330
KINDS = {"left": BLUE, "dropped": GREY, "held out": YELLOW, "quarantined": RED, "not drawn": PURPLE}
MASKED = r"[^\s,;:()]*\d[^\s,;:()]*"
"""A word with a digit in it."""


@dataclass(frozen=True)
class Passed:
    """What a stage left of the rows. lost: (kind, masked reason) -> rows it took out; kinds are those of KINDS."""

    stage: str
    left: int
    lost: Mapping[tuple[str, str], int] = field(default_factory=dict)


def masked(reason: pl.Expr) -> pl.Expr:
    """Reasons with every word that has a digit in it as `#`, so that equal causes have equal texts; cut where long."""
    text = reason.str.replace_all(MASKED, "#")
    cut = pl.concat_str(text.str.head(REASON_CHARACTERS - 1), pl.lit("…"))
    return pl.when(text.str.len_chars() > REASON_CHARACTERS).then(cut).otherwise(text)


def funnel(passed: Sequence[Passed]) -> Any:
    """The rows that each stage left and took out, and below, for each stage, the most frequent reasons."""
    names = _distinct([each.stage for each in passed])
    bars, reasons = [], []
    for name, each in zip(names, passed, strict=True):
        kinds: dict[str, int] = {}
        for (kind, _), rows in each.lost.items():
            kinds[kind] = kinds.get(kind, 0) + rows
        start = 0
        total = each.left + sum(kinds.values())
        for kind, rows in [("left", each.left), *sorted(kinds.items())]:
            bars.append(
                {
                    "stage": name, "kind": kind, "rows": rows, "from": start, "to": start + rows,
                    "share": rows / total if total else None,
                }
            )  # fmt: skip
            start += rows
        reasons += _reasons(name, each)
    labels = [
        {
            "stage": name,
            "to": each.left + sum(each.lost.values()),
            "text": f"{each.left:,}" + (f" ({-sum(each.lost.values()):,})" if each.lost else ""),
        }
        for name, each in zip(names, passed, strict=True)
    ]
    used = [kind for kind in KINDS if any(bar["kind"] == kind for bar in bars)]
    colours = alt.Scale(domain=used, range=[KINDS[kind] for kind in used])
    colour = alt.Color("kind:N", scale=colours, sort=used, title=None)
    y = alt.Y("stage:N", sort=names, title=None)
    main = alt.Chart(values(bars)).mark_bar().encode(
        x=alt.X("from:Q", title="rows", axis=alt.Axis(format=",.0f", tickCount=5, tickMinStep=1)),
        x2="to:Q",
        y=y,
        color=colour,
        tooltip=[
            alt.Tooltip("stage:N"),
            alt.Tooltip("kind:N"),
            alt.Tooltip("rows:Q", format=","),
            alt.Tooltip("share:Q", title="of those that came", format=".1%"),
        ],
    )  # fmt: skip
    text = alt.Chart(values(labels)).mark_text(align="left", dx=4).encode(x="to:Q", y=y, text="text:N")
    title = alt.TitleParams("Rows left after each stage", subtitle="(in brackets: taken out by it)")
    upper = (main + text).properties(width=WIDTH, height=alt.Step(22), title=title)
    if not reasons:
        return upper.properties(description=_told(labels))
    keys = _distinct([f"{each['stage']}: {each['reason']}" for each in reasons])
    lower = alt.Chart(values([{**each, "key": key} for key, each in zip(keys, reasons, strict=True)])).encode(
        x=alt.X("rows:Q", title="rows", axis=alt.Axis(format=",.0f", tickCount=4, tickMinStep=1)),
        y=alt.Y("key:N", sort=keys, title=None, axis=alt.Axis(labelLimit=REASON_PIXELS)),
        tooltip=[alt.Tooltip("stage:N"), alt.Tooltip("reason:N"), alt.Tooltip("rows:Q", format=",")],
    )
    both = lower.mark_bar().encode(color=colour) + lower.mark_text(align="left", dx=4).encode(
        text=alt.Text("rows:Q", format=",")
    )
    why = both.properties(
        width=WIDTH // 2,
        height=alt.Step(20),
        title=alt.TitleParams("Why, by stage", subtitle="# stands for what differs from row to row"),
    )
    return alt.vconcat(upper, why).properties(description=_told(labels))


def _told(labels: Sequence[Mapping[str, Any]]) -> str:
    return "Rows left: " + "; ".join(f"{each['stage']} {each['text']}" for each in labels)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names, numbered where one comes again."""
    return [
        name if name not in names[:place] else f"{name} ({names[:place].count(name) + 1})"
        for place, name in enumerate(names)
    ]


def _reasons(stage: str, passed: Passed) -> list[dict[str, Any]]:
    """The most frequent reasons of a stage and one line for the others, each kind's own."""
    ordered = sorted(passed.lost.items(), key=lambda each: (-each[1], each[0]))
    shown = ordered if len(ordered) <= REASONS + 1 else ordered[:REASONS]
    rest: dict[str, list[int]] = {}
    for (kind, _), rows in ordered[len(shown) :]:
        rest.setdefault(kind, []).append(rows)
    found = [(kind, legible(reason), rows) for (kind, reason), rows in shown]
    found += [(kind, f"{len(some)} other reasons", sum(some)) for kind, some in rest.items()]
    return [{"stage": stage, "kind": kind, "reason": reason, "rows": rows} for kind, reason, rows in found]


def mixture(table: pl.DataFrame, units: Sequence[str]) -> Any:
    """Each source's share of the rows, and of the tokens, at each point of the pipeline.

    table: `at` (str: read, scored, selected, trained; in the order of the table), `source` (str), and a number for each
    of `units` (e.g. rows, supervised tokens). The sources that are largest anywhere are shown, the rest as one.
    """
    points = table["at"].unique(maintain_order=True).to_list()
    melted = table.unpivot(list(units), index=["at", "source"], variable_name="unit", value_name="amount")
    total = pl.col("amount").sum().over("at", "unit")
    shares = melted.with_columns(share=pl.when(total > 0).then(pl.col("amount") / total))
    sizes = dict(shares.group_by("source").agg(pl.col("share").max().fill_null(0.0)).iter_rows())
    shown = largest(sizes, SOURCES)
    grouped = (
        shares.with_columns(others(pl.col("source"), shown, list(sizes)).alias("source"))
        .group_by("at", "source", "unit", maintain_order=True)
        .agg(pl.col("amount", "share").sum())
        .with_columns(text=pl.format("{}% {}", (pl.col("share") * 100).round(1), "at"))
    )
    order = shown if len(shown) == len(sizes) else [*shown, others_name(shown, list(sizes))]
    colours = alt.Scale(domain=points, range=[GREY, YELLOW, BLUE, PURPLE][: len(points)])
    charts = []
    for unit in units:
        base = alt.Chart(values(grouped.filter(unit=unit))).encode(
            x=alt.X(
                "share:Q", title=f"share of {unit}", axis=alt.Axis(format="%", tickCount=4),
                scale=alt.Scale(domainMin=0),
            ),
            y=alt.Y("source:N", sort=order, title=None, scale=alt.Scale(paddingInner=0.25)),
            yOffset=alt.YOffset("at:N", sort=points),
            tooltip=[
                alt.Tooltip("source:N"),
                alt.Tooltip("at:N"),
                alt.Tooltip("amount:Q", title=unit, format=",.6~g"),
                alt.Tooltip("share:Q", format=".2%"),
            ],
        )  # fmt: skip
        bars = base.mark_bar().encode(color=alt.Color("at:N", scale=colours, sort=points, title=None))
        text = base.mark_text(align="left", dx=3, fontSize=9).encode(text="text:N")
        charts.append((bars + text).properties(width=WIDTH // 2, height=alt.Step(12)))
    told = f"Shares of {len(sizes)} sources: {', '.join(points)}"
    if len(charts) == 1:
        return charts[0].properties(title="Mixture of sources", description=told)
    return alt.hconcat(*charts).properties(title="Mixture of sources", description=told)
