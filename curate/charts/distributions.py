"""Distributions: of scores, kept against dropped, and of lengths, pool against selection; and how scores correlate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.charts.style import NAMED, WIDTH, dashes, palette, short, values

BINS = 40
SMALL_BINS = 24
"""Of each of several charts."""
COLUMNS = 3
TAIL = 0.005
"""The share of rows at either end that a few outliers may not stretch the axis for."""
GROUPS = ("kept", "dropped")


@dataclass(frozen=True)
class Binned:
    """edges: float64 [bins + 1]. counts: group -> int64 [bins]. open_low, open_high: that end's bin has the tail."""

    edges: NDArray[np.float64]
    counts: Mapping[str, NDArray[np.int64]]
    open_low: bool
    open_high: bool

    def text(self, place: int) -> str:
        """What a bin is called."""
        low, high = self.edges[place], self.edges[place + 1]
        if place == 0 and self.open_low:
            return f"up to {high:.4g}"
        if place == len(self.edges) - 2 and self.open_high:
            return f"{low:.4g} and more"
        return f"{low:.4g} to {high:.4g}"


def binned(groups: Mapping[str, NDArray[np.float64]], bins: int) -> Binned | None:
    """Counts of finite values in bins of equal width; None where there is no value.

    Where the outermost rows of an end (0.5 %) are further out than all others are wide, its bin has them too.
    """
    everything = np.sort(np.concatenate(list(groups.values())))
    if not len(everything):
        return None
    lowest, highest = float(everything[0]), float(everything[-1])
    beyond = int(TAIL * len(everything))
    low, high = float(everything[beyond]), float(everything[-1 - beyond])
    span = high - low
    low = low if low - lowest > span > 0 else lowest
    high = high if highest - high > span > 0 else highest
    if low < high and np.isfinite(high - low):
        edges = np.linspace(low, high, bins + 1)
    else:
        margin = max(abs(lowest) * 1e-3, 0.5)
        edges = np.array([lowest - margin, highest + margin])
    counts = {name: np.histogram(np.clip(found, low, high), edges)[0] for name, found in groups.items()}
    return Binned(edges, counts, lowest < low, highest > high)


def scores(table: pl.DataFrame, asked: Mapping[str, int]) -> Any:
    """The distribution of scores, a chart for each.

    table: a column for each score (float64, null where undefined) and `kept` (bool), one row per scored row. asked:
    score -> how many of the rows it was asked of, where a later stage saw fewer.
    """
    bins = SMALL_BINS if len(asked) > 1 else BINS
    charts = [score(table, name, rows, bins) for name, rows in asked.items()]
    if len(charts) == 1:
        return charts[0]
    small = [chart.properties(width=WIDTH // 2, height=110) for chart in charts]
    return alt.concat(*small, columns=COLUMNS)


def score(table: pl.DataFrame, name: str, asked: int, bins: int = BINS) -> Any:
    """Shares of the kept rows and of the dropped ones, in bins of one score; nulls and infinite values are counted."""
    column = table[name].cast(pl.Float64).fill_nan(None)
    finite = column.is_finite().fill_null(False)
    infinite, null = int(column.is_infinite().sum()), asked - column.count()
    groups = {
        group: column.filter(finite & (table["kept"] if group == "kept" else ~table["kept"])).to_numpy()
        for group in GROUPS
    }
    notes = [f"{len(found):,} {group}" for group, found in groups.items()]
    notes += [f"{null:,} null"] * (null > 0) + [f"{infinite:,} infinite"] * (infinite > 0)
    title = alt.TitleParams(short(name), subtitle=", ".join(notes))
    return distribution(binned(groups, bins), "score", alt.Scale(zero=False, nice=False)).properties(
        title=title, description=f"Distribution of {short(name)}: {', '.join(notes)}"
    )


def lengths(table: pl.DataFrame, unit: str) -> Any:
    """Shares of the pool's rows and of the selected ones, in bins of length that grow with it.

    table: `length` (number, null where unknown) and `selected` (bool), one row per row of the pool. unit: e.g. tokens.
    """
    known = table.drop_nulls("length").with_columns(pl.col("length").cast(pl.Float64))
    groups = {
        "pool": known["length"].to_numpy(),
        "selected": known.filter("selected")["length"].to_numpy(),
    }
    notes = [f"{len(each):,} {name}" for name, each in groups.items()]
    missing = table["length"].null_count()
    notes += [f"{missing:,} of unknown length"] * bool(missing)
    found, scale = None, alt.Scale(type="log", nice=False)
    if known.height:
        shortest, longest = float(groups["pool"].min()), float(groups["pool"].max())
        edges = np.unique(np.round(np.geomspace(max(shortest, 1), longest + 1, BINS + 1)))
        if shortest < 1:
            edges, scale = np.concatenate([[0.0], edges]), alt.Scale(type="symlog", nice=False)
        counts = {name: np.histogram(each, edges)[0] for name, each in groups.items()}
        found = Binned(edges, counts, False, False)
    return distribution(found, unit, scale).properties(
        title=alt.TitleParams(f"Length in {unit}", subtitle=", ".join(notes)),
        description=f"Distribution of length in {unit}: {', '.join(notes)}",
    )


def distribution(found: Binned | None, axis: str, scale: alt.Scale) -> Any:
    """Each group's share in each bin: filled, with an outline of its own dashes.

    Of each group the data end with a row that has no `rows`: it closes the outline.
    """
    rows: list[dict[str, Any]] = []
    names = [] if found is None else list(found.counts)
    for name in names:
        assert found is not None
        counts = found.counts[name]
        share = 0.0
        for place, count in enumerate(counts.tolist()):
            low, high = float(found.edges[place]), float(found.edges[place + 1])
            share = count / max(int(counts.sum()), 1)
            rows.append(
                {
                    "group": name,
                    "low": low,
                    "high": high,
                    "rows": count,
                    "share": share,
                    "bin": found.text(place),
                }
            )
        rows.append({"group": name, "low": float(found.edges[-1]), "rows": None, "share": share})
    colours, _ = palette(names, NAMED)
    base = alt.Chart(values(rows)).encode(
        x=alt.X("low:Q", title=axis, scale=scale),
        y=alt.Y("share:Q", stack=None, title="share of rows", axis=alt.Axis(format="%", tickCount=4)),
        color=alt.Color("group:N", scale=colours, sort=names, title=None),
        tooltip=[
            alt.Tooltip("group:N"),
            alt.Tooltip("bin:N", title=axis),
            alt.Tooltip("rows:Q", format=","),
            alt.Tooltip("share:Q", format=".2%"),
        ],
    )
    lines = base.mark_line(interpolate="step-after", strokeWidth=2).encode(
        strokeDash=alt.StrokeDash("group:N", scale=dashes(names), sort=names, title=None)
    )
    filled = (
        base.mark_rect(opacity=0.25)
        .encode(x2="high:Q", y2=alt.Y2Datum(0))
        .transform_filter("isValid(datum.rows)")
    )
    return (filled + lines).properties(width=WIDTH, height=220)


def correlation(
    rank_correlation: Mapping[str, Mapping[str, float | None]],
    with_length: Mapping[str, float | None],
    length: str | None,
) -> Any:
    """Spearman's rank correlation of every pair of scores, and of each with the length, in figures.

    rank_correlation: score -> score -> rho. with_length: score -> rho. length: what counts as a row's length, null
    where there is none.
    """
    names = list(rank_correlation)
    found = {(one, other): rank_correlation[one][other] for one in names for other in names}
    order = [short(name) for name in names]
    if length is not None:
        called = f"length in {length.replace('_', ' ')}"
        found |= {(name, called): with_length[name] for name in names}
        found |= {(called, name): with_length[name] for name in names} | {(called, called): 1.0}
        order.append(called)
    rows = [
        {
            "first": short(one),
            "second": short(other),
            "rho": rho,
            "text": "-" if rho is None else f"{rho:.2f}".replace("-0.00", "0.00"),
        }
        for (one, other), rho in found.items()
    ]
    side = 34
    base = alt.Chart(values(rows)).encode(
        x=alt.X("first:N", sort=order, title=None, axis=alt.Axis(labelAngle=-45)),
        y=alt.Y("second:N", sort=order, title=None),
        tooltip=[
            alt.Tooltip("first:N"),
            alt.Tooltip("second:N"),
            alt.Tooltip("rho:Q", title="Spearman", format=".4f"),
        ],
    )
    cells = base.mark_rect().encode(
        color=alt.Color("rho:Q", title="Spearman", scale=alt.Scale(scheme="purpleorange", domain=[-1, 1]))
    )
    strong = alt.condition("abs(datum.rho) > 0.7", alt.value("white"), alt.value("black"))
    return (cells + base.mark_text(fontSize=11).encode(text="text:N", color=strong)).properties(
        width=side * len(order),
        height=side * len(order),
        title="How alike the scores order the rows (Spearman)",
        description=f"Spearman's rank correlation of {', '.join(order)}",
    )
