"""Docstrings, types and fields as the text of a page."""

import html
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from curate.budget import Budget
from curate.cleaner import Deduplicator, Filter
from curate.clusterer import Clusterer
from curate.component import Component
from curate.constraints import Constraints
from curate.methods import MethodOf
from curate.mixer import Mixer
from curate.scorer import Scorer
from curate.selector import Selector
from curate.settings import ModelSpec, Resources, SourceSpec, TargetSpec, TokenSpec
from curate.training.spec import Train

BASES: Mapping[type, str] = {
    Scorer: "scorers",
    Selector: "selectors",
    Mixer: "mixers",
    Filter: "cleaners",
    Deduplicator: "cleaners",
    Clusterer: "clusterers",
}
SPECS: Mapping[type[BaseModel], str] = {
    ModelSpec: "model",
    TokenSpec: "tokens",
    SourceSpec: "source",
    TargetSpec: "target",
    Constraints: "constraints",
    Resources: "resources",
    Train: "train",
}
"""Parts of a configuration -> the heading that they have on the page of the configuration."""

SIMPLE = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true` or `false`",
    Path: "path",
    Any: "any",
    Budget: "budget",
    type(None): "`null`",
}
SECTION = re.compile(
    r"^(Formula|Rule|Direction|Cost|Sources?|Deviations):\s*|(?<=\. )(Cost|Source):\s+", re.M
)
PROSE = ("Direction", "Cost", "Source", "Sources", "Deviations", "Docstring")
"""Sections that are reflowed; in the others line breaks mean something."""


def article(written: str) -> str:
    """A text as one paragraph of HTML that keeps line breaks; `code` is code, all else is as written."""
    safe = html.escape(written, quote=False)
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", safe)


def sections(docstring: str) -> Iterator[tuple[str, str]]:
    """(title, text) of a module's docstring; the title of what stands before all others is empty."""
    text = inspect.cleandoc(docstring)
    starts = list(SECTION.finditer(text))
    ends = [match.start() for match in starts] + [len(text)]
    if lead := text[: ends[0]].partition("\n")[2].strip():
        yield "", lead
    for match, end in zip(starts, ends[1:], strict=True):
        yield (match[1] or match[2]), text[match.end() : end].strip()


def unwrapped(text: str, keep_breaks: bool, before_it: str = "") -> str:
    """Lines that were broken for width alone joined again.

    before_it: what stood before the text in its first line.
    keep_breaks: a break stays where the next word would have fitted. Lists and blank lines always stay.
    """
    lines = [line.rstrip() for line in _dedented(text).splitlines()]
    width = max(88, *map(len, lines)) if lines else 0
    joined: list[str] = []
    before = ""
    for line in lines:
        next_word = (line.split() or [""])[0]
        is_full = len(before) + 1 + len(next_word) > width or not keep_breaks
        if before and line and is_full and not re.match(r"\s*([0-9]+\.|-|of =) ", line):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
        before = line if before or joined[1:] else before_it + line
    return "\n".join(joined)


def docstring_html(title: str, text: str) -> str:
    """The text of a section, as HTML. A section of prose begins with a capital letter."""
    if title in PROSE[:-1] and re.match(r"([a-z]{2,}|a) ", text):
        text = text[0].upper() + text[1:]
    told = article(unwrapped(text, keep_breaks=title not in PROSE, before_it=f"{title}: "))
    kind = "formula" if title in ("Formula", "Rule") else "told"
    return f'<div class="{kind}">{told}</div>\n'


def type_words(annotation: Any, metadata: Any = (), up: str = "") -> str:
    """A type in the words of somebody who writes YAML. up: the way from the page to the site's root, `../../`."""
    for each in metadata:
        if isinstance(each, MethodOf):
            return f"one of the [{each.kind}]({up}methods/{each.kind}/index.md)"
    if any("_fraction" in repr(each) for each in metadata):
        return "share: `0.05` or `5%`"
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(inner[0], inner[1:], up)
    told = _plain(annotation, origin, inner, up)
    limits = [limit for limit in map(_limit, _flat(metadata)) if limit]
    return ", ".join([told, *limits])


def _plain(annotation: Any, origin: Any, inner: tuple[Any, ...], up: str) -> str:
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(each, (), up) for each in inner if each is not type(None))
    if origin is tuple:
        return f"list of {type_words(inner[0], (), up)}"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping of {type_words(inner[0], (), up)} to {type_words(inner[1], (), up)}"
    return _model(annotation, up)


def _model(annotation: type, up: str) -> str:
    if annotation in SPECS:
        return f"[{SPECS[annotation]}]({up}configuration.md#{SPECS[annotation]})"
    for base, kind in BASES.items():
        if issubclass(annotation, base):
            return f"one of the [{kind}]({up}methods/{kind}/index.md)"
    return f"[{annotation.__name__}](#{annotation.__name__.lower()})"


def _flat(metadata: Any) -> Iterator[Any]:
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from each.metadata
        else:
            yield each


def _limit(constraint: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}
    for name, sign in signs.items():
        if (value := getattr(constraint, name, None)) is not None:
            return f"{sign} {value}"
    return ""


def default_words(field: FieldInfo) -> str:
    """The default of a field, as YAML."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Component):
        return f"`{value.name}`"
    if isinstance(value, BaseModel):
        return "its own defaults"
    if value is None:
        return "none"
    if isinstance(value, Budget | Path | str):
        return f"`{value}`"
    written = yaml.safe_dump(_plain_values(value), default_flow_style=True, width=1000).removesuffix("...\n")
    return f"`{written.strip()}`"


def _plain_values(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain_values(each) for each in value]
    if isinstance(value, Mapping):
        return {_plain_values(key): _plain_values(each) for key, each in value.items()}
    return str(value) if isinstance(value, Budget | Path) else value


def cell(text: str) -> str:
    """A text as a cell of a Markdown table: nothing but `code` in it is markup."""
    return article(text).replace("|", "&#124;").replace("*", "&#42;").replace("_", "&#95;")


def field_table(model: type[BaseModel], up: str = "") -> str:
    """A Markdown table of a model's fields."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        told = (
            f"`{name}`",
            type_words(field.annotation, field.metadata, up),
            default_words(field),
            cell(field.description or ""),
        )
        lines.append("| " + " | ".join(told) + " |")
    return "\n".join(lines) + "\n"


def own_models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models in a model's fields that have no page or heading elsewhere, each once, outermost first."""
    found: list[type[BaseModel]] = []

    def look(annotation: Any) -> None:
        for each in get_args(annotation):
            look(each)
        is_model = isinstance(annotation, type) and get_origin(annotation) is None
        if not is_model or not issubclass(annotation, BaseModel) or annotation in found:
            return
        if annotation in SPECS or issubclass(annotation, Component):
            return
        found.append(annotation)
        for field in annotation.model_fields.values():
            look(field.annotation)

    for field in model.model_fields.values():
        look(field.annotation)
    return found


def _dedented(text: str) -> str:
    """The first line as it is, the others without the indentation that they share."""
    first, _, rest = text.partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}" if rest else first
