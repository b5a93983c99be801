"""Typed records: an Arrow table as JSON texts and back, nothing lost."""

import datetime as dt
import decimal
import math
from typing import Any

import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.data.typed import portable, prune, to_records, to_table
from curate.errors import DataError

DECIMAL = decimal.Decimal
MOMENT = dt.datetime(2024, 2, 29, 23, 59, 59, 123456)

COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int64": (pa.int64(), [-(2**63), 2**63 - 1]),
    "uint64": (pa.uint64(), [0, 2**64 - 1]),
    "float64": (pa.float64(), [0.1, -0.0]),
    "float32": (pa.float32(), [0.1, 3e38]),
    "float16": (pa.float16(), [0.5, -2.0]),
    "infinite": (pa.float64(), [math.inf, -math.inf]),
    "bool": (pa.bool_(), [True, False]),
    "null": (pa.null(), [None, None]),
    "large_string": (pa.large_string(), ["é\u2028\x00", ""]),
    "string_view": (pa.string_view(), ["a", "NaN"]),
    "binary": (pa.binary(), [b"\x00\xff", b""]),
    "fixed_binary": (pa.binary(2), [b"\x00\xff", b"ab"]),
    "timestamp_ns": (pa.timestamp("ns"), [2**62 + 1, -1]),
    "timestamp_tz": (pa.timestamp("us", "Europe/Paris"), [MOMENT.replace(tzinfo=dt.UTC), None]),
    "date32": (pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "date64": (pa.date64(), [dt.date(1970, 1, 2), None]),
    "time64_ns": (pa.time64("ns"), [dt.time(23, 59, 59, 999999), None]),
    "time32": (pa.time32("ms"), [dt.time(1, 2, 3), None]),
    "duration": (pa.duration("us"), [dt.timedelta(days=-1, microseconds=1), None]),
    "decimal128": (pa.decimal128(38, 37), [DECIMAL("1E-37"), DECIMAL("-9.5")]),
    "decimal256": (pa.decimal256(60, 2), [DECIMAL("1" * 58 + ".01"), None]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["a", "b"]),
    "list": (pa.list_(pa.float64()), [[1.5, math.inf, None], []]),
    "large_list": (pa.large_list(pa.binary()), [[b"\xff", None], None]),
    "fixed_list": (pa.list_(pa.date32(), 2), [[dt.date(2000, 1, 1), None], None]),
    "struct": (
        pa.struct([("at", pa.timestamp("ms")), ("raw", pa.binary()), ("sum", pa.decimal128(9, 2))]),
        [{"at": MOMENT.replace(microsecond=0), "raw": b"\xff", "sum": DECIMAL("1.10")}, None],
    ),
    "messages": (
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())])),
        [[{"role": "user", "content": "q", "name": None}], []],
    ),
    "map": (pa.map_(pa.string(), pa.list_(pa.float32())), [[("k", [math.inf])], []]),
    "list_of_map": (pa.list_(pa.map_(pa.string(), pa.binary())), [[[("k", b"\xff")]], None]),
    "json": (pa.json_(), ['{"a": 1}', None]),
    "uuid": (pa.uuid(), [b"0123456789abcdef", None]),
}  # fmt: skip


def there_and_back(table: pa.Table) -> pa.Table:
    plain = portable(table.schema, "t")
    return to_table([orjson.dumps(record) for record in to_records(table, plain)], table.schema, "t")


@pytest.mark.parametrize("name", COLUMNS)
def test_round_trip(name: str) -> None:
    kind, values = COLUMNS[name]
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    column = pa.array(values, type=storage)
    if storage is not kind:
        column = pa.ExtensionArray.from_storage(kind, column)
    table = pa.table({"x": column, "i": pa.array([0, 1])})
    back = there_and_back(table)
    back.validate(full=True)
    assert back.schema.equals(table.schema, check_metadata=True)
    assert back.equals(table)


def test_not_a_number_stays_one_and_null_stays_null() -> None:
    table = pa.table({"x": pa.array([math.nan, None, 1.0])})
    back = there_and_back(table)["x"].to_pylist()
    assert math.isnan(back[0])
    assert back[1:] == [None, 1.0]


def test_metadata_of_schema_and_fields_is_kept() -> None:
    field = pa.field("x", pa.timestamp("s"), nullable=False, metadata={"unit": "s"})
    schema = pa.schema([field], metadata={"huggingface": "{}"})
    table = pa.table({"x": pa.array([1, 2], pa.timestamp("s"))}, schema=schema)
    assert there_and_back(table).schema.equals(schema, check_metadata=True)


def test_slice_of_a_table() -> None:
    table = pa.table({"x": pa.array([[b"a"], [b"b", None], None, [b"d"]])})
    assert there_and_back(table.slice(1, 2)).equals(table.slice(1, 2))


@pytest.mark.parametrize(
    "kind",
    [pa.month_day_nano_interval(), pa.dense_union([pa.field("a", pa.int8())]), pa.list_view(pa.int8())],
    ids=str,
)
@pytest.mark.parametrize("nested", [False, True])
def test_type_that_cannot_be_kept(kind: pa.DataType, nested: bool) -> None:
    schema = pa.schema([("x", pa.struct([("y", kind)]) if nested else kind)])
    with pytest.raises(DataError, match=r"f\.parquet: column `x` has the type .*Cast it"):
        portable(schema, "f.parquet")


def test_null_type_beside_times_in_one_column() -> None:
    """Arrow's cast corrupts it; without times there is nothing to cast (see `messages` in test_export)."""
    kind = pa.list_(pa.struct([("at", pa.timestamp("s")), ("n", pa.null())]))
    with pytest.raises(DataError, match="cannot be kept"):
        portable(pa.schema([("x", kind)]), "f.parquet")


def test_name_with_null_in_it_is_no_null_type() -> None:
    kind = pa.struct([("null_share", pa.float64()), ("at", pa.timestamp("s"))])
    table = pa.table({"x": pa.array([{"null_share": 0.5, "at": 1}], kind)})
    assert there_and_back(table).equals(table)


def test_two_columns_of_one_name() -> None:
    with pytest.raises(DataError, match="two columns are named `x`"):
        portable(pa.schema([("x", pa.int8()), ("x", pa.int8())]), "f.parquet")


def test_prune_leaves_out_null_members_at_any_depth() -> None:
    assert prune([{"a": None, "b": [{"c": None, "d": 0}]}, None]) == [{"b": [{"d": 0}]}, None]


leaves = st.sampled_from(
    [pa.int32(), pa.float64(), pa.string(), pa.binary(), pa.timestamp("us"), pa.decimal128(12, 3), pa.bool_()]
)
types = st.recursive(
    leaves,
    lambda inner: (
        inner.map(pa.list_) | st.tuples(inner, inner).map(lambda two: pa.struct(zip("ab", two, strict=True)))
    ),
    max_leaves=4,
)


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_list(kind):
        inner = st.lists(values_of(kind.value_type), max_size=3)
    elif pa.types.is_struct(kind):
        inner = st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    else:
        inner = {
            pa.int32(): st.integers(-(2**31), 2**31 - 1),
            pa.float64(): st.floats(allow_nan=False),
            pa.string(): st.text(max_size=5) | st.just("NaN"),
            pa.binary(): st.binary(max_size=5),
            pa.timestamp("us"): st.datetimes(),
            pa.decimal128(12, 3): st.decimals(-(10**8), 10**8, places=3),
            pa.bool_(): st.booleans(),
        }[kind]
    return st.none() | inner


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_round_trip_of_any_nesting(data: st.DataObject) -> None:
    kind = data.draw(types)
    table = pa.table({"x": pa.array(data.draw(st.lists(values_of(kind), min_size=1, max_size=4)), type=kind)})
    assert there_and_back(table).equals(table)
