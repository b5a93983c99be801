"""Schemas: of a source from its files, of JSON records from what is in them, of several sources together."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson
import pyarrow as pa  # type: ignore[import-untyped]

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
        try:
            fields.append((name, pa.array([row.get(name) for row in rows]).type))
        except (pa.ArrowException, OverflowError) as error:
            raise _no_type(name, source, error) from error
    return pa.schema(fields)


def widen(known: pa.Schema | None, schema: pa.Schema, source: str) -> pa.Schema:
    """One schema for two parts of a source's JSON records. Raises DataError where none holds both."""
    if known is None or known.equals(schema):
        return schema
    try:
        return pa.unify_schemas([known, schema], promote_options="permissive")
    except pa.ArrowException as error:
        name = next((n for n in schema.names if n in known.names and str(n) in str(error)), schema.names[0])
        raise _no_type(name, source, error) from error


def merge(schemas: Mapping[str, pa.Schema]) -> pa.Schema | None:
    """One schema for all sources, by promotion; None where there is none that holds them.

    Equal schemas keep their metadata (the features of `datasets`); merged ones have none.
    """
    found = list(schemas.values())
    if not found:
        return pa.schema([])
    if all(schema.equals(found[0], check_metadata=True) for schema in found):
        return found[0]
    try:
        return pa.unify_schemas([schema.remove_metadata() for schema in found], promote_options="permissive")
    except pa.ArrowException:
        return None


def _no_type(name: str, source: str, error: Exception) -> DataError:
    return DataError(
        f"source {source}: field `{name}` has no single type ({error}), so it fits no typed file. "
        "Export as jsonl, which keeps every record as it is."
    )
