"""Show: what `curate show` draws of a run's scores and of its schedule.

In the chart of a schedule each phase or source has a letter beside its colour, so that it can be read without.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from curate.numerics.apportion import apportion
from curate.schedule_view import ScheduleView

if TYPE_CHECKING:
    from curate.runs import Run

HEIGHT = 8
MARGIN = 6
"""Columns left of the chart, for its scale."""

COLOURS = (
    "cyan",
    "yellow",
    "magenta",
    "green",
    "blue",
    "red",
    "bright_cyan",
    "bright_yellow",
    "bright_magenta",
)
LETTERS = "ABCDEFGHI"
OTHERS = ("·", "white")
LISTED = 24
"""Phases that the table lists."""


def print_health(run: "Run", console: Console) -> None:
    """Print each score's distribution, how it goes with length and with the score most like it, and warnings."""
    report = run.health
    numbers = [Column(name, justify="right") for name in ("nulls", "distinct", "5 %", "50 %", "95 %", "skew")]
    spread = Table("score", *numbers, box=None)
    with_length = f"with {report['length'] or 'length'}"
    alike = Table(
        "Spearman", *(Column(name, justify="right") for name in (with_length, "agreement")), box=None
    )
    alike.add_column("with the most similar score")
    for name, score in report["scores"].items():
        others = {
            other: rho for other, rho in report["rank_correlation"][name].items() if other != name and rho
        }
        nearest = max(others, key=lambda other: abs(others[other]), default=None)
        figures = [*(score["quantiles"][per_cent] for per_cent in ("5", "50", "95")), score["skew"]]
        short = name.removeprefix("score.")
        counts = (f"{score['nulls']:,}", f"{score['distinct']:,}")
        spread.add_row(short, *counts, *(_figure(figure, ".3g") for figure in figures))
        rhos = (_figure(score[rho], ".3f") for rho in ("length_spearman", "agreement"))
        like = "-" if nearest is None else f"{others[nearest]:6.3f} {nearest.removeprefix('score.')}"
        alike.add_row(short, *rhos, like)
    fraction = report["supervised_token_fraction"]
    tokens = "" if fraction is None else f"; {fraction:.1%} of their tokens are supervised"
    console.print(f"{report['rows']:,} scored rows{tokens}", highlight=False)
    console.print(spread)
    console.print(alike)
    for warned in report["warnings"]:
        console.print(f"warning: {warned['text']}", highlight=False)


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def stretches_for(console: Console) -> int:
    """How many stretches fill the width of a console."""
    return max(10, console.width - MARGIN - 1)


def print_schedule(view: ScheduleView, console: Console) -> None:
    """Print the shares of phases and of sources over time, and a table of the phases."""
    phases = [phase.name for phase in view.phases]
    of_phases = [stretch.phases for stretch in view.stretches]
    of_sources = [stretch.sources for stretch in view.stretches]
    tokens = "" if view.tokens is None else f", {view.tokens:,} tokens"
    steps = "" if view.steps is None else f", {view.steps:,} optimizer steps"
    trained = "" if view.epochs is None else f"; trained for {view.epochs:g} epoch{'s' * (view.epochs != 1)}"
    console.print(f"an epoch of {view.draws:,} draws{tokens}{steps}{trained}", highlight=False)
    keys = _keys(phases, of_phases)
    same = of_phases == of_sources
    _chart(
        "sources" if same else "phases",
        of_phases,
        keys,
        view,
        console,
    )
    if not same and len(view.sources) > 1:
        of_source = _keys(view.sources, of_sources)
        _chart("sources", of_sources, of_source, view, console)
        _legend(of_source, console)
    _table(view, keys, console)


def _keys(names: Sequence[str], shares: Sequence[Mapping[str, float]]) -> dict[str, tuple[str, str]]:
    """Letter and colour of each name: of the largest ones, where there are too many, one of their own."""
    sizes = {name: sum(stretch.get(name, 0.0) for stretch in shares) for name in names}
    largest = sorted(names, key=lambda name: -sizes[name])[: len(LETTERS)]
    own = iter(zip(LETTERS, COLOURS, strict=True))
    return {name: next(own) if name in largest else OTHERS for name in names}


def _chart(
    title: str,
    shares: Sequence[Mapping[str, float]],
    keys: Mapping[str, tuple[str, str]],
    view: ScheduleView,
    console: Console,
) -> None:
    columns = []
    for stretch in shares:
        names = sorted(stretch, key=list(keys).index)
        cells = apportion([stretch[name] for name in names], HEIGHT)
        columns.append([keys[name] for name, count in zip(names, cells, strict=True) for _ in range(count)])
    console.print(Text(f"{title}, by their share of the time", style="bold"))
    for line in range(HEIGHT - 1, -1, -1):
        scale = {HEIGHT - 1: "100 %", HEIGHT // 2 - 1: " 50 %"}.get(line, "")
        text = Text(f"{scale:<{MARGIN}}")
        for column in columns:
            letter, colour = column[line]
            text.append(letter, style=f"black on {colour}")
        console.print(text, no_wrap=True, crop=True)
    end = f"draw {view.draws - 1:,}" if view.steps is None else f"step {view.steps - 1:,}"
    start = end.split(" ")[0] + " 0"
    console.print(
        f"{'':<{MARGIN}}{start}{end:>{max(len(columns) - len(start), len(end) + 1)}}", highlight=False
    )


def _legend(keys: Mapping[str, tuple[str, str]], console: Console) -> None:
    text = Text("  ".join(["", *(f"{letter} {name}" for name, (letter, _) in keys.items())]).strip())
    console.print(text, highlight=False)


def _table(view: ScheduleView, keys: Mapping[str, tuple[str, str]], console: Console) -> None:
    numbers = (
        Column(name, justify="right") for name in ("draws", "tokens", "from-to draw", "step", "tokens a draw")
    )
    table = Table(" ", "phase", *numbers, box=None)
    for phase in view.phases[:LISTED]:
        letter, colour = keys[phase.name]
        table.add_row(
            Text(letter, style=f"black on {colour}"),
            Text(phase.name),
            f"{phase.draws:,}",
            "-" if phase.tokens is None else f"{phase.tokens:,}",
            _span(phase.first_draw, phase.last_draw),
            _span(phase.first_step, phase.last_step),
            _span(phase.shortest, phase.longest),
        )
    console.print(table)
    if len(view.phases) > LISTED:
        console.print(f"and {len(view.phases) - LISTED} phases more; --json has them all", highlight=False)


def _span(first: int | None, last: int | None) -> str:
    return "-" if first is None or last is None else f"{first:,}-{last:,}"
