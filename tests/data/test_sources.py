"""Sources: containers, globs, hashes, and what a damaged file says."""

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.feather as feather  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import zstandard

from curate.data.sources import SourceFile, open_source
from curate.data.storage import BadRow, Record
from curate.errors import ConfigError, DataError
from curate.settings import SourceSpec

RECORDS = [{"text": f"row {index}: é"} for index in range(5)]
LINES = [json.dumps(record, ensure_ascii=False).encode() for record in RECORDS]
JSONL = b"\n".join(LINES) + b"\n"


def source(path: Path | str) -> list[SourceFile]:
    return open_source(SourceSpec(name="s", path=str(path)))


def records(path: Path | str, rows: int = 2) -> list[Record]:
    return [record for file in source(path) for chunk in file.chunks(rows) for record in chunk.records()]


def values(path: Path | str, rows: int = 2) -> list[Any]:
    return [record[3] for record in records(path, rows)]


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def csv_bytes() -> bytes:
    return ("text\n" + "".join(f"{record['text']}\n" for record in RECORDS)).encode()


def arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(RECORDS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


CONTAINERS: dict[str, Callable[[Path], Any]] = {
    "a.jsonl": lambda path: path.write_bytes(JSONL),
    "a.ndjson": lambda path: path.write_bytes(JSONL),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(JSONL)),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(JSONL)),
    "two_frames.jsonl.zst": lambda path: path.write_bytes(
        zstandard.compress(JSONL[:40]) + zstandard.compress(JSONL[40:])
    ),
    "array.json": lambda path: path.write_text(json.dumps(RECORDS)),
    "pretty.json": lambda path: path.write_text(json.dumps(RECORDS, indent=2, ensure_ascii=False)),
    "lines.json": lambda path: path.write_bytes(JSONL),
    "a.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(RECORDS).encode())),
    "a.csv": lambda path: path.write_bytes(csv_bytes()),
    "a.tsv": lambda path: path.write_bytes(csv_bytes()),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(csv_bytes())),
    "a.parquet": lambda path: pq.write_table(pa.Table.from_pylist(RECORDS), path, row_group_size=3),
    "a.feather": lambda path: feather.write_feather(pa.Table.from_pylist(RECORDS), str(path)),
    "a.arrow": arrow_stream,
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_every_container_gives_the_same_records(tmp_path: Path, name: str, rows: int) -> None:
    CONTAINERS[name](tmp_path / name)
    assert values(tmp_path / name, rows) == RECORDS


@pytest.mark.parametrize("name", CONTAINERS)
def test_ordinals_and_counts(tmp_path: Path, name: str) -> None:
    CONTAINERS[name](tmp_path / name)
    chunks = list(source(tmp_path / name)[0].chunks(2))
    assert [(chunk.first, chunk.count) for chunk in chunks] == [(0, 2), (2, 2), (4, 1)]
    assert [record[0] for chunk in chunks for record in chunk.records()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", CONTAINERS)
def test_chunks_pickle_and_parse_again(tmp_path: Path, name: str) -> None:
    CONTAINERS[name](tmp_path / name)
    chunk = next(iter(source(tmp_path / name)[0].chunks(2)))
    again = pickle.loads(pickle.dumps(chunk))
    assert list(again.records()) == list(chunk.records()) == list(chunk.records())


# --- JSON Lines -------------------------------------------------------------------------------------


def test_raw_is_the_exact_line(tmp_path: Path) -> None:
    lines = [b'{"text" :  "a"}', b'{"text":"\\u00e9"}\r', b' {"text":1.50} ']
    found = records(write(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert [record[2] for record in found] == lines


def test_blank_lines_are_no_records_but_count_as_lines(tmp_path: Path) -> None:
    found = records(write(tmp_path / "a.jsonl", b'\n{"a":1}\n \n\n{"a":2}\n\n'))
    assert [(ordinal, line) for ordinal, line, _, _ in found] == [(0, 2), (1, 5)]


def test_byte_order_mark_belongs_to_the_file(tmp_path: Path) -> None:
    found = records(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a":1}\n'))
    assert found == [(0, 1, b'{"a":1}', {"a": 1})]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b'{"text": "a"', "bad JSON: "),
        (b"not json", "bad JSON: "),
        (b'{"text": NaN}', "bad JSON: "),
        (b'{"text": "\\ud800"}', "bad JSON: "),
        (b'{"text": "\xff"}', "invalid UTF-8 at byte 10: 0xff"),
        (b'["text"]', "record must be an object. Got a list."),
        (b"null", "record must be an object. Got null."),
    ],
)
def test_a_bad_line_costs_one_row(tmp_path: Path, line: bytes, cause: str) -> None:
    good, bad, rest = records(write(tmp_path / "a.jsonl", b'{"a":1}\n' + line + b'\n{"a":2}\n'))
    assert isinstance(bad[3], BadRow)
    assert bad[3].cause.startswith(cause)
    assert bad[1:3] == (2, line)
    assert (good[3], rest[3]) == ({"a": 1}, {"a": 2})


# --- JSON arrays ------------------------------------------------------------------------------------


def test_array_elements_keep_their_text_on_one_line(tmp_path: Path) -> None:
    found = records(write(tmp_path / "a.json", b'[{"a": 1.50},\n {\n  "b": "x  y",\r\n  "c": [1,\n 2]\n }]'))
    assert [(line, raw) for _, line, raw, _ in found] == [
        (1, b'{"a": 1.50}'),
        (2, b'{"b": "x  y","c": [1,2]}'),
    ]


def test_array_element_that_is_no_object_costs_one_row(tmp_path: Path) -> None:
    found = values(write(tmp_path / "a.json", b'[{"a":1}, 12, {"a":NaN}, "\xff", {"a":2}]'))
    assert [value.cause.split(":")[0] if isinstance(value, BadRow) else value["a"] for value in found] == [
        1, "record must be an object. Got a number.", "bad JSON", "invalid UTF-8 at byte 1", 2,
    ]  # fmt: skip


def test_array_longer_than_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.data.arrays._READ_CHARACTERS", 7)
    rows = [{"a": "x" * index, "b": [index, -1.5e3, True, None, "é\n\\"]} for index in range(40)]
    for indent in (None, 1):
        assert values(write(tmp_path / "a.json", json.dumps(rows, indent=indent).encode())) == rows
    numbers = [10**size for size in range(1, 20)]
    found = records(write(tmp_path / "a.json", json.dumps(numbers).encode()))
    assert [int(raw) for _, _, raw, _ in found] == numbers


@pytest.mark.parametrize(
    "text",
    ['[{"a":1}', '[{"a":1},', '[{"a":1} {"a":2}]', '[{"a":1}]x', '[{"a":1},]', '[{"a":"x', "[{'a':1}]"],
)
def test_broken_array_is_an_error_with_its_place(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.json", text.encode())
    with pytest.raises(DataError, match=r"a\.json:1: the array breaks off here.*\.jsonl"):
        records(path)


def test_empty_array(tmp_path: Path) -> None:
    assert records(write(tmp_path / "a.json", b" [ ] ")) == []


def test_single_object_over_several_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps({"data": RECORDS}, indent=1).encode())
    with pytest.raises(DataError, match="Found a single object over several lines"):
        source(path)


# --- CSV --------------------------------------------------------------------------------------------


def test_csv_quotes_newlines_and_leading_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'\xef\xbb\xbfq,a\r\n"one, ""two""\nthree",007\r\n\r\nx,\r\n')
    assert [(line, value) for _, line, _, value in records(path)] == [
        (2, {"q": 'one, "two"\nthree', "a": "007"}),
        (5, {"q": "x", "a": ""}),
    ]


def test_csv_field_above_the_limit_of_the_standard_library(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"text\n" + b"x" * 300_000 + b"\n")
    assert len(values(path)[0]["text"]) == 300_000


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"1,2,3", "record must have 2 fields, like the header. Got 3."),
        (b'"a"b,2', "bad CSV: "),
        (b"\xff,2", "invalid UTF-8 at byte 0: 0xff"),
    ],
)
def test_a_bad_csv_record_costs_one_row(tmp_path: Path, line: bytes, cause: str) -> None:
    found = records(write(tmp_path / "a.csv", b"q,a\n1,2\n" + line + b"\n3,4\n"))
    assert isinstance(found[1][3], BadRow)
    assert found[1][3].cause.startswith(cause)
    assert found[1][1:3] == (3, line)
    assert found[2][3] == {"q": "3", "a": "4"}


def test_csv_quote_that_is_never_closed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'q\n1\n"2\n3\n')
    with pytest.raises(DataError, match="record of line 3 is never closed"):
        records(path)


@pytest.mark.parametrize("header", [b"q,q\n", b"q,\n"])
def test_csv_header_must_name_every_column_once(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(DataError, match="must name every column once"):
        records(write(tmp_path / "a.csv", header + b"1,2\n"))


# --- damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_cut_off_compressed_file(tmp_path: Path, suffix: str) -> None:
    data = gzip.compress(JSONL) if suffix == "gz" else zstandard.compress(JSONL)
    path = write(tmp_path / f"a.jsonl.{suffix}", data[:-6])
    with pytest.raises(DataError, match="damaged or cut off"):
        records(path)


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst", "parquet", "arrow"])
def test_file_that_is_something_else(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", b"hello, I am plain text")
    with pytest.raises(DataError, match="damaged"):
        records(path)


# --- paths ------------------------------------------------------------------------------------------


def test_glob_in_sorted_order_with_labels_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a", "deep/c"):
        write(tmp_path / f"d/{name}.jsonl", JSONL)
    files = source("d/**/*.jsonl")
    assert [(file.label, file.number) for file in files] == [
        ("d/a.jsonl", 0), ("d/b.jsonl", 1), ("d/deep/c.jsonl", 2),
    ]  # fmt: skip
    assert all(Path(file.path).is_absolute() for file in files)


def test_existing_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    assert len(source(write(tmp_path / "a[1].jsonl", JSONL))) == 1


def test_folder_of_one_kind(tmp_path: Path) -> None:
    write(tmp_path / "d/x/a.jsonl", JSONL)
    write(tmp_path / "d/b.jsonl", JSONL)
    write(tmp_path / "d/README.md", b"hello")
    assert [Path(file.path).name for file in source(tmp_path / "d")] == ["b.jsonl", "a.jsonl"]


def test_folder_of_two_kinds(tmp_path: Path) -> None:
    write(tmp_path / "d/a.jsonl", JSONL)
    write(tmp_path / "d/a.csv", csv_bytes())
    with pytest.raises(DataError, match="Found files of the kinds csv, jsonl; name them with a glob"):
        source(tmp_path / "d")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.jsonl", "none.jsonl: does not exist"),
        ("none/*.jsonl", r"none/\*.jsonl: matches no file"),
        ("empty", "no data file"),
        ("a.txt", r"the extension must be one of .jsonl, .*Rename or convert"),
        ("a.parquet.gz", "the extension must be one of"),
        ("memory://nothing/there.jsonl", "no such file"),
        ("nosuch://x.jsonl", "cannot be reached"),
    ],
)
def test_unusable_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.txt", b"")
    write(tmp_path / "a.parquet.gz", b"")
    with pytest.raises(DataError, match=message):
        source(path)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "array.json", "a.csv", "a.parquet", "a.arrow", "a.feather"]
)
def test_fsspec_url(tmp_path: Path, name: str) -> None:
    CONTAINERS[name](tmp_path / name)
    with fsspec.open(f"memory://data/{tmp_path.name}/{name}", "wb") as stream:
        stream.write((tmp_path / name).read_bytes())
    assert values(f"memory://data/{tmp_path.name}/*") == RECORDS
    assert (
        source(f"memory://data/{tmp_path.name}/{name}")[0].content_hash()
        == source(tmp_path / name)[0].content_hash()
    )


def test_content_hash_is_of_the_bytes_alone(tmp_path: Path) -> None:
    one, same, other = (
        source(write(tmp_path / name, data))[0].content_hash()
        for name, data in (("a.jsonl", JSONL), ("sub/b.jsonl", JSONL), ("c.jsonl", JSONL + b"\n"))
    )
    assert one == same != other
    assert len(one) == 32


def test_arrow_schemas(tmp_path: Path) -> None:
    for name in ("a.jsonl", "array.json", "a.csv", "a.parquet", "a.feather"):
        CONTAINERS[name](tmp_path / name)
    text = pa.schema([("text", pa.string())])
    found = {file.kind: file.arrow_schema() for name in tmp_path.iterdir() for file in source(name)}
    assert found == {"jsonl": None, "json": None, "csv": text, "parquet": text, "arrow": text}


# --- datasets ---------------------------------------------------------------------------------------


def saved(folder: Path, splits: int) -> Path:
    import datasets

    one = datasets.Dataset.from_list(RECORDS)
    if splits:
        datasets.DatasetDict({f"part{index}": one for index in range(splits)}).save_to_disk(str(folder))
    else:
        one.save_to_disk(str(folder), num_shards=2)
    return folder


@pytest.mark.parametrize("splits", [0, 1])
def test_saved_dataset(tmp_path: Path, splits: int) -> None:
    assert values(saved(tmp_path / "ds", splits)) == RECORDS


def test_saved_dataset_of_several_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"splits part0, part1\. Give one: .*ds/part0"):
        source(saved(tmp_path / "ds", 2))


def test_saved_dataset_with_a_missing_file(tmp_path: Path) -> None:
    folder = saved(tmp_path / "ds", 0)
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match="data-00001-of-00002.arrow: is missing"):
        source(folder)


def test_hub_offline() -> None:
    """`conftest` puts the hub offline for all tests."""
    with pytest.raises(
        DataError, match=r"^hub:nobody/nothing@train: the hub cannot be reached.*save_to_disk"
    ):
        source("hub:nobody/nothing@train")


@pytest.mark.parametrize("split", ["@train", ""])
def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    import datasets

    folder = saved(tmp_path / "ds", 0)
    asked: list[Any] = []

    def load(name: str, config: str | None, split: str | None) -> Any:
        asked.append((name, config, split))
        loaded = datasets.load_from_disk(str(folder))
        return loaded if split else datasets.DatasetDict({"train": loaded})

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = source(f"hub:org/name:main{split}")
    assert asked == [("org/name", "main", "train" if split else None)]
    assert [file.label for file in found] == [f"hub:org/name:main{split}#{number}" for number in (0, 1)]
    assert values(f"hub:org/name:main{split}") == RECORDS


def test_hub_of_several_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    one = datasets.Dataset.from_list(RECORDS)
    found = datasets.DatasetDict({"train": one, "test": one})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: found)
    with pytest.raises(DataError, match=r"splits train, test\. Give one: hub:org/name@train"):
        source("hub:org/name")


def test_hub_name_must_be_well_formed() -> None:
    with pytest.raises(ConfigError, match=r"must be hub:ORG/NAME"):
        source("hub:org/name@train[:10%]")
