"""Schemas: of a source from its files, of JSON records from what is in them, of several sources together."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson
import pyarrow as pa  # type: ignore[import-untyped]

from curate.data.typed import casts, fitting, portable, reading_type
from curate.errors import DataError


class _Typed(Protocol):
    @property
    def label(self) -> str: ...
    def arrow_schema(self) -> pa.Schema | None: ...


def source_schema(files: Sequence[_Typed], source: str) -> pa.Schema | None:
    """The one schema of a source's files; None where they have none (JSON).

    A column that a file lacks is null there. Raises DataError where two files differ in a column's type:
    their records would not mean the same (a time in seconds and one in milliseconds).
    """
    whole: pa.Schema | None = None
    origin: dict[str, tuple[str, pa.DataType]] = {}
    mixed = False
    for file in files:
        schema = file.arrow_schema()
        if schema is None:
            continue
        for field in schema:
            label, kind = origin.setdefault(field.name, (file.label, field.type))
            if pa.types.is_null(kind):
                origin[field.name] = (file.label, field.type)
            elif not field.type.equals(kind) and not pa.types.is_null(field.type):
                raise DataError(
                    f"source {source}: column `{field.name}` is {kind} in {label} and {field.type} in "
                    f"{file.label}. Give them as two sources, or write them with one schema."
                )
        mixed = mixed or (whole is not None and not whole.equals(schema))
        whole = schema if whole is None else pa.unify_schemas([whole, schema])
    return whole.remove_metadata() if whole is not None and mixed else whole


def infer(records: Sequence[str | bytes], source: str) -> pa.Schema:
    """The Arrow schema of JSON records: the fields of all, in order of appearance.

    Raises DataError for a field that is not of one type.
    """
    rows: list[dict[str, Any]] = [orjson.loads(record) for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    fields = []
    for name in names:
        with fitting(name, f"source {source}"):
            fields.append((name, pa.array([row.get(name) for row in rows]).type))
    return pa.schema(fields)


def widen(known: pa.Schema | None, schema: pa.Schema, source: str) -> pa.Schema:
    """One schema for two parts of a source's JSON records. Raises DataError where none holds both."""
    if known is None or known.equals(schema):
        return schema
    names = dict.fromkeys([*known.names, *schema.names])
    fields: list[pa.Field] = []
    for name in names:
        parts = [pa.schema([part.field(name)]) for part in (known, schema) if name in part.names]
        with fitting(name, f"source {source}"):
            fields += pa.unify_schemas(parts, promote_options="permissive")
    return pa.schema(fields)


def merge(schemas: Mapping[str, pa.Schema]) -> pa.Schema | None:
    """One schema for all sources, by promotion; None where there is none that holds what their JSON says.

    Equal schemas keep their metadata (the features of `datasets`); merged ones have none.
    """
    found = list(schemas.values())
    if not found:
        return pa.schema([])
    if all(schema.equals(found[0], check_metadata=True) for schema in found):
        return found[0]
    try:
        target = pa.unify_schemas(
            [schema.remove_metadata() for schema in found], promote_options="permissive"
        )
        for schema in found:
            portable(reading(schema, target), "a merged source")
    except (pa.ArrowException, DataError):
        return None
    return target


def reading(schema: pa.Schema, target: pa.Schema) -> pa.Schema:
    """The schema to read a source's JSON in: the columns of the target, to whose types they are then cast.

    Raises DataError where that would change a value.
    """
    own = {field.name: field.type for field in schema}
    fields = []
    for field in target:
        kind = reading_type(own.get(field.name, field.type), field.type)
        if not casts(field.type, kind):
            raise DataError(f"column `{field.name}` cannot be cast from {kind} to {field.type}")
        fields.append(field.with_type(kind))
    return pa.schema(fields)
