"""The frozen, typed form of a configuration. `config.py` reads YAML into it; everything else reads it.

Imports neither torch nor ray nor polars, so that `curate check` is quick.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from curate import phrases
from curate.component import Component
from curate.constraints import Constraints
from curate.errors import Problem
from curate.methods import (
    METHODS_OF,
    SEVERAL,
    STAGE_CLASSES,
    STAGE_KINDS,
    MethodOf,
    StageKind,
    read_component,
    read_method,
    registry_in,
    stage_class,
    write_method,
)
from curate.registry import Registry
from curate.settings import Fraction, ModelSpec, Name, Resources, SourceSpec, Spec, TargetSpec, TokenSpec


class StageEntry(Spec):
    """One item of `stages:`: its kind, the methods in it, in order, and its resources.

    Written as a mapping of the kind to its body, `{select: {top: {by: loss, budget: 10%}}}`, beside an
    optional `resources` and, for a `select`, `constraints`.
    """

    kind: StageKind
    methods: tuple[Component, ...] = Field(min_length=1)
    resources: Resources = Resources()
    constraints: Constraints | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any, info: ValidationInfo) -> Any:
        """From the written form; a StageEntry made in Python passes its fields."""
        if isinstance(value, Mapping) and "methods" in value and "kind" in value:
            return value
        return _read_entry(value, registry_in(info))

    @model_serializer
    def _write(self) -> dict[str, Any]:
        """The written form."""
        bodies: list[Any] = [write_method(method) for method in self.methods]
        if self.kind in STAGE_CLASSES:
            bodies = [self.methods[0].model_dump(mode="json")]
        written: dict[str, Any] = {self.kind: bodies if self.kind in SEVERAL else bodies[0]}
        if self.resources != Resources():
            written["resources"] = self.resources.model_dump(mode="json", exclude_none=True)
        if self.constraints is not None:
            written["constraints"] = self.constraints.model_dump(mode="json", exclude_defaults=True)
        return written

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {STAGE_MARKER: True}


BESIDE: Mapping[str, type[Spec]] = {"resources": Resources, "constraints": Constraints}
"""What may stand beside the kind of a stage."""

STAGE_MARKER = "x-stage"
"""Stands in a JSON schema for an item of `stages` until `curate.schema` puts its forms in."""


def _read_entry(value: Any, registry: Registry) -> dict[str, Any]:
    """The fields of a StageEntry from its written form. Raises ValidationError with all problems."""
    if not isinstance(value, Mapping):
        kinds = ", ".join(STAGE_KINDS)
        raise phrases.raised(
            [Problem((), f"must be a mapping of one kind ({kinds}). Got {phrases.shown(value)}.")], "stage"
        )
    found = [
        Problem((key,), f"unknown key `{key}`.{phrases.near(key, [*STAGE_KINDS, *BESIDE])}", at_key=True)
        for key in value
        if key not in (*STAGE_KINDS, *BESIDE)
    ]
    kinds_given = [kind for kind in STAGE_KINDS if kind in value]
    if len(kinds_given) > 1:
        given = " and ".join(f"`{kind}`" for kind in kinds_given)
        found.append(Problem((), f"must have one kind of stage. Got {given}. Make each an item of its own."))
    elif not kinds_given and not found:
        found.append(Problem((), f"must have one kind of stage ({', '.join(STAGE_KINDS)}). Got none."))
    read: dict[str, Any] = {"methods": ()}
    for kind in kinds_given:
        try:
            read |= {"kind": kind, "methods": _read_body(kind, value[kind], registry)}
        except ValidationError as error:
            found += _moved(error, value[kind], kind)
    if "constraints" in value and "select" not in value:
        found.append(Problem(("constraints",), "stands beside a `select` alone.", at_key=True))
    for name, spec in BESIDE.items():
        if name not in value:
            continue
        try:
            read[name] = spec.model_validate_json(json.dumps(value[name]), strict=True)
        except ValidationError as error:
            problems = phrases.problems(error, spec, value[name])
            found += [Problem((name, *each.where), each.message, each.at_key) for each in problems]
    if found:
        raise phrases.raised(found, "stage")
    return read


def _read_body(kind: str, body: Any, registry: Registry) -> tuple[Component, ...]:
    """The methods of a stage."""
    if kind in STAGE_CLASSES:
        return (read_component(stage_class(kind), body, registry),)
    if not isinstance(body, list):
        return (read_method(METHODS_OF[kind], body, registry),)
    if kind not in SEVERAL:
        raise phrases.raised([Problem((), f"must be one method, not a list: `{kind}` takes one.")], kind)
    found, methods = [], []
    for index, each in enumerate(body):
        try:
            methods.append(read_method(METHODS_OF[kind], each, registry))
        except ValidationError as error:
            found += _moved(error, each, index)
    if not body:
        found.append(Problem((), "must have at least one method. Got an empty list."))
    names = [method.name for method in methods]
    if kind == "score":
        twice = sorted({name for name in names if names.count(name) > 1})
        found += [Problem((), f"`{name}` is listed twice. Remove one.") for name in twice]
    if found:
        raise phrases.raised(found, kind)
    return tuple(methods)


def _moved(error: ValidationError, value: Any, part: str | int) -> list[Problem]:
    """The problems of a part, at their places in the whole."""
    found = phrases.problems(error, Component, value)
    return [Problem((part, *each.where), each.message, each.at_key) for each in found]


class Config(Spec):
    """A whole run."""

    name: Name = Field(description="name of the run")
    seed: int = Field(default=0, ge=0, description="the one seed; every stage derives its own")
    trial: int = Field(
        default=0,
        ge=0,
        description="another number draws the last `select`, the mixture and the training anew, on the same pool, "
        "held-out rows and scores: a repeat",
    )
    held_out_seed: int | None = Field(
        default=None,
        ge=0,
        description="draws the held-out rows; that of `seed` if left out. Runs of several seeds with one of these "
        "choose from the same rows and are judged on the same",
        exclude_if=lambda value: value is None,
    )
    model: ModelSpec | None = Field(default=None, description="the model that is scored with and tuned")
    tokens: TokenSpec = Field(default=TokenSpec(), description="tokenisation and loss mask")
    sources: tuple[SourceSpec, ...] = Field(min_length=1, description="the pool")
    target: TargetSpec | None = Field(default=None, description="what the tuned model should be good at")
    stages: tuple[StageEntry, ...] = Field(min_length=1, description="in this order")
    check_contamination: bool = Field(
        default=True,
        description="without a `contamination` in `stages`, warn all the same of rows that share 13 words with "
        "evaluation or target rows",
        exclude_if=lambda value: value,
    )
    pipeline: Annotated[Component, MethodOf("pipelines")] = Field(
        default="straight", validate_default=True, description="the shape that wraps the list of stages"
    )
    stop_after: int | None = Field(
        default=None,
        ge=1,
        description="run only so many items of `stages:`; what the others hold out stays held out",
    )
    plugins: tuple[Path, ...] = Field(default=(), description="folders with methods of your own")
    agreement_rows: int = Field(
        default=32,
        ge=0,
        description="rows that are scored a second time in another precision, for the health report; 0: none",
    )
    max_bad_fraction: Fraction = Field(
        default=0.01, description="share of unreadable rows above which the run stops"
    )
    max_null_fraction: Fraction = Field(
        default=0.01, description="share of rows without a score above which the run stops"
    )

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: tuple[SourceSpec, ...]) -> tuple[SourceSpec, ...]:
        names = [source.name for source in sources]
        twice = [index for index, name in enumerate(names) if name in names[:index]]
        if found := [Problem((index, "name"), f"`{names[index]}` names two sources.") for index in twice]:
            raise phrases.raised(found, "sources")
        return sources
