"""Figures: the charts of a run as Vega-Lite in JSON; data that several of them draw is there once."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Characters by which JSON could end or change the script element that it stands in."""
CONCATENATED = ("vconcat", "hconcat", "concat")


@dataclass(frozen=True)
class Figure:
    """A chart that is in the report, by the names of its parts there."""

    parts: Sequence[str]


@dataclass
class Figures:
    """Collects the charts of a run.

    specs: name -> Vega-Lite and the names of its data sets; datasets: name -> column -> values.
    """

    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    datasets: dict[str, dict[str, list[Any]]] = field(default_factory=dict)

    def add(self, name: str, chart: Any, most: int | None = None) -> Figure:
        """Take in an Altair chart under a name. most: how many of its parts, the first ones.

        Charts that stand side by side or below each other become parts of their own, so that they fit any width.
        """
        whole: dict[str, Any] = chart.to_dict()
        data = {name: _columns(records) for name, records in whole.pop("datasets", {}).items()}
        names = []
        for place, spec in enumerate(list(_parts(whole))[:most]):
            names.append(f"{name}-{place}" if place else name)
            self.specs[names[-1]] = self._with_data(spec, data)
        return Figure(names)

    def as_json(self) -> Markup:
        """All charts as JSON that can stand in a script element."""
        return script_json({"datasets": self.datasets, "charts": self.specs})

    def _with_data(self, spec: dict[str, Any], data: Mapping[str, dict[str, list[Any]]]) -> dict[str, Any]:
        used = []
        for name in sorted(_data_names(spec) & data.keys()):
            columns = data[name]
            known = next((each for each, other in self.datasets.items() if _is_part(columns, other)), name)
            spec = _renamed(spec, name, known)
            self.datasets.setdefault(known, columns)
            used.append(known)
        return {"spec": spec, "datasets": used}


def script_json(value: Any) -> Markup:
    """JSON that no text in it can break out of a script element. Raises ValueError for NaN or infinity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escaped in UNSAFE.items():
        text = text.replace(character, escaped)
    return Markup(text)


def _parts(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The charts of which a specification consists, each with what the whole says for all of them."""
    kind = next((each for each in CONCATENATED if each in spec), None)
    if kind is None:
        yield spec
        return
    shared = {
        name: spec[name]
        for name in ("$schema", "background", "config", "data", "description")
        if name in spec
    }
    for place, part in enumerate(spec[kind]):
        titled = {"title": spec["title"]} if place == 0 and "title" in spec else {}
        yield from _parts(shared | titled | part)


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Records, all with the same fields, as columns; a field that some lack is null there."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _is_part(columns: Mapping[str, list[Any]], other: Mapping[str, list[Any]]) -> bool:
    """Whether a data set has all these columns, with the same values. One without columns is part of none."""
    return (
        bool(columns)
        and columns.keys() <= other.keys()
        and all(other[name] == found for name, found in columns.items())
    )


def _data_names(spec: Any) -> set[str]:
    if isinstance(spec, list):
        return {name for each in spec for name in _data_names(each)}
    if not isinstance(spec, dict):
        return set()
    data = spec.get("data")
    own = {data["name"]} if isinstance(data, dict) and "name" in data else set()
    return own | {name for each in spec.values() for name in _data_names(each)}


def _renamed(spec: Any, old: str, new: str) -> Any:
    """A specification that draws the data set `new` where it drew `old`."""
    if isinstance(spec, list):
        return [_renamed(each, old, new) for each in spec]
    if not isinstance(spec, dict):
        return spec
    return {
        key: {"name": new} if key == "data" and value == {"name": old} else _renamed(value, old, new)
        for key, value in spec.items()
    }
