"""Export: what was read comes out as it was."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.data.export import dataset, export, pairs
from curate.data.ingest import read_shard, resolve_format
from curate.data.schemas import merge, source_schema
from curate.data.sources import open_source
from curate.errors import ConfigError, DataError
from curate.settings import SourceSpec

Rows = list[tuple[str, str]]
Schemas = dict[str, pa.Schema | None]

TYPED = pa.table(
    {
        "prompt": ["a", "b", "c"],
        "response": pa.array(["x", "y", "z"], pa.large_string()),
        "at": pa.array([1, None, 2**62], pa.timestamp("ns")),
        "raw": pa.array([b"\xff", None, b""]),
        "label": pa.array(["p", "q", "p"]).dictionary_encode(),
        "turns": pa.array([[{"who": "u", "n": None}], [], None], pa.list_(pa.struct([("who", pa.string()), ("n", pa.null())]))),
    }
)  # fmt: skip


def ingest(path: Path | str, name: str = "s", **fields: Any) -> tuple[Rows, Schemas]:
    spec = SourceSpec(name=name, path=str(path), **fields)
    files = open_source(spec)
    spec = spec.model_copy(update={"format": resolve_format(spec, files)})
    frames = [read_shard(chunk, spec, 0)[0] for file in files for chunk in file.chunks(2)]
    return list(pairs(frames)), {name: source_schema(files, name)}


def several(*sources: tuple[Rows, Schemas]) -> tuple[Rows, Schemas]:
    """The sources' rows by turns."""
    rows = [row for group in zip(*(rows for rows, _ in sources), strict=True) for row in group]
    return rows, {name: schema for _, schemas in sources for name, schema in schemas.items()}


def write_jsonl(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# --- JSONL ------------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
records = st.fixed_dictionaries(
    {
        "prompt": st.text(min_size=1).filter(lambda text: not text.isspace()),
        "response": st.text(min_size=1).filter(lambda text: not text.isspace()),
    },
    optional={"extra": values, "é": values},
)


@given(st.lists(st.tuples(records, st.booleans(), st.sampled_from(["", " ", "\r"])), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_jsonl_comes_out_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("round")
    path = folder / "a.jsonl"
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=ascii) + end + "\n" for row, ascii, end in rows), newline=""
    )
    result = export(*ingest(path), folder / "out")
    assert [file.read_bytes() for file in result.files] == [path.read_bytes()]


def test_jsonl_keeps_the_order_given_across_sources(tmp_path: Path) -> None:
    one = ingest(write_jsonl(tmp_path / "a.jsonl", [{"text": "1"}, {"text": "3"}]), "one")
    two = ingest(write_jsonl(tmp_path / "b.jsonl", [{"text": "2"}, {"text": "4"}]), "two")
    result = export(*several(one, two), tmp_path / "out")
    lines = result.files[0].read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["1", "2", "3", "4"]


def test_a_repeated_row_is_written_again(tmp_path: Path) -> None:
    rows, schemas = ingest(write_jsonl(tmp_path / "a.jsonl", [{"text": "1"}]))
    result = export(rows * 2, schemas, tmp_path / "out")
    assert result.rows == 2
    assert result.files[0].read_text() == '{"text": "1"}\n' * 2


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_rows_per_file(tmp_path: Path, format: Any) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": str(index)} for index in range(5)])
    result = export(*ingest(path), tmp_path / "out", format, rows_per_file=2)
    assert [file.name for file in result.files] == [f"data-0000{number}.{format}" for number in range(3)]
    read = pl.read_ndjson if format == "jsonl" else pl.read_parquet
    assert [read(file)["text"].to_list() for file in result.files] == [["0", "1"], ["2", "3"], ["4"]]


def test_typed_rows_as_jsonl(tmp_path: Path) -> None:
    pq.write_table(TYPED, tmp_path / "a.parquet")
    result = export(*ingest(tmp_path / "a.parquet"), tmp_path / "out")
    first = json.loads(result.files[0].read_text().splitlines()[0])
    assert first == {
        "prompt": "a", "response": "x", "at": 1, "raw": "/w==", "label": "p", "turns": [{"who": "u", "n": None}],
    }  # fmt: skip


# --- Parquet ----------------------------------------------------------------------------------------


def test_parquet_comes_out_with_its_own_types(tmp_path: Path) -> None:
    pq.write_table(TYPED, tmp_path / "a.parquet")
    original = pq.read_table(tmp_path / "a.parquet")
    result = export(*ingest(tmp_path / "a.parquet"), tmp_path / "out", "parquet")
    back = pq.read_table(result.files[0])
    assert back.schema.equals(original.schema, check_metadata=True)
    assert back.equals(original)


def test_jsonl_to_parquet_infers_over_all_records(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [{"text": "1", "n": 1}, {"text": "2", "tags": ["x"]}, {"text": "3", "n": 1.5, "tags": []}],
    )
    table = pq.read_table(export(*ingest(path), tmp_path / "out", "parquet").files[0])
    assert table.to_pylist() == [
        {"text": "1", "n": 1.0, "tags": None},
        {"text": "2", "n": None, "tags": ["x"]},
        {"text": "3", "n": 1.5, "tags": []},
    ]


def test_field_that_is_null_at_first_gets_its_type_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.data.export._BLOCK_ROWS", 1)
    turns = [
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": n}]
        for n in (None, "n")
    ]
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": messages} for messages in turns])
    table = pq.read_table(export(*ingest(path), tmp_path / "out", "parquet").files[0])
    table.validate(full=True)
    assert [row["messages"][1]["name"] for row in table.to_pylist()] == [None, "n"]


def test_field_of_two_types_fits_no_parquet(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "1", "n": 1}, {"text": "2", "n": "two"}])
    with pytest.raises(DataError, match=r"source s: field `n` has no single type .*Export as jsonl"):
        export(*ingest(path), tmp_path / "out", "parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jsonl"]


def test_sources_are_merged_by_promotion_in_the_order_given(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["1", "3"], "n": pa.array([1, 3], pa.int8())}), tmp_path / "a.parquet")
    path = write_jsonl(tmp_path / "b.jsonl", [{"text": "2", "n": 2.5}, {"text": "4", "more": True}])
    rows = several(ingest(tmp_path / "a.parquet", "one"), ingest(path, "two"))
    result = export(*rows, tmp_path / "out", "parquet")
    assert not result.separate
    assert result.folders == {"one": tmp_path / "out", "two": tmp_path / "out"}
    assert pq.read_table(result.files[0]).to_pylist() == [
        {"text": "1", "n": 1.0, "more": None},
        {"text": "2", "n": 2.5, "more": None},
        {"text": "3", "n": 3.0, "more": None},
        {"text": "4", "n": None, "more": True},
    ]


def test_order_across_sources_is_restored(tmp_path: Path) -> None:
    schemas: Schemas = {"one": None, "two": None, "three": None}
    order = ["one", "two", "two", "three", "one", "three", "two"]
    rows = [(json.dumps({"i": index}), source) for index, source in enumerate(order)]
    table = pq.read_table(export(rows, schemas, tmp_path / "out", "parquet").files[0])
    assert table["i"].to_pylist() == list(range(7))


def test_nested_member_that_one_source_never_fills(tmp_path: Path) -> None:
    rows = [
        (json.dumps({"m": [{"a": "x", "n": n}, {"a": "y"}]}), source)
        for n, source in ((None, "one"), ("z", "two"))
    ]
    table = pq.read_table(export(rows, {"one": None, "two": None}, tmp_path / "out", "parquet").files[0])
    table.validate(full=True)
    assert [row["m"][0]["n"] for row in table.to_pylist()] == [None, "z"]
    assert [row["m"][1] for row in table.to_pylist()] == [{"a": "y", "n": None}] * 2


def test_nested_member_that_no_source_fills(tmp_path: Path) -> None:
    """Arrow's cast of `v` would cut the list of nulls beside it short."""
    rows = [
        (json.dumps({"m": [{"v": v, "i": [{"n": None}] * 3}] * 2}), name)
        for v, name in ((1, "one"), (1.5, "two"))
    ]
    table = pq.read_table(export(rows, {"one": None, "two": None}, tmp_path / "out", "parquet").files[0])
    table.validate(full=True)
    assert table.to_pylist() == [{"m": [{"v": v, "i": [{"n": None}] * 3}] * 2} for v in (1.0, 1.5)]


def test_merged_schemas_lose_metadata_that_may_differ() -> None:
    fields = [("label", pa.int64())]
    one, two = (pa.schema(fields, metadata={"huggingface": names}) for names in ("no yes", "yes no"))
    assert merge({"a": one, "b": one}).metadata == {b"huggingface": b"no yes"}
    assert merge({"a": one, "b": two}).metadata is None


def test_files_of_one_source_with_other_columns_lose_metadata(tmp_path: Path) -> None:
    for name, column in (("a", "x"), ("b", "y")):
        table = pa.table({"text": ["t"], column: [1]}).replace_schema_metadata({"huggingface": column})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    _, schemas = ingest(tmp_path / "*.parquet")
    assert schemas["s"].names == ["text", "x", "y"]
    assert schemas["s"].metadata is None


def test_times_of_two_units_are_merged_by_value(tmp_path: Path) -> None:
    sources = []
    for name, unit in (("one", "us"), ("two", "ms")):
        table = pa.table({"text": [name], "at": pa.array([1000], pa.timestamp(unit))})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        sources.append(ingest(tmp_path / f"{name}.parquet", name))
    table = pq.read_table(export(*several(*sources), tmp_path / "out", "parquet").files[0])
    assert table["at"].cast(pa.int64()).to_pylist() == [1000, 1_000_000]


def parquet(path: Path, name: str, **columns: Any) -> tuple[Rows, Schemas]:
    """A Parquet source of rows with a text and these columns."""
    size = len(next(iter(columns.values())))
    pq.write_table(pa.table({"text": [f"{name} {row}" for row in range(size)], **columns}), path / name)
    return ingest(path / name, name)


def test_decimals_beside_numbers_are_merged_by_value(tmp_path: Path) -> None:
    price = pa.array([Decimal("1.10"), None], pa.decimal128(10, 2))
    one = parquet(tmp_path, "one.parquet", price=price)
    json_rows = [{"text": "a", "price": 2}, {"text": "b", "price": 3}]
    two = ingest(write_jsonl(tmp_path / "two.jsonl", json_rows), "two")
    exact = pq.read_table(export(*several(one, two), tmp_path / "exact", "parquet").files[0])
    assert exact["price"].to_pylist() == [Decimal("1.10"), 2, None, 3]
    two = ingest(write_jsonl(tmp_path / "two.jsonl", [*json_rows[:1], {"text": "b", "price": 0.5}]), "two")
    floats = pq.read_table(export(*several(one, two), tmp_path / "floats", "parquet").files[0])
    assert floats["price"].to_pylist() == [1.1, 2.0, None, 0.5]


def test_members_of_own_encoding_beside_promoted_ones(tmp_path: Path) -> None:
    sources = []
    for name, unit, number, price in (
        ("one.parquet", "us", pa.int64(), pa.decimal128(5, 2)),
        ("two.parquet", "ms", pa.float64(), pa.float64()),
    ):
        kind = pa.list_(pa.struct([("at", pa.timestamp(unit)), ("n", number), ("price", price)]))
        price_value = Decimal("1.10") if "one" in name else 1.25
        made = pa.array([[{"at": 1_000_000, "n": 1, "price": price_value}]], kind)
        sources.append(parquet(tmp_path, name, made=made))
    table = pq.read_table(export(*several(*sources), tmp_path / "out", "parquet").files[0])
    table.validate(full=True)
    members = table["made"].combine_chunks().flatten()
    assert members.field("at").cast(pa.int64()).to_pylist() == [1_000_000, 1_000_000_000]
    assert members.field("price").to_pylist() == [1.1, 1.25]


def test_member_whose_cast_would_cut_nulls_keeps_the_sources_apart(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("price", pa.decimal128(5, 2))]))
    one = parquet(tmp_path, "one.parquet", m=pa.array([[{"price": Decimal("1.10")}] * 3], kind))
    rows = [{"text": "a", "m": [{"price": 0.5, "n": None}]}]
    two = ingest(write_jsonl(tmp_path / "two.jsonl", rows), "two")
    result = export(*several(one, two), tmp_path / "out", "parquet")
    assert [pq.read_table(result.folders[name])["m"].to_pylist() for name in ("one.parquet", "two")] == [
        [[{"price": Decimal("1.10")}] * 3],
        [rows[0]["m"]],
    ]


@pytest.mark.parametrize("nested", [False, True])
def test_bytes_and_text_are_never_mixed(tmp_path: Path, nested: bool) -> None:
    values = {"one.parquet": b"\xff\x00", "two": "not base64!"}
    if nested:
        values = {name: [value] for name, value in values.items()}  # type: ignore[misc]
    one = parquet(tmp_path, "one.parquet", raw=pa.array([values["one.parquet"]]))
    two = ingest(write_jsonl(tmp_path / "b.jsonl", [{"text": "2", "raw": values["two"]}]), "two")
    result = export(*several(one, two), tmp_path / "out", "parquet")
    assert result.separate
    for name, value in values.items():
        assert pq.read_table(result.folders[name])["raw"].to_pylist() == [value]
    with pytest.raises(DataError, match="cannot be merged"):
        dataset(*several(one, two))


def test_row_without_a_field_keeps_its_place_among_others(tmp_path: Path) -> None:
    rows = [("{}", "one"), ('{"i": 1}', "two"), ("{}", "one"), ('{"i": 2}', "two")]
    table = pq.read_table(export(rows, {"one": None, "two": None}, tmp_path / "out", "parquet").files[0])
    assert table["i"].to_pylist() == [None, 1, None, 2]


LARGE = 2**53 + 1
"""The first whole number that is no float64."""


@pytest.mark.parametrize("block", [1, 2])
def test_whole_numbers_that_a_float_would_change_fit_no_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("curate.data.export._BLOCK_ROWS", block)
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "1", "n": LARGE}, {"text": "2", "n": 0.5}])
    with pytest.raises(DataError, match=r"source s: field `n` has no single type .*Export as jsonl"):
        export(*ingest(path), tmp_path / "out", "parquet")


def test_whole_numbers_of_another_source_that_a_float_would_change(tmp_path: Path) -> None:
    one = parquet(tmp_path, "one.parquet", n=[LARGE])
    two = ingest(write_jsonl(tmp_path / "two.jsonl", [{"text": "1", "n": 0.5}]), "two")
    message = r"source one.parquet: field `n` has no single type .*Export as jsonl"
    with pytest.raises(DataError, match=message):
        export(*several(one, two), tmp_path / "out", "parquet")
    with pytest.raises(DataError, match=message):
        dataset(*several(one, two))


def test_field_that_blocks_disagree_on_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.data.export._BLOCK_ROWS", 1)
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "1", "x": 1}, {"text": "2", "x": "two"}])
    with pytest.raises(DataError, match=r"source s: field `x` has no single type .*Export as jsonl"):
        export(*ingest(path), tmp_path / "out", "parquet")


def test_object_that_is_always_empty_fits_no_parquet(tmp_path: Path) -> None:
    rows = ingest(write_jsonl(tmp_path / "a.jsonl", [{"text": "1", "metadata": {}}] * 2))
    with pytest.raises(DataError, match=r"source s: field `metadata` cannot be written .*Export as jsonl"):
        export(*rows, tmp_path / "out", "parquet")
    assert dataset(*rows)["metadata"][:] == [{}, {}]


def test_type_that_datasets_does_not_have(tmp_path: Path) -> None:
    rows = parquet(tmp_path, "one.parquet", m=pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())))
    with pytest.raises(DataError, match=r"source one.parquet: field `m` cannot be written as hf"):
        export(*rows, tmp_path / "out", "hf")
    with pytest.raises(DataError, match=r"source one.parquet: field `m` cannot be written as hf"):
        dataset(*rows)


@pytest.mark.parametrize("format", ["parquet", "hf"])
def test_rows_without_any_field_fit_no_typed_file(tmp_path: Path, format: Any) -> None:
    rows = [("{}", "s")] * 3
    with pytest.raises(DataError, match=r"no row has a field.*Export as jsonl"):
        export(rows, {"s": None}, tmp_path / "out", format)
    with pytest.raises(DataError, match=r"no row has a field.*Export as jsonl"):
        dataset(rows, {"s": None})


@pytest.mark.parametrize("format", ["parquet", "hf"])
def test_incompatible_sources_get_a_folder_each(tmp_path: Path, format: Any) -> None:
    one = ingest(write_jsonl(tmp_path / "a.jsonl", [{"text": "1", "n": 1}, {"text": "2", "n": 2}]), "one")
    two = ingest(write_jsonl(tmp_path / "b.jsonl", [{"text": "3", "n": "x"}, {"text": "4", "n": "y"}]), "two")
    result = export(*several(one, two), tmp_path / "out", format)
    assert result.separate
    assert result.folders == {"one": tmp_path / "out/one", "two": tmp_path / "out/two"}
    again = [ingest(result.folders[name], name)[0] for name in ("one", "two")]
    assert [[json.loads(record)["n"] for record, _ in rows] for rows in again] == [[1, 2], ["x", "y"]]


def test_no_rows_keep_the_schema(tmp_path: Path) -> None:
    pq.write_table(TYPED, tmp_path / "a.parquet")
    _, schemas = ingest(tmp_path / "a.parquet")
    result = export([], schemas, tmp_path / "out", "parquet")
    table = pq.read_table(result.files[0])
    assert (result.rows, table.num_rows, table.column_names) == (0, 0, TYPED.column_names)


# --- datasets ---------------------------------------------------------------------------------------


def test_save_to_disk_round_trip_keeps_the_features(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    one = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 1]}, features=features)
    one.save_to_disk(str(tmp_path / "ds"))
    result = export(*ingest(tmp_path / "ds"), tmp_path / "out", "hf", rows_per_file=2)
    back = datasets.load_from_disk(str(tmp_path / "out"))
    assert back.features == one.features
    assert back.to_list() == one.to_list()
    assert sum(file.suffix == ".arrow" for file in result.files) == 2


def test_dataset_in_memory(tmp_path: Path) -> None:
    pq.write_table(TYPED.drop(["turns", "label"]), tmp_path / "a.parquet")
    made = dataset(*ingest(tmp_path / "a.parquet"))
    assert made.data.table.schema.field("at").type == pa.timestamp("ns")
    assert made["response"][:] == ["x", "y", "z"]


def test_dataset_of_json_rows(tmp_path: Path) -> None:
    rows = [{"text": "1", "n": None}, {"text": "2", "n": 2}]
    assert dataset(*ingest(write_jsonl(tmp_path / "a.jsonl", rows))).to_list() == rows


def test_dataset_of_incompatible_sources(tmp_path: Path) -> None:
    one = ingest(write_jsonl(tmp_path / "a.jsonl", [{"text": "1", "n": 1}]), "one")
    two = ingest(write_jsonl(tmp_path / "b.jsonl", [{"text": "3", "n": "x"}]), "two")
    with pytest.raises(DataError, match="sources one, two cannot be merged"):
        dataset(*several(one, two))


# --- the folder -------------------------------------------------------------------------------------


def test_csv_comes_out_as_text_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,response,n\nq,a,007\n")
    table = pq.read_table(export(*ingest(tmp_path / "a.csv"), tmp_path / "out", "parquet").files[0])
    assert table.to_pylist() == [{"prompt": "q", "response": "a", "n": "007"}]


def test_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(ConfigError, match="must be a new or an empty folder"):
        export([], {}, out)
    assert [file.name for file in out.iterdir()] == ["mine"]


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export([("{}", "s")], {"s": None}, tmp_path / "out").rows == 1


def test_nothing_is_left_of_an_export_that_failed(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[str, str]]:
        yield "{}", "s"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        export(rows(), {"s": None}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be one of jsonl, parquet, hf. Got 'csv'"):
        export([], {}, tmp_path / "out", "csv")  # type: ignore[arg-type]
