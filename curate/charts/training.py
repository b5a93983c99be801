"""Training: what is trained on when, how the loss falls, what held-out rows lose, and what each stage costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from curate.charts.style import (
    BLUE,
    GREY,
    NAMED,
    WIDTH,
    dashes,
    largest,
    legible,
    others_name,
    palette,
    values,
)
from curate.schedule_view import ScheduleView

SHOWN = 8
"""Sources, and phases, of a schedule."""
SOURCES = 20
POINTS = 200
"""Of a curve."""
MEAN = "mean over sources"
TARGET = "target examples"


def schedule(view: ScheduleView) -> Any:
    """The share of each source and of each phase over the training, one band each; the largest, and the rest as one."""
    parts = {"source": [each.sources for each in view.stretches]}
    if [phase.name for phase in view.phases] != [""] and len(view.phases) > 1:
        parts["phase"] = [each.phases for each in view.stretches]
    if parts.get("phase") == parts["source"]:
        del parts["phase"]
    panels = [
        _shares_over_time(
            kind, [{legible(name): share for name, share in each.items()} for each in shares], view
        )
        for kind, shares in parts.items()
    ]
    whole = f"an epoch of {view.draws:,} draws"
    whole += "" if view.tokens is None else f", {view.tokens:,} tokens"
    whole += "" if view.steps is None else f", {view.steps:,} steps"
    title = alt.TitleParams("What is trained on when", subtitle=whole)
    return alt.vconcat(*panels).properties(title=title, description=f"Schedule: {whole}")


def _shares_over_time(kind: str, shares: Sequence[Mapping[str, float]], view: ScheduleView) -> Any:
    sizes: dict[str, float] = {}
    for inside in shares:
        for name, share in inside.items():
            sizes[name] = sizes.get(name, 0.0) + share
    shown = largest(sizes, SHOWN)
    rest = others_name(shown, list(sizes))
    order = [name for name in sizes if name in shown] if kind == "phase" else list(shown)
    order += [] if len(shown) == len(sizes) else [rest]
    rows = []
    for stretch, inside in zip(view.stretches, shares, strict=True):
        gathered = dict.fromkeys(order, 0.0)
        for name, share in inside.items():
            gathered[name if name in shown else rest] += share
        first, last = stretch.first_draw, stretch.first_draw + stretch.draws
        rows += [
            {"name": name, "first": first, "last": last, "share": share} for name, share in gathered.items()
        ]
    return (
        alt.Chart(values(rows))
        .mark_rect(color=BLUE)
        .encode(
            x=alt.X("first:Q", title="draw", scale=alt.Scale(domain=[0, view.draws], nice=False)),
            x2="last:Q",
            y=alt.Y("share:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", values=[0, 1])),
            y2=alt.Y2Datum(0),
            row=alt.Row(
                "name:N",
                sort=order,
                title=None,
                spacing=12,
                header=alt.Header(labelAngle=0, labelAlign="left", labelOrient="left"),
            ),
            tooltip=[
                alt.Tooltip("name:N", title=kind),
                alt.Tooltip("first:Q", title="from draw", format=","),
                alt.Tooltip("last:Q", title="to before", format=","),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
        .properties(
            width=WIDTH,
            height=36,
            title=alt.TitleParams(f"share of each {kind}", fontSize=11, fontWeight="normal"),
        )
    )  # fmt: skip


def losses(found: Mapping[str, Mapping[str, Any]], unit: str) -> Any:
    """Held-out loss of each model on each source and in the mean; lower is better.

    found: model -> as `Losses.as_dict` has it, with `target` where there are target examples. `interval` of a mean
    ([low, high]) is drawn where it is given.
    """
    names = list(found)
    rows: list[dict[str, Any]] = []
    sizes: dict[str, float] = {}
    for name, each in found.items():
        low, high = each.get("interval") or (None, None)
        rows.append(
            {
                "source": MEAN,
                "model": name,
                "loss": each["source_mean"],
                "rows": each["rows"],
                "low": low,
                "high": high,
            }
        )
        if "target" in each:
            rows.append({"source": TARGET, "model": name, **_of(each["target"])})
        for source, of_source in each["sources"].items():
            sizes[source] = of_source["rows"]
            rows.append({"source": source, "model": name, **_of(of_source)})
    shown = largest(sizes, SOURCES)[:SOURCES]
    order = [MEAN, *([TARGET] if any(row["source"] == TARGET for row in rows) else []), *sorted(shown)]
    rows = [row for row in rows if row["source"] in order]
    left_out = len(sizes) - len(shown)
    colours, shapes = palette(names, NAMED)
    base = alt.Chart(values(rows)).encode(
        y=alt.Y("source:N", sort=order, title=None, axis=alt.Axis(grid=True)),
        yOffset=alt.YOffset("model:N", sort=names),
        color=alt.Color("model:N", scale=colours, sort=names, title=None),
        tooltip=[
            alt.Tooltip("source:N"),
            alt.Tooltip("model:N"),
            alt.Tooltip("loss:Q", format=".4f"),
            alt.Tooltip("rows:Q", title="held-out rows", format=","),
        ],
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("loss:Q", title=unit, scale=alt.Scale(zero=False)),
        shape=alt.Shape("model:N", scale=shapes, sort=names, title=None),
    )
    told = "lower is better" + (f"; the {len(shown)} largest of {len(sizes)} sources" if left_out else "")
    text = "; ".join(f"{name} {each['source_mean']:.4f}" for name, each in found.items())
    chart = points
    if any(row.get("low") is not None for row in rows):
        chart = (
            base.transform_filter("isValid(datum.low)").mark_rule().encode(x="low:Q", x2="high:Q") + points
        )
    return chart.properties(
        width=WIDTH,
        height=alt.Step(11),
        title=alt.TitleParams("Held-out loss", subtitle=told),
        description=f"Held-out loss, {unit}: {text}",
    )  # fmt: skip


def _of(source: Mapping[str, Any]) -> dict[str, Any]:
    return {"loss": source["loss"], "rows": source["rows"]}


def thinned(curve: pl.DataFrame, points: int = POINTS) -> pl.DataFrame:
    """A curve of at most so many points, each the mean of equally many steps, weighted by their supervised tokens.

    curve: `step`, `loss` and `supervised_tokens` of each step. Gives `step`, `loss` and the `tokens` so far.
    """
    steps = curve.height
    tokens = pl.col("supervised_tokens")
    place = pl.int_range(pl.len()) * min(points, steps) // max(steps, 1)
    return (
        curve.with_columns(tokens=tokens.cum_sum(), place=place)
        .group_by("place", maintain_order=True)
        .agg(
            pl.col("step", "tokens").last(),
            loss=pl.when(tokens.sum() > 0).then((pl.col("loss") * tokens).sum() / tokens.sum()),
            steps=pl.len(),
        )
        .drop("place")
    )


def training(
    curves: Mapping[str, pl.DataFrame], held_out: Mapping[str, float], unit: str = "nats per supervised token"
) -> Any:
    """Training loss over the supervised tokens so far; and the held-out loss before and after, as points.

    curves: model -> as `thinned` takes it. held_out: `before` and models -> the mean over sources; may be empty.
    """
    thin = {name: thinned(curve) for name, curve in curves.items()}
    rows = [{"model": name, **row} for name, curve in thin.items() for row in curve.to_dicts()]
    ends: list[dict[str, Any]] = []
    for name, loss in held_out.items():
        if name == "before":
            ends.append({"model": name, "step": 0, "tokens": 0, "loss": loss})
        elif name in thin:
            ends.append({**thin[name].row(-1, named=True), "model": name, "loss": loss})
    names = [name for name in ("before", *curves) if name in curves or name in held_out]
    colours, shapes = palette(names, NAMED)
    base = alt.Chart(values(rows)).encode(
        x=alt.X("tokens:Q", title="supervised tokens trained", axis=alt.Axis(format="~s", tickCount=6)),
        y=alt.Y("loss:Q", title=unit, scale=alt.Scale(zero=False)),
        color=alt.Color("model:N", scale=colours, sort=names, title=None),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("step:Q", format=","),
            alt.Tooltip("tokens:Q", format=","),
            alt.Tooltip("loss:Q", format=".4f"),
        ],
    )
    shape = alt.Shape("model:N", scale=shapes, sort=names, title=None)
    lines = base.mark_line(strokeWidth=1.5).encode(
        strokeDash=alt.StrokeDash("model:N", scale=dashes(names), sort=names, title=None)
    )
    chart: Any = lines + base.mark_point(filled=True, size=24, opacity=1).encode(shape=shape)
    most = max(-(-curve.height // POINTS) for curve in curves.values())
    told = f"lines: training loss, each point {f'the mean of up to {most} steps' if most > 1 else 'a step'}"
    if ends:
        points = base.properties(data=values(ends)).mark_point(size=180, strokeWidth=2.5, opacity=1)
        chart += points.encode(shape=shape)
        told += "; large symbols: held-out loss"
    steps = "; ".join(f"{name}, {curve.height} steps" for name, curve in curves.items())
    return chart.properties(
        width=WIDTH,
        height=260,
        title=alt.TitleParams("Loss in training", subtitle=told),
        description=f"Training loss: {steps}",
    )


def cost(stages: Sequence[Mapping[str, Any]]) -> Any:
    """Seconds of each stage, computed in this run or taken from the store, with its tokens.

    stages: name, seconds, tokens, rows, cached and outputs (text), in order.
    """
    names = [each["name"] for each in stages]
    rows = []
    for each in stages:
        tokens = f", {each['tokens']:,} tokens" if each["tokens"] else ""
        rows.append(
            {
                **each,
                "how": "stored" if each["cached"] else "computed",
                "text": f"{each['seconds']:,.1f} s{tokens}{' (stored)' if each['cached'] else ''}",
            }
        )
    used = [how for how in ("computed", "stored") if any(row["how"] == how for row in rows)]
    colours = alt.Scale(domain=used, range=[{"computed": BLUE, "stored": GREY}[how] for how in used])
    base = alt.Chart(values(rows)).encode(
        x=alt.X("seconds:Q", title="seconds, when it was computed"),
        y=alt.Y("name:N", sort=names, title=None),
        tooltip=[
            alt.Tooltip("name:N", title="stage"),
            alt.Tooltip("outputs:N"),
            alt.Tooltip("how:N"),
            alt.Tooltip("seconds:Q", format=",.2f"),
            alt.Tooltip("rows:Q", format=","),
            alt.Tooltip("tokens:Q", format=","),
        ],
    )
    bars = base.mark_bar().encode(color=alt.Color("how:N", scale=colours, sort=used, title=None))
    text = base.mark_text(align="left", dx=4).encode(text="text:N")
    spent = float(np.sum([each["seconds"] for each in stages if not each["cached"]]))
    saved = float(np.sum([each["seconds"] for each in stages if each["cached"]]))
    told = f"{spent:,.1f} s computed in this run, {saved:,.1f} s taken from the store"
    return (bars + text).properties(
        width=WIDTH, height=alt.Step(20), title=alt.TitleParams("Cost", subtitle=told), description=told
    )
