"""Typed records: rows of an Arrow table as JSON texts, and back without loss.

JSON knows neither bytes nor times nor decimals. A *portable* schema is the schema with timestamps, dates,
times and durations replaced by their integers and dictionaries by their values; Arrow casts between the two.
In the JSON text decimals are their digits, bytes are base64, maps are lists of pairs, and floats that are not
finite are the strings "NaN", "Infinity" and "-Infinity".
"""

import base64
import decimal
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import pyarrow as pa  # type: ignore[import-untyped]

from curate.errors import DataError

_Change = Callable[[Any], Any]
_INT64 = (pa.types.is_timestamp, pa.types.is_duration, pa.types.is_time64, pa.types.is_date64)
_INT32 = (pa.types.is_date32, pa.types.is_time32)
_KEPT = (
    pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string,
    pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary,
    pa.types.is_fixed_size_binary, pa.types.is_binary_view,
    pa.types.is_decimal,
)  # fmt: skip
_TEXT = _KEPT[4:7]
_BYTES = _KEPT[7:11]
_ALIKE = (
    (pa.types.is_boolean,), (pa.types.is_integer, pa.types.is_floating),
    (pa.types.is_integer, pa.types.is_decimal), _TEXT, _BYTES,
)  # fmt: skip
"""Types whose JSON can be read as that of another of the group."""


def portable(schema: pa.Schema, where: str) -> pa.Schema:
    """The schema in types that JSON can carry. `where` names the file in errors.

    Raises DataError for a column that cannot be carried there and back (unions, intervals, two columns
    of one name).
    """
    fields = []
    for field in schema:
        if schema.get_all_field_indices(field.name) != [schema.get_field_index(field.name)]:
            raise DataError(f"{where}: two columns are named `{field.name}`. Rename one.")
        kind = _portable_type(field.type)
        if kind is None or not casts(field.type, kind):
            raise DataError(
                f"{where}: column `{field.name}` has the type {field.type}, which cannot be kept. "
                "Cast it to another type, or leave it out."
            )
        fields.append(field.with_type(kind))
    return pa.schema(fields, metadata=schema.metadata)


def reading_type(type: pa.DataType, target: pa.DataType) -> pa.DataType:
    """The type in which JSON of values of `type` is read, to be cast to `target`, a promotion of it.

    It is the target wherever that reads the JSON alike, and the values' own type where the JSON means
    something only together with it (bytes, decimals, times in their unit). Raises DataError for text that
    would become bytes.
    """
    if type.equals(target) or pa.types.is_null(type):
        return target
    if pa.types.is_struct(type) and pa.types.is_struct(target):
        own = {field.name: field.type for field in type}
        return pa.struct(
            [field.with_type(reading_type(own.get(field.name, field.type), field.type)) for field in target]
        )
    if pa.types.is_map(type) and pa.types.is_map(target):
        key, item = (
            field.with_type(reading_type(kind, field.type))
            for kind, field in ((type.key_type, target.key_field), (type.item_type, target.item_field))
        )
        return pa.map_(key, item)
    if pa.types.is_nested(type) and pa.types.is_nested(target):
        return _list_like(target, reading_type(type.value_type, target.value_type))
    value, wanted = (kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (type, target))
    if _any(_TEXT, value) and _any(_BYTES, wanted):
        raise DataError(f"{type} cannot become {target}")
    return target if any(_any(group, value) and _any(group, wanted) for group in _ALIKE) else type


def casts(type: pa.DataType, plain: pa.DataType) -> bool:
    """Whether Arrow casts from `plain` to the type and back. It corrupts nested columns of the null type."""
    if type.equals(plain):
        return True
    if pa.types.is_nested(type) and _holds_null(type):
        return False
    try:
        pa.array([], type=plain).cast(type).cast(plain)
    except pa.ArrowException:
        return False
    return True


def _holds_null(type: pa.DataType) -> bool:
    if pa.types.is_nested(type):
        return any(_holds_null(type.field(index).type) for index in range(type.num_fields))
    return bool(pa.types.is_null(type))


def _any(tests: Iterable[Callable[[pa.DataType], bool]], type: pa.DataType) -> bool:
    return any(test(type) for test in tests)


def _portable_type(type: pa.DataType) -> pa.DataType | None:
    if isinstance(type, pa.BaseExtensionType):
        return _portable_type(type.storage_type)
    for tests, plain in ((_KEPT, type), (_INT64, pa.int64()), (_INT32, pa.int32())):
        if _any(tests, type):
            return plain
    if pa.types.is_dictionary(type):
        return _portable_type(type.value_type)
    return _portable_nested(type)


def _portable_nested(type: pa.DataType) -> pa.DataType | None:
    if pa.types.is_struct(type):
        fields = [(field, _portable_type(field.type)) for field in type]
        if any(kind is None for _, kind in fields):
            return None
        return pa.struct([field.with_type(kind) for field, kind in fields])
    if pa.types.is_map(type):
        key, item = _portable_type(type.key_type), _portable_type(type.item_type)
        if key is None or item is None:
            return None
        return pa.map_(type.key_field.with_type(key), type.item_field.with_type(item))
    if _any((pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list), type):
        kind = _portable_type(type.value_type)
        return None if kind is None else _list_like(type, kind)
    return None


def _list_like(type: pa.DataType, kind: pa.DataType) -> pa.DataType:
    """The list type with values of another type."""
    field = type.value_field.with_type(kind)
    if pa.types.is_fixed_size_list(type):
        return pa.list_(field, type.list_size)
    return pa.large_list(field) if pa.types.is_large_list(type) else pa.list_(field)


def to_records(table: pa.Table, plain: pa.Schema) -> list[dict[str, Any]]:
    """The rows as JSON values. plain: the table's portable schema."""
    columns: dict[str, list[Any]] = {}
    for field, typed in zip(plain, table.columns, strict=True):
        column = typed if typed.type.equals(field.type) else typed.cast(field.type)
        change = _change(field.type, _to_json, floats=not _finite(column))
        values = column.to_pylist()
        columns[field.name] = values if change is None else [change(value) for value in values]
    if not columns:
        return [{} for _ in range(table.num_rows)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def to_table(records: Iterable[str | bytes], schema: pa.Schema, where: str) -> pa.Table:
    """The table of these JSON texts, in the original schema. `where` names the source in errors.

    Raises DataError where a value does not fit its type.
    """
    plain = portable(schema, where)
    texts = list(records)
    odd = any(_odd_float(text) for text in texts)
    rows = [orjson.loads(text) for text in texts]
    columns = []
    for field, original in zip(plain, schema, strict=True):
        change = _change(field.type, _from_json, floats=odd)
        values = [row.get(field.name) for row in rows]
        if change is not None:
            values = [change(value) for value in values]
        with fitting(field.name, where):
            column = pa.array(values, type=field.type)
            columns.append(column if field.type.equals(original.type) else column.cast(original.type))
    return pa.Table.from_arrays(columns, schema=schema)


@contextmanager
def fitting(field: str, where: str) -> Iterator[None]:
    """Turns what Arrow says of values that do not fit a type into a DataError."""
    try:
        yield
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"{where}: field `{field}` has no single type ({error}), so it fits no typed file. "
            "Export as jsonl, which keeps every record as it is."
        ) from error


def prune(value: Any) -> Any:
    """The value without null members of objects, at any depth.

    A typed container gives every object of a column the members of all; null stands for "has none".
    """
    if isinstance(value, dict):
        return {key: prune(member) for key, member in value.items() if member is not None}
    return [prune(member) for member in value] if isinstance(value, list | tuple) else value


def is_nested(type: pa.DataType) -> bool:
    """Whether values of this type hold other values."""
    return bool(pa.types.is_nested(type))


def _odd_float(text: str | bytes) -> bool:
    if isinstance(text, str):
        return 'NaN"' in text or 'Infinity"' in text
    return b'NaN"' in text or b'Infinity"' in text


def _finite(column: pa.ChunkedArray | pa.Array) -> bool:
    """Whether every float in the column, however deep, is finite."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    arrays: Sequence[pa.Array] = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for array in arrays:
        if pa.types.is_floating(array.type):
            if pc.all(pc.is_finite(array)).as_py() is False:
                return False
        elif pa.types.is_struct(array.type) or pa.types.is_map(array.type):
            parts = [array.keys, array.items] if pa.types.is_map(array.type) else array.flatten()
            if not all(_finite(part) for part in parts):
                return False
        elif pa.types.is_nested(array.type) and not _finite(array.flatten()):
            return False
    return True


def _change(
    type: pa.DataType, leaf: Callable[[pa.DataType, bool], _Change | None], floats: bool
) -> _Change | None:
    """The change of a value of this type that `leaf` asks for at its leaves; None where it asks for none."""
    if pa.types.is_struct(type):
        members = {field.name: _change(field.type, leaf, floats) for field in type}
        changed = {name: change for name, change in members.items() if change is not None}
        if not changed:
            return None
        return lambda value: (
            None
            if value is None
            else {
                name: changed[name](member) if name in changed else member for name, member in value.items()
            }
        )
    if pa.types.is_map(type):
        key = _change(type.key_type, leaf, floats) or _same
        item = _change(type.item_type, leaf, floats) or _same
        return lambda value: None if value is None else [(key(pair[0]), item(pair[1])) for pair in value]
    if pa.types.is_nested(type):
        inner = _change(type.value_type, leaf, floats)
        if inner is None:
            return None
        return lambda value: None if value is None else [inner(member) for member in value]
    return leaf(type, floats)


def _same(value: Any) -> Any:
    return value


def _to_json(type: pa.DataType, floats: bool) -> _Change | None:
    if _any(_BYTES, type):
        return lambda value: None if value is None else base64.b64encode(value).decode()
    if pa.types.is_decimal(type):
        return lambda value: None if value is None else str(value)
    return _float_to_json if floats and pa.types.is_floating(type) else None


def _from_json(type: pa.DataType, floats: bool) -> _Change | None:
    if _any(_BYTES, type):
        return lambda value: None if value is None else base64.b64decode(value)
    if pa.types.is_decimal(type):
        return lambda value: None if value is None else decimal.Decimal(value)
    return _float_from_json if floats and pa.types.is_floating(type) else None


def _float_to_json(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _float_from_json(value: float | str | None) -> float | None:
    return float(value) if isinstance(value, str) else value
