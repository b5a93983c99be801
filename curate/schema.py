"""JSON Schema of a configuration, for editors: every key, every registered method, every description.

In a YAML file: `# yaml-language-server: $schema=curate.schema.json` after
`curate schema > curate.schema.json`.
"""

from typing import Any

from pydantic import BaseModel

from curate.methods import METHOD_MARKER, METHODS_OF, SEVERAL, STAGE_CLASSES, STAGE_KINDS, stage_class
from curate.registry import PACKAGES, Registry
from curate.spec import BESIDE, STAGE_MARKER, Config

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(registry: Registry | None = None) -> dict[str, Any]:
    """The schema (dialect 2020-12) of a configuration over the methods of a registry.

    A method is its name or a one-key mapping of its name to its fields. Imports every method.
    """
    methods = registry or Registry()
    definitions: dict[str, Any] = {}
    for kind in PACKAGES:
        forms: list[dict[str, Any]] = []
        for name in methods.names(kind):
            forms += _forms(name, _hoisted(methods.get(kind, name), f"{kind}.{name}", definitions))
        definitions[kind] = {"oneOf": forms} if forms else {"not": {}}
    definitions["stage"] = {"oneOf": [_stage(kind, definitions) for kind in STAGE_KINDS]}
    for name, spec in BESIDE.items():
        _hoisted(spec, name, definitions)
    whole = Config.model_json_schema(ref_template="#/$defs/{model}")
    whole["$defs"] = {**whole.get("$defs", {}), **definitions}
    filled: dict[str, Any] = _filled(whole)
    return {"$schema": _DIALECT, **filled}


def _hoisted(component: type[BaseModel], name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A component's schema put into the definitions under `name`, with its own definitions beside it."""
    schema = component.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    for inner, definition in schema.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = definition
    definitions[name] = schema
    return {"$ref": f"#/$defs/{name}", "required": schema.get("required", [])}


def _forms(name: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The ways to write a method: its name alone where no field is required, and with its fields."""
    mapping = {
        "type": "object",
        "properties": {name: _body(fields)},
        "required": [name],
        "additionalProperties": False,
    }
    return [mapping] if fields["required"] else [{"const": name}, mapping]


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a component, or nothing where none is required."""
    reference = {"$ref": fields["$ref"]}
    return reference if fields["required"] else {"anyOf": [reference, {"type": "null"}]}


def _stage(kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """An item of `stages` of one kind."""
    if kind in STAGE_CLASSES:
        body = _body(_hoisted(stage_class(kind), kind, definitions))
    else:
        body = {"$ref": f"#/$defs/{METHODS_OF[kind]}"}
    beside = {
        name: {"$ref": f"#/$defs/{name}"} for name in BESIDE if name != "constraints" or kind == "select"
    }
    if kind in SEVERAL:
        body = {"anyOf": [body, {"type": "array", "items": body, "minItems": 1}]}
    return {
        "type": "object",
        "properties": {kind: body, **beside},
        "required": [kind],
        "additionalProperties": False,
    }


def _filled(schema: Any) -> Any:
    """The schema with its markers replaced by references to the definitions."""
    if isinstance(schema, list):
        return [_filled(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    filled = {key: _filled(value) for key, value in schema.items()}
    if METHOD_MARKER in filled:
        filled["$ref"] = f"#/$defs/{filled.pop(METHOD_MARKER)}"
    if STAGE_MARKER in filled:
        del filled[STAGE_MARKER]
        filled["$ref"] = "#/$defs/stage"
    return filled
