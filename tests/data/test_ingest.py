"""Ingest: the shard's columns, the quarantine, the format of a source; and its memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from curate.data.ingest import read_shard, resolve_format
from curate.data.rows import shard_schema
from curate.data.sources import open_source
from curate.errors import ConfigError, DataError
from curate.settings import SourceSpec

PAIR = {"prompt": "What is two and two?", "response": "four"}


def resolved(path: Path | str, **fields: Any) -> SourceSpec:
    spec = SourceSpec(name="s", path=str(path), **fields)
    return spec.model_copy(update={"format": resolve_format(spec, open_source(spec))})


def shards(spec: SourceSpec, rows: int = 1000, **options: Any) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    frames, bad = [], []
    for index, file in enumerate(open_source(spec)):
        for chunk in file.chunks(rows):
            frame, wrong = read_shard(chunk, spec, index, **options)
            frames.append(frame)
            bad += wrong
    return pl.concat(frames), bad


def jsonl(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_columns_of_a_row(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", {**PAIR, "rejected": "five", "tools": [{"name": "f"}], "lang": "en", "n": [1]}
    )
    spec = resolved(path, metadata=("lang", "n"))
    frame, bad = shards(spec)
    row = frame.row(0, named=True)
    assert bad == []
    assert frame.schema == shard_schema(("lang", "n"))
    assert json.loads(row["messages"]) == [
        {"role": "user", "content": PAIR["prompt"]},
        {"role": "assistant", "content": "four"},
    ]
    assert json.loads(row["rejected"])[1] == {"role": "assistant", "content": "five"}
    assert json.loads(row["tools"]) == [{"name": "f"}]
    assert (row["prompt"], row["response"]) == (PAIR["prompt"], "four")
    assert (row["source"], row["id"], row["position"]) == ("s", "s:0", 0)
    assert (row["meta.lang"], row["meta.n"]) == ("en", "[1]")
    assert row["record"] + "\n" == path.read_text()


def test_positions_and_ids_of_several_files(tmp_path: Path) -> None:
    for name in "ab":
        jsonl(tmp_path / f"{name}.jsonl", PAIR, {**PAIR, "id": name}, PAIR)
    frame, _ = shards(resolved(tmp_path / "*.jsonl"), rows=2)
    assert frame["position"].to_list() == [0, 1, 2, 1 << 40, (1 << 40) + 1, (1 << 40) + 2]
    assert frame["id"].to_list() == ["s:0", "a", "s:2", "s:1:0", "b", "s:1:2"]


def test_shards_do_not_depend_on_the_chunks(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", *({**PAIR, "id": index} for index in range(7)))
    assert shards(resolved(path), rows=2)[0].equals(shards(resolved(path), rows=5)[0])


def test_exact_duplicates_share_uid_and_group_across_formats(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", PAIR)
    jsonl(tmp_path / "b.jsonl", {"instruction": PAIR["prompt"], "output": "four"})
    messages = [
        {"role": "user", "content": PAIR["prompt"]},
        {"role": "assistant", "content": "four", "name": None},
    ]
    pq.write_table(pa.Table.from_pylist([{"messages": messages}]), tmp_path / "c.parquet")
    frames = [shards(resolved(tmp_path / name))[0] for name in ("a.jsonl", "b.jsonl", "c.parquet")]
    assert pl.concat(frames).select("uid", "group", "start").unique().height == 1


def test_a_mapped_group_stands_beside_the_start(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {**PAIR, "doc": "d7"}, PAIR)
    frame, _ = shards(resolved(tmp_path / "a.jsonl", columns={"group": "doc"}))
    assert frame["group"].to_list() == ["d7", frame["start"][0]]
    assert frame["start"].n_unique() == 1


def test_null_members_of_typed_records_do_not_count(tmp_path: Path) -> None:
    """A typed container gives each tool the members of all."""
    tools = [[{"name": "f", "city": "x"}], [{"name": "g", "day": 1}]]
    rows = [{**PAIR, "tools": each} for each in tools]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    one, two = (shards(resolved(file))[0] for file in (path, tmp_path / "a.parquet"))
    assert one["tools"].to_list() == two["tools"].to_list()
    assert one["uid"].to_list() == two["uid"].to_list()


def test_quarantine_entry(tmp_path: Path) -> None:
    frame, bad = shards(resolved(jsonl(tmp_path / "a.jsonl", PAIR, {"prompt": "q", "response": ""}, PAIR)))
    assert bad == [
        {
            "position": 1,
            "id": "s:1",
            "line": 2,
            "source": "s",
            "cause": "empty response",
            "record": '{"prompt": "q", "response": ""}',
        }
    ]
    assert frame["position"].to_list() == [0, 2]


def test_quarantined_records_have_the_ids_that_rows_would_have(tmp_path: Path) -> None:
    wrong = [{"prompt": "q", "key": key} for key in ("mine", 7, None, [1])]
    for name in "ab":
        jsonl(tmp_path / f"{name}.jsonl", PAIR, *wrong, "no object", {**PAIR, "key": ""})
    spec = resolved(tmp_path / "*.jsonl", columns={"id": "key"}, format="prompt_completion")
    frame, bad = shards(spec)
    assert frame["id"].to_list() == ["s:0", "", "s:1:0", ""]
    assert [each["id"] for each in bad] == [
        "mine", "7", "s:3", "s:4", "s:5", "mine", "7", "s:1:3", "s:1:4", "s:1:5",
    ]  # fmt: skip
    assert [each["position"] for each in bad[4:6]] == [5, (1 << 40) + 1]


def test_quarantined_record_is_cut_and_always_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(PAIR).encode() + b"\n" + b"\xff" * 9000 + b"\n")
    _, bad = shards(resolved(path))
    assert bad[0]["cause"].startswith("invalid UTF-8")
    assert bad[0]["record"] == "\ufffd" * 2000


def test_chunk_without_a_good_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", PAIR, {})
    frame, bad = shards(resolved(path, format="prompt_completion", metadata=("prompt",)), rows=1)
    assert (frame.height, len(bad)) == (1, 1)
    assert frame.schema == shard_schema(("prompt",))


def test_metadata_of_other_sources_is_null(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**PAIR, "lang": "en", "topic": "x"})
    frame, _ = shards(resolved(path, metadata=("lang",)), metadata=("topic", "lang"))
    assert frame.select("meta.topic", "meta.lang").row(0) == (None, "en")


def test_record_without_a_metadata_field_is_null_there(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**PAIR, "lang": "en"}, PAIR)
    assert shards(resolved(path, metadata=("lang",)))[0]["meta.lang"].to_list() == ["en", None]


def test_auto_must_be_resolved_first(tmp_path: Path) -> None:
    spec = SourceSpec(name="s", path=str(jsonl(tmp_path / "a.jsonl", PAIR)))
    with pytest.raises(ConfigError, match="must be resolved"):
        shards(spec)


# --- the format of a source -------------------------------------------------------------------------


def test_format_comes_from_the_first_file_that_has_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    jsonl(tmp_path / "b.jsonl", PAIR)
    assert resolved(tmp_path / "*.jsonl").format == "prompt_completion"


def test_given_format_is_kept(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**PAIR, "text": "t"})
    assert resolved(path, format="text").format == "text"


def test_undetectable_format_names_source_and_path(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"frage": "q"})
    with pytest.raises(DataError, match=r"source s \(.*a\.jsonl\): .*Found the fields `frage`"):
        resolved(path)


@pytest.mark.parametrize("content", ["", "broken\n"])
def test_source_without_a_readable_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match="holds no record that can be read"):
        resolved(tmp_path / "a.jsonl")


@pytest.mark.parametrize("fields", [{"columns": {"response": "respons"}}, {"metadata": ("respons",)}])
def test_field_that_no_record_has(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = jsonl(tmp_path / "a.jsonl", PAIR)
    with pytest.raises(DataError, match="unknown field `respons`. Did you mean `response`"):
        resolved(path, **fields)


def test_files_of_one_source_must_agree_on_types(tmp_path: Path) -> None:
    for name, unit in (("a", "s"), ("b", "ms")):
        table = pa.table({"text": ["t"], "at": pa.array([1], pa.timestamp(unit))})
        pq.write_table(table.cast(table.schema), tmp_path / f"{name}.arrow", version="2.6")
        with (
            pa.OSFile(str(tmp_path / f"{name}.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    with pytest.raises(
        DataError, match=r"column `at` is timestamp\[s\] in .*a\.arrow and timestamp\[ms\] in"
    ):
        resolved(tmp_path / "*.arrow")


# --- memory -----------------------------------------------------------------------------------------

MEASURE = """
import sys
import psutil
from curate.data.ingest import read_shard
from curate.data.sources import open_source
from curate.settings import SourceSpec

spec = SourceSpec(name="s", path=sys.argv[1], format="prompt_completion")
process, rows, peak = psutil.Process(), 0, 0
for chunk in open_source(spec)[0].chunks(2048):
    frame, bad = read_shard(chunk, spec, 0)
    rows += frame.height
    peak = max(peak, process.memory_info().rss)
print(rows, peak >> 20)
"""


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    """30,000 rows of 2 kB (60 MB, in Parquet one row group), 240 MB as columns, held a chunk at a time."""
    rows, path = 30_000, tmp_path / f"a.{suffix}"
    answer = "word " * 400
    if suffix == "parquet":
        texts = [f"{index} {answer}" for index in range(rows)]
        pq.write_table(pa.table({"prompt": texts, "response": texts}), path, row_group_size=rows)
    else:
        before, between, after = ("[", ",\n", "]") if suffix == "json" else ("", "\n", "\n")
        with path.open("w") as stream:
            stream.write(before)
            for index in range(rows):
                stream.write(f'{between if index else ""}{{"prompt": "q {index}", "response": "{answer}"}}')
            stream.write(after)
    run = [sys.executable, "-c", MEASURE, str(path)]
    done, peak_mib = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert int(done) == rows
    assert int(peak_mib) < 280
