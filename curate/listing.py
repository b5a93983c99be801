"""What `curate list` says about a method: all of it from the method's own class and docstrings."""

import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from curate.component import Component
from curate.registry import Registry

if TYPE_CHECKING:
    from curate.scorer import Scorer

_DIRECTIONS = {True: "higher", False: "lower", None: "two-sided"}


@dataclass(frozen=True)
class Method:
    """One method, as text.

    better: which end of a score is good (`higher`, `lower`, `two-sided`); empty for what is no scorer.
    reads: the columns or signals, as far as the class alone states them.
    fields: what a user may set; required ones are marked with `*`.
    cost: `Cost:` of the module's docstring; a scorer's begins with the passes of the model over a row.
    summary: the first line of the class's docstring. source: `Source:` of the module's docstring.
    """

    name: str
    better: str
    cost: str
    reads: Sequence[str]
    fields: Sequence[str]
    summary: str
    source: str


def methods(kind: str, registry: Registry) -> list[Method]:
    """All methods of a kind, sorted by name. Raises ConfigError where one cannot be imported."""
    return [describe(registry.get(kind, name)) for name in registry.names(kind)]


def describe(component: type[Component]) -> Method:
    """What a class says about itself."""
    from curate.scorer import Scorer

    told = sys.modules[component.__module__].__doc__ or ""
    return Method(
        name=component.method_name(),
        better=_DIRECTIONS[component.higher_is_better] if issubclass(component, Scorer) else "",
        cost=_section("Cost", told),
        reads=_reads(component),
        fields=[
            f"{name}*" if field.is_required() else name for name, field in component.model_fields.items()
        ],
        summary=(inspect.getdoc(component) or "").partition("\n")[0],
        source=_section("Sources?", told),
    )


def print_methods(found: Sequence[Method], console: Console) -> None:
    """Print methods, each under a line of its name, its better end and the beginning of its cost."""
    name_width = max((len(method.name) for method in found), default=0)
    better_width = max((len(method.better) for method in found), default=0)
    for method in found:
        passes = re.split("[,;]", method.cost)[0].rstrip(".")
        heading = f"{method.name:<{name_width}}  {method.better:<{better_width}}  {passes}"
        console.print(Text(heading.rstrip(), style="bold"), no_wrap=True, overflow="ellipsis")
        labelled = {
            "": method.summary,
            "reads": ", ".join(method.reads),
            "fields": ", ".join(method.fields),
            "cost": method.cost if method.cost.rstrip(".") != passes else "",
            "source": method.source,
        }
        details = Table.grid(Column(no_wrap=True), Column())
        for label, text in labelled.items():
            if text:
                details.add_row(f"  {label:<6}  ", Text(text))
        console.print(details)


def _reads(component: type[Component]) -> list[str]:
    from curate.cleaner import Deduplicator, Filter
    from curate.clusterer import Clusterer
    from curate.mixer import Mixer
    from curate.scorer import LearnedTextScorer, PoolScorer, RatingScorer, Scorer, TextScorer
    from curate.selector import Selector

    if issubclass(component, RatingScorer):
        return ["messages", "answers of a rater"]
    asked = _asks(component) if issubclass(component, Scorer) else []
    if issubclass(component, Clusterer):
        return ["embedding"]
    if not issubclass(
        component,
        TextScorer | LearnedTextScorer | PoolScorer | Selector | Mixer | Filter | Deduplicator,
    ):
        return asked
    try:
        return [*sorted(component().needs()), *asked]
    except ValidationError:  # a user must set something first, and what it reads may depend on that
        return asked


def _asks(scorer: "type[Scorer]") -> list[str]:
    """What a scorer asks of a model's pass, and what it compares rows with."""
    from curate.scorer import FamilyScorer, PooledSignalScorer, PoolScorer, Referenced, SignalScorer

    found: list[str] = []
    if issubclass(scorer, SignalScorer | PooledSignalScorer | FamilyScorer):
        found += [*map(str, scorer.signals), *(f"view {view}" for view in scorer.views if view != "full")]
    if issubclass(scorer, SignalScorer | PooledSignalScorer) and "readouts" in vars(scorer):
        found.append("states")
    if issubclass(scorer, FamilyScorer):
        found.append("several models")
    if issubclass(scorer, Referenced | PoolScorer) and scorer.reads_target:
        found.append("the target")
    return found


def _section(title: str, docstring: str) -> str:
    """The paragraph that begins with `title:`, on one line; empty where there is none."""
    paragraph = rf"^\s*{title}:\s*(.+?)(?:\n\s*\n|\n\s*[A-Z][A-Za-z ]*:\s|\Z)"
    found = re.search(paragraph, docstring, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
