"""Explore: the map of a run's rows in Jupyter, on which rows are picked by drawing a rectangle around them.

The picture and the places are those of `run.plot.map`. What is picked comes back as a table of polars.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.runs import Run

NEEDED = ("anywidget", "vl_convert")
EMBED = {"renderer": "canvas", "actions": False}
"""Thousands of points are too many for SVG."""
DECIMALS = 2
"""Of the places, as they are drawn."""
DRAG = "[pointerdown[{}event.shiftKey], window:pointerup] > window:pointermove!"


@dataclass(frozen=True)
class Exploration:
    """A map that Jupyter shows as a widget. Drag: pick rows; wheel: zoom; shift and drag: move; double-click: undo.

    rows: what is drawn, one row each: position, x, y, kept, id, source, prompt, response, cluster, score.*.
    """

    rows: pl.DataFrame
    widget: Any

    @property
    def selection(self) -> pl.DataFrame:
        """The rows within the rectangle that is drawn now; none before one is drawn."""
        bounds: Mapping[str, tuple[float, float]] = self.widget.selections.brush.value
        if not bounds:
            return self.rows.clear()
        return self.rows.filter(
            *(pl.col(axis).round(DECIMALS).is_between(min(ends), max(ends)) for axis, ends in bounds.items())
        )

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        return f"Exploration({self.rows.height:,} rows, {self.selection.height:,} picked)"


def explore(run: "Run", colour: str = "source", sample: int = 4000, seed: int = 0) -> Exploration:
    """The map of a run as a widget. colour, sample, seed: as of `Plot.map`.

    Raises ConfigError where the extra `notebook` is not installed or the run lacks the colour, CurateError where it
    embedded nothing.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"explore: needs {' and '.join(missing)}, of the extra `notebook`. Install it with "
            '`pip install "curate-llm[notebook]"` (in a checkout: `pip install -c constraints.txt -e ".[notebook]"`) '
            "and restart the kernel. `run.plot.map()` draws the same map without."
        )
    import altair as alt

    from curate import plotted

    brush = alt.selection_interval(name="brush", on=DRAG.format("!"), translate=False, zoom=False)
    view = alt.selection_interval(name="view", bind="scales", on=DRAG.format(""), translate=DRAG.format(""))
    chart = run.plot.map(colour, sample, seed).add_params(brush, view)
    return Exploration(plotted.mapped(run, sample, seed), _offline()(chart, embed_options=EMBED))


@cache
def _offline() -> Any:
    """Altair's widget with its JavaScript inside, where by itself it would load it from the network."""
    import altair as alt

    class Widget(alt.JupyterChart):
        pass

    Widget.enable_offline()
    return Widget
