"""What pydantic found wrong, in our words: `must be X. Got Y. Did you mean Z?`, at the user's own keys.

pydantic's places hold more than the user wrote (the tags of unions) and its messages do not know the
fields that would have been right. `problems` mends both.
"""

import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from curate.errors import Problem, Where

_SAID = "said"
_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "frozen_set_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "path_type": "a path",
    "finite_number": "a finite number",
}


def problems(error: ValidationError, model: type[BaseModel], value: Any) -> list[Problem]:
    """What is wrong with `value`, which was read as `model`. Several branches of a union are one problem."""
    found: list[Problem] = []
    plain: dict[Where, int] = {}
    everything = error.errors(include_url=False)
    for details in everything:
        if details["type"] == "too_short" and any(
            _inside(other["loc"], details["loc"]) for other in everything
        ):
            continue  # its elements are wrong, and are reported themselves
        problem = _problem(details, model, value)
        if not problem.message.startswith("must be "):
            found.append(problem)
        elif problem.where in plain:
            index = plain[problem.where]
            found[index] = Problem(problem.where, _either(found[index].message, problem.message))
        else:
            plain[problem.where] = len(found)
            found.append(problem)
    return found


def raised(found: Sequence[Problem], title: str) -> ValidationError:
    """Problems as an error that a validator may raise; an outer model puts its own place before theirs."""
    return ValidationError.from_exception_data(
        title,
        [
            InitErrorDetails(
                type=PydanticCustomError(_SAID, "{text}", {"text": each.message, "at_key": each.at_key}),
                loc=each.where,
                input=None,
            )
            for each in found
        ],
    )


def near(found: str, known: Sequence[str]) -> str:
    """` Did you mean `x`?`, or the known names where none is near."""
    close = difflib.get_close_matches(found, known, n=1)
    if close:
        return f" Did you mean `{close[0]}`?"
    return f" Known: {', '.join(known)}." if known else ""


def shown(value: Any) -> str:
    """A value as a message shows it, text in quotes, cut to a readable length."""
    if value is None:
        return "nothing"
    text = f"the text {value!r}" if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _problem(details: ErrorDetails, model: type[BaseModel], value: Any) -> Problem:
    where, missing = _place(details["loc"], value)
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    if kind == _SAID:
        return Problem(where, context["text"], context["at_key"])
    if kind == "extra_forbidden":
        return _unknown_key(where, model, value)
    if kind == "missing":
        return Problem(where, _missing(missing, _model_at(model, where)))
    if kind == "value_error":
        return Problem(where, str(context["error"]))
    if kind in ("too_short", "too_long"):
        limit = context.get("min_length" if kind == "too_short" else "max_length")
        bound = "at least" if kind == "too_short" else "at most"
        return Problem(where, f"must have {bound} {limit} element{'s' * (limit != 1)}. Got {shown(given)}.")
    expected = _EXPECTED.get(kind, details["msg"].removeprefix("Input should be "))
    if kind in ("literal_error", "enum") and isinstance(given, str):
        return Problem(where, f"must be {expected}. Got {shown(given)}.{_hint(given, context['expected'])}")
    if expected == details["msg"]:
        return Problem(where, f"{expected}. Got {shown(given)}.")
    return Problem(where, f"must be {expected}. Got {shown(given)}.{_repair(kind, given)}")


def _inside(loc: Sequence[str | int], around: Sequence[str | int]) -> bool:
    return len(loc) > len(around) and tuple(loc[: len(around)]) == tuple(around)


def _place(loc: Sequence[str | int], value: Any) -> tuple[Where, str]:
    """The parts of a place that the user wrote, and the last part that was not (a missing key)."""
    where: list[str | int] = []
    absent = ""
    for part in loc:
        if not _has(value, part):
            absent = str(part)
            continue
        value = value[part]
        where.append(part)
    return tuple(where), absent


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _unknown_key(where: Where, model: type[BaseModel], value: Any) -> Problem:
    around = _model_at(model, where[:-1])
    for part in where[:-1]:
        value = value[part]
    fields = list(around.model_fields) if around else []
    free = [name for name in fields if name not in value]
    name = str(where[-1])
    close = difflib.get_close_matches(name, free, n=1) or difflib.get_close_matches(name, fields, n=1)
    hint = near(name, close or fields)
    return Problem(where, f"unknown key `{name}`.{hint}", at_key=True)


def _missing(name: str, model: type[BaseModel] | None) -> str:
    if name.isdecimal():
        return f"must have at least {int(name) + 1} elements."
    field = model.model_fields.get(name) if model else None
    what = f" ({field.description})" if field and field.description else ""
    return f"must have `{name}`{what}. Got none."


def _hint(given: str, expected: str) -> str:
    known = [name.strip("'") for name in expected.replace(" or ", ", ").split(", ")]
    close = difflib.get_close_matches(given, known, n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def _repair(kind: str, given: Any) -> str:
    """What to write instead, where it is plain."""
    if kind == "string_type" and isinstance(given, int | float):
        return f" Quote it: '{given}'."
    if kind in ("int_type", "int_from_float") and isinstance(given, float) and given.is_integer():
        return f" Write {int(given)}."
    if kind == "bool_type" and isinstance(given, str) and given.lower() in ("yes", "no", "on", "off"):
        return f" Write {str(given.lower() in ('yes', 'on')).lower()}."
    if kind in ("float_type", "int_type") and isinstance(given, str):
        try:
            number = float(given.rstrip("%")) / (100 if given.endswith("%") else 1)
        except ValueError:
            return ""
        return f" Write {number:g}, a number without quotes."
    return ""


def _either(first: str, second: str) -> str:
    """Two expectations of one value as one: `must be an integer or 'auto'. Got ...`."""
    head, got, rest = first.partition(". Got ")
    other = second.partition(". Got ")[0].removeprefix("must be ")
    return first if other in head else f"{head} or {other}{got}{rest}"


def _model_at(model: type[BaseModel], where: Where) -> type[BaseModel] | None:
    """The model whose fields the keys at a place are; None where it is no model, or more than one."""
    annotation: Any = model
    for part in where:
        models = _models(annotation)
        if isinstance(part, int):
            annotation = typing.get_args(annotation)
        elif len(models) == 1 and part in models[0].model_fields:
            annotation = models[0].model_fields[part].annotation
        else:
            return None
    models = _models(annotation)
    return models[0] if len(models) == 1 else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation, inside unions, tuples and Annotated too."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return [annotation] if issubclass(annotation, BaseModel) else []
    inner = annotation if isinstance(annotation, tuple) else typing.get_args(annotation)
    return [found for each in inner for found in _models(each)]
