"""Style: colours, sizes and the shape of data that all charts share."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import altair as alt
import polars as pl

BLUE, RED, GREEN, YELLOW, CYAN, PURPLE, GREY = (
    "#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#999999",
)  # fmt: skip
"""Paul Tol's "bright" scheme: told apart by colour-blind readers, on white and on black."""
COLOURS = (BLUE, RED, GREEN, YELLOW, PURPLE, CYAN)
NAMED = {
    "kept": BLUE, "dropped": GREY, "pool": GREY,
    "before": GREY, "selected": BLUE, "random": RED, "length_matched_random": GREEN,
}  # fmt: skip
"""What has the same colour in every chart."""
NO_COLOURS: Mapping[str, str] = {}
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 1])
TEXT = "#767676"
"""As far from white as from black (contrast 4.5 either way), for text on a background that is not known."""
GRID = "#99999944"
WIDTH = 480
LABEL_PIXELS = 220
OTHERS = "others"
PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n\r"} | {
    0x7F: 0x2421, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD,
}  # fmt: skip
"""Characters that SVG cannot hold -> those that stand for them: `\\x1b` is shown as `␛`."""


def values(rows: pl.DataFrame | Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Data of a chart. Numbers that JSON has no word for become null; floats keep six digits; texts are legible."""
    records = rows.to_dicts() if isinstance(rows, pl.DataFrame) else rows
    return alt.InlineData([{name: _plain(value) for name, value in row.items()} for row in records])


def legible(text: str) -> str:
    """A text without control characters, which would end a program that draws them as SVG."""
    return text.translate(PICTURES)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return legible(value)
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def finished(chart: Any) -> Any:
    """A chart to be shown by itself: no background of its own, its text legible on light and dark.

    `chart.configure(...)` replaces these settings.
    """
    text = {"labelColor": TEXT, "titleColor": TEXT}
    lines = {"domainColor": TEXT, "tickColor": TEXT, "gridColor": GRID}
    return chart.properties(background="transparent").configure(
        axis={**text, **lines, "labelLimit": LABEL_PIXELS},
        legend={**text, "labelLimit": LABEL_PIXELS},
        header={**text, "labelLimit": LABEL_PIXELS},
        title={"color": TEXT, "subtitleColor": TEXT, "anchor": "start"},
        text={"color": TEXT},
        view={"stroke": None},
    )


def largest(sizes: Mapping[str, float], count: int) -> list[str]:
    """The names of the largest, largest first, equal ones by name; `count` of them where there are more.

    Where all but one fit, that one is shown too: `others` is at least two.
    """
    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    return ordered if len(ordered) <= count + 1 else ordered[:count]


def others(names: pl.Expr, shown: Sequence[str], all_names: Sequence[str]) -> pl.Expr:
    """A column of names, with `others (n)` for those that are not shown."""
    return pl.when(names.is_in(shown)).then(names).otherwise(pl.lit(others_name(shown, all_names)))


def others_name(shown: Sequence[str], all_names: Sequence[str]) -> str:
    """What the names that are not shown are called: `others (12)`."""
    return f"{OTHERS} ({len(set(all_names)) - len(shown)})"


def palette(names: Sequence[str], known: Mapping[str, str] = NO_COLOURS) -> tuple[alt.Scale, alt.Scale]:
    """Scales of colour and shape for names in order; no two of the first six share a colour, or of 42 both.

    known: name -> colour, as NAMED, where the names are ours and not the user's.
    """
    fixed = {name: GREY if name.startswith(f"{OTHERS} (") else known.get(name) for name in names}
    free = cycle([colour for colour in COLOURS if colour not in fixed.values()] or COLOURS)
    colours = [fixed[name] or next(free) for name in names]
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(names))]
    return alt.Scale(domain=list(names), range=colours), alt.Scale(domain=list(names), range=shapes)


def dashes(names: Sequence[str]) -> alt.Scale:
    """A scale of dashes for names in order."""
    return alt.Scale(domain=list(names), range=[DASHES[place % len(DASHES)] for place in range(len(names))])


def short(name: str) -> str:
    """A score's name without its prefix."""
    return name.removeprefix("score.")
