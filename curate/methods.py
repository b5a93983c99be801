"""Methods as users write them, `random` or `{top: {by: loss, budget: 10%}}`, to components and back.

A field that holds a method is annotated `Annotated[Component, MethodOf("adapters")]`; it is looked up in
the registry that validation is given as its context (the built-in methods without one).
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from curate import phrases
from curate.component import Component
from curate.errors import ConfigError, Problem, Where
from curate.registry import PACKAGES, Registry

StageKind = Literal[
    "clean", "contamination", "score", "select", "embed", "cluster", "mix", "train", "evaluate"
]
STAGE_KINDS: tuple[StageKind, ...] = get_args(StageKind)

METHODS_OF: Mapping[str, str] = {
    "clean": "cleaners",
    "score": "scorers",
    "select": "selectors",
    "cluster": "clusterers",
    "mix": "mixers",
}
"""Kinds of stage whose body is a method -> the kind of method."""

SEVERAL = frozenset({"clean", "score"})
"""Kinds of stage that take a list of methods."""

STAGE_CLASSES: dict[str, str] = {
    "contamination": "curate.stages.contamination:Contamination",
    "embed": "curate.stages.embed:Embed",
    "train": "curate.training.spec:Train",
    "evaluate": "curate.stages.evaluate:Evaluate",
}
"""Kinds of stage whose body is the fields of one component -> its class, imported when first used."""

METHOD_MARKER = "x-method-of"
"""Stands in a JSON schema for "a method of this kind" until `curate.schema` puts the methods in."""


@dataclass(frozen=True)
class MethodOf:
    """Annotation of a field that holds a method of a registry kind (`selectors`, `adapters` ...)."""

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._read, serialization=core_schema.plain_serializer_function_ser_schema(write_method)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {METHOD_MARKER: self.kind}

    def _read(self, value: Any, info: ValidationInfo) -> Component:
        return read_method(self.kind, value, registry_in(info))


def registry_in(info: ValidationInfo) -> Registry:
    """The registry that a validation was given."""
    return info.context if isinstance(info.context, Registry) else Registry()


def stage_class(kind: str) -> type[Component]:
    """The component whose fields are the body of a stage that is no method, `embed` or `train`."""
    module, _, name = STAGE_CLASSES[kind].partition(":")
    return cast(type[Component], getattr(importlib.import_module(module), name))


def read_method(kind: str, value: Any, registry: Registry) -> Component:
    """A method from its name or a one-key mapping of its name to its fields.

    Raises pydantic's ValidationError with all that is wrong with it, at the user's keys.
    """
    if isinstance(value, Component):
        return value
    name, fields, inside = _name_and_fields(kind, value)
    try:
        cls = registry.get(kind, name)
    except ConfigError as error:
        elsewhere = [other for other in PACKAGES if other != kind and name in registry.names(other)]
        hint = f" (`{name}` is among the {' and '.join(elsewhere)}.)" if elsewhere else ""
        problem = Problem(inside, f"{error}{hint}", at_key=bool(inside))
        raise phrases.raised([problem], kind) from error
    return read_component(cls, fields, registry, inside)


def read_component(cls: type[Component], fields: Any, registry: Registry, where: Where = ()) -> Component:
    """A component from the values of its fields; nothing (null) means the defaults.

    Values keep their type: text is not read as a number. Raises ValidationError as `read_method`.
    """
    given = {} if fields is None else fields
    try:
        return cls.model_validate_json(json.dumps(given), strict=True, context=registry)
    except ValidationError as error:
        found = phrases.problems(error, cls, given)
        moved = [Problem((*where, *each.where), each.message, each.at_key) for each in found]
        raise phrases.raised(moved, cls.__name__) from error


def write_method(component: Component) -> str | dict[str, Any]:
    """A method as a user would write it, with all its fields."""
    fields = component.model_dump(mode="json")
    return {component.name: fields} if fields else component.name


def _name_and_fields(kind: str, value: Any) -> tuple[str, Any, Where]:
    if isinstance(value, str):
        return value, None, ()
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, fields),) = value.items()
        return str(name), fields, (str(name),)
    what = kind.removesuffix("s")
    got = f"{len(value)} keys: {', '.join(value)}" if isinstance(value, Mapping) else phrases.shown(value)
    expected = f"must be the name of one {what}, or a mapping of its name to its fields. Got {got}."
    raise phrases.raised([Problem((), expected)], kind)
