"""A page for each method and each kind of method, from what the method says of itself."""

import html
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from curate.component import Component
from curate.config import load_config
from curate.listing import describe
from curate.registry import PACKAGES, Registry
from curate.spec import Config
from docs._text import article, cell, docstring_html, field_table, own_models, sections

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks" / "README.md"
UP = "../../"
"""From a method's page to the root of the site."""

KINDS: Mapping[str, str] = {
    "scorers": "A scorer adds one number to each row, the column `score.NAME`. It is listed under `score:`. All "
    "scorers of a list that read the model share its one forward pass.",
    "selectors": "A selector chooses rows, with a rank and a reason for each, and a reason for each that goes. It "
    "stands under `select:`; [constraints](../../configuration.md#constraints) may stand beside it.",
    "mixers": "A mixer makes the schedule: which row is drawn, when, and how often. It stands under `mix:`.",
    "cleaners": "A cleaner drops rows before anything expensive reads them. It is listed under `clean:`.",
    "clusterers": "A clusterer gives each row a cluster, from its embedding. It stands under `cluster:`.",
    "adapters": "An adapter says what of the model is trained. It stands in `train: {adapter: …}`.",
    "pipelines": "A pipeline is the shape around the list of stages. It stands under `pipeline:`.",
}
"""Kind of method -> what it is."""

DIRECTIONS = {
    "higher": "higher is better",
    "lower": "lower is better",
    "two-sided": "two-sided: a selector that takes one end must be told which (`order`)",
}


@dataclass(frozen=True)
class Measured:
    """A table of benchmarks/README.md that has a row for each of several methods.

    kind: of method. section: the heading that it stands under. told: what its figures are.
    """

    kind: str
    section: str
    told: str

    @property
    def anchor(self) -> str:
        """Its heading, as a link."""
        return f"{UP}measured.md#{re.sub(r'[^a-z0-9 ]', '', self.section.lower()).replace(' ', '-')}"

    def rows(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """The header and the rows. Raises ValueError where the section has no table."""
        _, heading, rest = BENCHMARKS.read_text("utf-8").partition(f"\n## {self.section}\n")
        table = re.search(r"^\|.*\|\n\|[-:| ]+\|\n((?:\|.*\|\n)+)", rest.partition("\n## ")[0], re.M)
        if not heading or table is None:
            raise ValueError(f"{BENCHMARKS}: must have a table under `## {self.section}`.")
        header, _, *lines = (_cells(line) for line in table[0].splitlines())
        return header, lines

    def of(self, name: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """The header, and the rows of a method: those that begin with its name."""
        header, rows = self.rows()
        return header, [row for row in rows if re.match(rf"`{name}[`,]", row[0])]


NOISE = Measured(
    "scorers",
    "Noise",
    "Rows that were spoiled, told from clean ones: the AUC of “a spoiled row scores higher” (0.5: chance) / the "
    "precision of the fifth at the telling end, where a fifth is spoiled (0.20: chance).",
)
MEASURED = (
    NOISE,
    Measured(
        "scorers",
        "A target's domain",
        "Of the 5 % of the rows with the highest scores, the share that is of the target's domain.",
    ),
    Measured("selectors", "What each selector keeps", "What it keeps when it takes 5 % of 84,636 rows."),
)


def method_pages(registry: Registry) -> Iterator[tuple[str, str]]:
    """(path, Markdown) of a page for each method, and of one for each kind."""
    for kind in KINDS:
        names = registry.names(kind)
        yield f"methods/{kind}/index.md", _kind_page(kind, [registry.get(kind, name) for name in names])
        for name in names:
            yield f"methods/{kind}/{name}.md", _method_page(kind, registry.get(kind, name))


def _kind_page(kind: str, components: Sequence[type[Component]]) -> str:
    told = [describe(component) for component in components]
    table = ["| name | what it does | better |", "|---|---|---|"]
    table += [f"| [`{one.name}`]({one.name}.md) | {cell(one.summary)} | {one.better} |" for one in told]
    if kind != "scorers":
        table = [line.rsplit("|", 2)[0] + "|" for line in table]
    parts = [f"# {kind.capitalize()}", KINDS[kind], "\n".join(table)]
    if kind == "scorers":
        parts += [_noise_overview(), f"More: [{NOISE.section}]({NOISE.anchor})."]
    return "\n\n".join(parts) + "\n"


def _method_page(kind: str, component: type[Component]) -> str:
    told = describe(component)
    module = sys.modules[component.__module__]
    facts = {
        "kind": f"[{kind.removesuffix('s')}](index.md)",
        "better": DIRECTIONS.get(told.better, ""),
        "reads": ", ".join(f"`{each}`" for each in told.reads),
        "passes": re.split("[,;]", told.cost)[0].rstrip(".") if kind == "scorers" else "",
        "file": f"`{_relative(str(module.__file__))}`",
    }
    parts = [f"# `{told.name}`", told.summary, _facts(facts)]
    for title, text in sections(module.__doc__ or ""):
        parts.append(f"## {title or 'What it does'}\n\n{docstring_html(title, text)}")
    parts.append("## Fields\n\n" + (field_table(component, UP) if component.model_fields else "None."))
    parts += [_own_model(each) for each in own_models(component)]
    parts += [_measured(each, told.name) for each in MEASURED if each.kind == kind]
    parts.append(_recipes(kind, told.name))
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {said}" for name, said in facts.items() if said)


def _own_model(model: type[BaseModel]) -> str:
    about = (model.__doc__ or "").strip().partition("\n\n")[0]
    return f"### {model.__name__}\n\n{article(' '.join(about.split()))}\n\n{field_table(model, UP)}"


def _measured(measured: Measured, name: str) -> str:
    header, rows = measured.of(name)
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    figure = _figure(dict(zip(header[2:], rows[0][2:], strict=True))) if measured is NOISE else ""
    link = f"How it was measured, and the others: [{measured.section}]({measured.anchor})."
    title = f"## Measured: {measured.section[0].lower()}{measured.section[1:]}"
    return "\n\n".join(part for part in (title, measured.told, figure, table, link) if part)


def _noise_overview() -> str:
    header, rows = NOISE.rows()
    place = header.index("all")
    ordered = sorted(rows, key=lambda row: float(row[place].split("/")[0]), reverse=True)
    title = "## How they tell noise\n\nThe AUC of “a spoiled row scores higher”, over five kinds of noise: at the left "
    title += "and right ends noise is told well, in the middle not at all."
    return f"{title}\n\n{_figure({row[0].strip('`'): row[place] for row in ordered})}"


def _figure(cells: Mapping[str, str]) -> str:
    """A chart of AUC: a dot on a line from 0 to 1 for each, as HTML."""
    lines = []
    for label, written in cells.items():
        area = written.split("/")[0].strip()
        lines.append(
            f"<li><span>{html.escape(label)}</span>"
            f'<i style="--at:{float(area):.2f}"></i><b>{html.escape(area)}</b></li>'
        )
    return f'<ul class="auc" aria-label="AUC by kind">{"".join(lines)}</ul>'


def _recipes(kind: str, name: str) -> str:
    using = [file for file, used in _used().items() if (kind, name) in used]
    if not using:
        return ""
    shown = min(using, key=lambda file: (file.stem != name, len(_used()[file]), file.stem))
    others = ", ".join(f"[`{file.stem}`]({UP}recipes.md#{file.stem})" for file in using if file != shown)
    also = f"\n\nAlso in: {others}." if others else ""
    return f"## A recipe\n\n{recipe_block(shown)}{also}"


def recipe_block(file: Path) -> str:
    """A recipe as a block of code."""
    return f'```yaml title="configs/{file.name}"\n{file.read_text("utf-8").rstrip()}\n```'


def recipes() -> list[Path]:
    """The recipes of the project."""
    return sorted((ROOT / "configs").glob("*.yaml"))


@cache
def _used() -> Mapping[Path, frozenset[tuple[str, str]]]:
    """Recipe -> (kind, name) of the methods in it."""
    return {file: frozenset(_methods_in(load_config(file).config)) for file in recipes()}


def _methods_in(config: Config) -> Iterator[tuple[str, str]]:
    yield from _inside(config.pipeline)
    if config.pipeline.name == "compare":
        for written in dict(config.pipeline)["methods"].values():
            yield "selectors", written if isinstance(written, str) else next(iter(written))
    for entry in config.stages:
        for method in entry.methods:
            yield from _inside(method)


def _inside(value: Any) -> Iterator[tuple[str, str]]:
    """A component and those in its fields."""
    if isinstance(value, Component):
        package = type(value).__module__.rpartition(".")[0]
        yield from ((kind, value.name) for kind, place in PACKAGES.items() if place == package)
    inner: Sequence[Any] = ()
    if isinstance(value, BaseModel):
        inner = [each for _, each in value]
    elif isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, tuple):
        inner = value
    for each in inner:
        yield from _inside(each)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _relative(file: str) -> str:
    return str(Path(file).resolve().relative_to(ROOT))
