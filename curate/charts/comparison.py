"""Comparison: held-out loss of methods with intervals, and quality against total compute."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from curate.charts.style import BLUE, GREY, RED, WIDTH, palette, values

KINDS = {
    "method": ("method", BLUE, "circle"),
    "baseline": ("baseline", RED, "square"),
    "matched": ("random of a method's lengths", GREY, "triangle-up"),
}
"""Kind -> what it is called, colour, shape."""


def comparison(summaries: Sequence[Mapping[str, Any]], tokens: Sequence[float], unit: str) -> Any:
    """Loss by method and budget with its 95 % interval over seeds; below, by the tokens scored and trained on.

    summaries: as comparison.json has them. tokens: for each, scoring tokens and training tokens together.
    """
    models = list(dict.fromkeys(each["model"] for each in summaries))
    rows = []
    for each, total in zip(summaries, tokens, strict=True):
        low, high = each["interval"] or (None, None)
        random = each["differences"].get("random")
        panel = each["budget"] if len(models) == 1 else f"{each['model']}, {each['budget']}"
        rows.append(
            {
                "panel": panel,
                "budget": each["budget"],
                "model": each["model"],
                "method": each["method"],
                "kind": KINDS[each["kind"]][0],
                "loss": each["loss"],
                "low": low,
                "high": high,
                "seeds": len(each["seeds"]),
                "against": random and random["mean"],
                "tokens": total,
                "seconds": each["scoring_seconds"] + each["training_seconds"],
            }
        )
    return alt.vconcat(_by_method(rows, unit), _by_compute(rows, unit, models)).resolve_scale(
        color="independent", shape="independent"
    ).properties(
        description="; ".join(f"{row['method']} at {row['panel']}: {row['loss']:.4f}" for row in rows)
    )  # fmt: skip


def _by_method(rows: Sequence[Mapping[str, Any]], unit: str) -> Any:
    kinds = [name for name, _, _ in KINDS.values()]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    base = alt.Chart().encode(
        y=alt.Y("method:N", sort=methods, title=None, axis=alt.Axis(grid=True)),
        color=alt.Color(
            "kind:N", sort=kinds, title=None,
            scale=alt.Scale(domain=kinds, range=[colour for _, colour, _ in KINDS.values()]),
        ),
        tooltip=_tooltip(),
    )  # fmt: skip
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("loss:Q", title=unit, scale=alt.Scale(zero=False)),
        shape=alt.Shape(
            "kind:N", sort=kinds, title=None,
            scale=alt.Scale(domain=kinds, range=[shape for _, _, shape in KINDS.values()]),
        ),
    )  # fmt: skip
    intervals = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(
        x="low:Q", x2="high:Q"
    )  # fmt: skip
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    return alt.layer(intervals, points, data=values(rows)).properties(
        width=WIDTH, height=alt.Step(18)
    ).facet(
        row=alt.Row(
            "panel:N", sort=panels, title=None,
            header=alt.Header(labelAngle=0, labelAnchor="start", labelOrient="top"),
        ),
        title=alt.TitleParams(
            "Held-out loss by method", subtitle="mean over seeds, 95 % bootstrap interval; lower is better"
        ),
    )  # fmt: skip


def _by_compute(rows: Sequence[Mapping[str, Any]], unit: str, models: Sequence[str]) -> Any:
    """A line for each method through its budgets; the length-matched subsets, whose methods pay, are left out."""
    shown = [row for row in rows if row["kind"] != KINDS["matched"][0]]
    methods = list(dict.fromkeys(row["method"] for row in shown))
    colours, shapes = palette(methods)
    base = alt.Chart().encode(
        x=alt.X(
            "tokens:Q", title="tokens scored and trained on", scale=alt.Scale(type="log", nice=False, padding=20),
            axis=alt.Axis(format="~s", tickCount=5),
        ),
        y=alt.Y("loss:Q", title="held-out loss", scale=alt.Scale(zero=False, padding=12)),
        color=alt.Color("method:N", scale=colours, sort=methods, title=None),
        tooltip=_tooltip(),
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=1.5)
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        shape=alt.Shape("method:N", scale=shapes, sort=methods, title=None)
    )
    intervals = base.transform_filter("isValid(datum.low)").mark_rule().encode(y="low:Q", y2="high:Q")
    chart = alt.layer(lines, intervals, points, data=values(shown)).properties(width=WIDTH, height=260)
    title = alt.TitleParams("Quality against total compute", subtitle=unit)
    if len(models) == 1:
        return chart.properties(title=title)
    return chart.facet(row=alt.Row("model:N", sort=list(models), title=None), title=title)


def _tooltip() -> list[Any]:
    return [
        alt.Tooltip("method:N"),
        alt.Tooltip("panel:N", title="budget"),
        alt.Tooltip("loss:Q", format=".4f"),
        alt.Tooltip("low:Q", title="95 % from", format=".4f"),
        alt.Tooltip("high:Q", title="95 % to", format=".4f"),
        alt.Tooltip("against:Q", title="against random", format="+.4f"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("tokens:Q", title="tokens scored and trained on", format=",.0f"),
        alt.Tooltip("seconds:Q", title="seconds of both", format=",.1f"),
    ]
