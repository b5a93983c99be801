"""The store: atomic shards, checksums, locks."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.store import Entry, Manifest, fingerprint, replacing


def frame(first: int, rows: int) -> pl.DataFrame:
    return pl.DataFrame({"position": np.arange(first, first + rows), "value": np.arange(rows) * 0.5})


def seal(entry: Entry) -> Manifest:
    shards = tuple(sorted(entry.finished().values(), key=lambda shard: shard.file))
    rows = sum(shard.rows for shard in shards)
    manifest = Manifest("toy", entry.fingerprint, {}, {}, shards, rows, None, None, 0, {}, 0, 0.0, 0, {})
    entry.seal(manifest)
    return manifest


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    entry = Entry(tmp_path, "toy", "0123456789abcdef")
    entry.write_shard("shard-00000.parquet", frame(0, 3), {})
    entry.write_shard("shard-00001.parquet", frame(3, 2), {"tokens": 7})
    return entry


def test_a_shard_is_finished_once_it_is_written(entry: Entry) -> None:
    assert sorted(entry.finished()) == ["shard-00000.parquet", "shard-00001.parquet"]


def test_a_shard_remembers_its_range_and_stats(entry: Entry) -> None:
    shard = entry.finished()["shard-00001.parquet"]
    assert (shard.first, shard.last, shard.rows, shard.stats) == (3, 4, 2, {"tokens": 7})


def test_an_entry_without_manifest_is_not_complete(entry: Entry) -> None:
    assert entry.manifest() is None


def test_a_sealed_entry_gives_its_manifest_back(entry: Entry) -> None:
    written = seal(entry)
    assert entry.manifest() == written


def test_sealing_leaves_only_shards_and_manifest(entry: Entry) -> None:
    seal(entry)
    names = {path.name for path in entry.folder.iterdir()}
    assert names == {"shard-00000.parquet", "shard-00001.parquet", "manifest.json"}


def test_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    entries = [Entry(tmp_path / name, "toy", "0") for name in ("a", "b")]
    sums = {entry.write_shard("shard-00000.parquet", frame(0, 100), {}).checksum for entry in entries}
    assert len(sums) == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_a_damaged_shard_is_removed_and_its_neighbour_stays(entry: Entry, sealed: bool) -> None:
    if sealed:
        seal(entry)
    path = entry.folder / "shard-00000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert sorted(entry.finished()) == ["shard-00001.parquet"]
    assert entry.manifest() is None
    assert not path.exists()
    assert sorted(entry.finished()) == ["shard-00001.parquet"], "the neighbour's record survived the manifest"


def test_a_shard_whose_record_was_not_written_is_not_finished(entry: Entry) -> None:
    (entry.folder / "shard-00000.json").unlink()
    assert sorted(entry.finished()) == ["shard-00001.parquet"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})


def test_a_fingerprint_depends_on_every_value() -> None:
    assert fingerprint({"a": 1, "b": [2]}) != fingerprint({"a": 1, "b": [3]})


def hold(root: Path, held: "multiprocessing.synchronize.Event", seconds: float) -> None:
    with Entry(root, "toy", "0").lock(print):
        held.set()
        time.sleep(seconds)
        (root / "order").write_text("first")


def test_a_lock_makes_another_process_wait_and_say_so(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, 1.0))
    process.start()
    assert held.wait(60)
    told: list[str] = []
    with Entry(tmp_path, "toy", "0").lock(told.append):
        assert (tmp_path / "order").read_text() == "first"
    process.join()
    assert told == ["toy-0"]


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, 60.0))
    process.start()
    assert held.wait(60)
    process.kill()
    process.join()
    with Entry(tmp_path, "toy", "0").lock(print):
        pass


def test_an_artifact_may_hold_a_table_and_a_json_of_one_name(tmp_path: Path) -> None:
    entry = Entry(tmp_path, "toy", "0123456789abcdef")
    out = entry.work / "out"
    out.mkdir(parents=True)
    frame(0, 3).write_parquet(out / "search.parquet")
    (out / "search.json").write_text("{}")
    shards = tuple(entry.adopt_files(out))
    entry.seal(Manifest("toy", entry.fingerprint, {}, {}, shards, 0, None, None, 0, {}, 0, 0.0, 0, {}))
    assert sorted(path.name for path in entry.files.iterdir()) == ["search.json", "search.parquet"]
    assert len(entry.finished()) == 2
