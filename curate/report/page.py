"""Page: everything that the report shows, put into one HTML file.

The page may load nothing and run no script but its own two: its Content-Security-Policy names them by their hashes.
What comes from the data is escaped by the template, or stands in one JSON element and reaches the page as text. Charts
are evaluated by Vega's interpreter, not by `eval`.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from curate.errors import ConfigError, CurateError
from curate.plotted import health_of, score_names
from curate.report.account import facts, funnel, machine, verdicts
from curate.report.examples import REDUNDANT, extremes, redundancy
from curate.report.figures import Figure, Figures
from curate.report.leakage import leakage
from curate.report.tables import comparison, cost, figure, health, loss_table
from curate.store import replacing

if TYPE_CHECKING:
    from curate.runs import Run

T = TypeVar("T")

FILE = "report.html"

SECTIONS = (
    ("summary", "Summary"),
    ("funnel", "From read to trained"),
    ("scores", "Scores"),
    ("health", "Correlation and health"),
    ("mixture", "Mixture"),
    ("lengths", "Lengths"),
    ("schedule", "Schedule"),
    ("map", "Map"),
    ("neighbours", "Neighbours"),
    ("examples", "Best and worst rows"),
    ("losses", "Training and loss"),
    ("contamination", "Contamination"),
    ("comparison", "Comparison"),
    ("cost", "Cost"),
    ("configuration", "Configuration"),
    ("versions", "Versions"),
)
PLOTS = {
    "funnel": None,
    "correlation": "score",
    "mixture": None,
    "lengths": None,
    "schedule": "mix",
    "training": "train",
    "losses": "evaluate",
    "cost": None,
}
"""Charts, by their names in `run.plot`: the stage that gives what they show, None where any run has it."""


@dataclass(frozen=True)
class Missing:
    """Why the run has no data for a part of the report, in a sentence."""

    text: str


@dataclass(frozen=True)
class Parts:
    """What the run has data for, and for the rest the stage that would give it."""

    run: "Run"

    def __call__(self, stage: str | None, make: Callable[[], T]) -> T | Missing:
        """What `make` gives. stage: the kind of stage whose result it shows, None where any run has it."""
        listed = {kind for entry in self.run.info["config"]["stages"] for kind in entry}
        if stage is not None and stage not in listed:
            return Missing(f"This run has no `{stage}` stage, which would give this part.")
        try:
            return make()
        except CurateError as error:
            return Missing(str(error).removeprefix(f"{self.run.path}: "))


def write_report(run: "Run", to: Path | None = None) -> Path:
    """Write the report of a run; the file, `report.html` in the run's folder unless told.

    Parts that the run has no data for say which stage would give them. Raises ConfigError where `to` is a folder,
    CurateError for a run that has not finished its first stage.
    """
    path = run.path / FILE if to is None else to
    if path.is_dir():
        raise ConfigError(f"report: must be written to a file. {path} is a folder; write {path / FILE}.")
    text = page(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def page(run: "Run") -> str:
    """The report as HTML."""
    if not run.stages:
        raise CurateError(
            f"{run.path}: has no finished stage, so there is nothing to report; the run is {run.status}."
        )
    figures = Figures()
    part = Parts(run)

    def draw(name: str) -> Figure:
        most = 1 if name == "funnel" else None  # its second chart is of the reasons, which are in the table
        return figures.add(name, getattr(run.plot, name)(), most)

    charts = {name: part(stage, partial(draw, name)) for name, stage in PLOTS.items()}
    told = comparison(run)
    if told is not None:
        charts["comparison"] = part(None, lambda: draw("comparison"))
    leaked = leakage(run)
    absent = {name for name, found in (("comparison", told), ("contamination", leaked)) if found is None}
    css, script, vega = _asset("page.css"), _asset("page.js"), vega_bundle()
    info = run.info
    environment = Environment(
        loader=PackageLoader("curate.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["missing"] = lambda found: isinstance(found, Missing)
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["figure"] = figure
    return environment.get_template("page.jinja").render(
        name=run.name,
        status=_status(info),
        policy=f"default-src 'none'; script-src {_hash(vega)} {_hash(script)}; style-src {_hash(css)}; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        css=Markup(css),
        vega=Markup(vega),
        script=Markup(script),
        sections=[each for each in SECTIONS if each[0] not in absent],
        facts=facts(run),
        verdicts=part("evaluate", lambda: verdicts(run)),
        charts=charts,
        steps=part(None, lambda: funnel(run)),
        distributions=part("score", lambda: _distributions(run, figures)),
        health=part("score", lambda: health(health_of(run))),
        warnings=part("score", lambda: [each["text"] for each in health_of(run)["warnings"]]),
        maps=part("embed", lambda: _maps(run, figures)),
        redundancy=part("embed", lambda: redundancy(run)),
        redundant_from=REDUNDANT,
        extremes=part("score", lambda: extremes(run)),
        losses=part("evaluate", lambda: loss_table(run)),
        contamination=leaked,
        comparison=told,
        cost=cost(run),
        configuration=yaml.safe_dump(info["config"], sort_keys=False, allow_unicode=True, width=100),
        machine=machine(info),
        version=version("curate-llm"),
        charts_json=figures.as_json(),
    )


@cache
def vega_bundle() -> str:
    """The JavaScript of vega-embed with Vega and Vega-Lite, which sets `vegaEmbed` and loads nothing."""
    import vl_convert

    found: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in found.lower() or "<!--" in found:
        raise CurateError(
            "vl-convert-python's JavaScript cannot stand in a page: it has a closing tag in it. Install the version "
            "that constraints.txt names."
        )
    return found


def _maps(run: "Run", figures: Figures) -> list[tuple[Figure, str]]:
    """The map in each of its colours, with what the colour is called; all draw one data set."""
    colours = ["source", "kept"]
    if any("cluster" in stage["adds"] for stage in run.stages):
        colours.insert(1, "cluster")
    if (run.path / "scores.parquet").exists():
        colours += score_names(run)
    return [
        (figures.add(f"map-{colour}", run.plot.map(colour)), colour.removeprefix("score."))
        for colour in colours
    ]


def _distributions(run: "Run", figures: Figures) -> list[Figure]:
    return [figures.add(f"scores-{name}", run.plot.scores(name)) for name in score_names(run)]


def _status(info: Mapping[str, Any]) -> str:
    done = f"{info['status']}, {len(info['stages'])} stages, seed {info['seed']}"
    if info["status"] == "done":
        return done
    cause = f": {info['error']}" if "error" in info else ""
    return f"{done}. The run is not finished, so the report shows what there is{cause}"


def _asset(name: str) -> str:
    return files("curate.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
