"""Outputs: the tables of a run's folder, gathered from the store when its stages are done.

`scores.parquet` holds every row that was scored, also the losers; `selection.parquet` the rows that
were kept to the end; `dropped.parquet` the others, each with the stage and the reason;
`quarantine.jsonl` what could not be read; `health.json` what the scores look like. Texts are not copied.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from curate.contamination import write_contamination
from curate.data.rows import FILE_BITS, RECORD_CHARACTERS
from curate.health import health
from curate.stage import DROP
from curate.stages.mix import draws_of
from curate.stages.mixture_search import SEARCH
from curate.store import Manifest, replacing, write_json

ADAPTER_CONFIG = "adapter_config.json"
AGREEMENT = "score.agreement"
"""How the name of a stage begins whose notes are score -> agreement, as `health` takes it."""
KEYS = ("position", "uid", "id", "source")
CARRIED = ("tokens", "supervised_tokens", "cluster", "cluster_distance", "duplicate_of")
"""Columns beside the scores that scores.parquet and selection.parquet carry where they exist."""


def write_outputs(
    folder: Path,
    store: Path,
    records: Sequence[Mapping[str, Any]],
    files: Sequence[str],
    model: str | None,
    tell: Callable[[str], None],
) -> None:
    """Write all tables and copy the artifacts of a run whose stages are in `records`, in order.

    model: the base model as the run's configuration calls it. tell: is given each warning on the scores.
    """
    write_rejected(folder, store, records, files, tell)
    keys = pl.scan_parquet(_shards(store, records[0])).select(KEYS)
    selection = _survivors(store, records, keys)
    measured = _measured(store, records)
    if measured is not None:
        selection = selection.join(measured, on="position", how="left")
    _write(selection.sort("rank", "position", nulls_last=True), folder / "selection.parquet")
    write_contamination(folder, store, records, tell)
    for record in records:
        for name in record["adds"]:
            if name.startswith("artifact:"):
                _publish(folder, name.removeprefix("artifact:"), store / record["folder"] / "files", model)


def write_rejected(
    folder: Path,
    store: Path,
    records: Sequence[Mapping[str, Any]],
    files: Sequence[str],
    tell: Callable[[str], None],
) -> None:
    """Write what is known of the rows so far, also of a run that fails: quarantine, dropped, scores, health."""
    keys = pl.scan_parquet(_shards(store, records[0])).select(KEYS)
    write_quarantine(folder, store, records, files)
    write_dropped(folder, store, records, keys)
    measured = _measured(store, records)
    if measured is not None:
        scored = keys.join(measured, on="position", how="inner").sort("position")
        _write(scored, folder / "scores.parquet")
        write_health(folder, store, records, tell)


def write_health(
    folder: Path, store: Path, records: Sequence[Mapping[str, Any]], tell: Callable[[str], None]
) -> None:
    """Write health.json from scores.parquet, and tell each warning.

    Where no stage has tokenised, the characters of the response are a row's length.
    """
    table = pl.scan_parquet(folder / "scores.parquet")
    if "supervised_tokens" not in table.collect_schema():
        response = pl.scan_parquet(_shards(store, records[0])).select(
            "position", pl.col("response").str.len_chars().alias("characters")
        )
        lengths = table.select("position").join(response, on="position", how="left", maintain_order="left")
        table = pl.concat([table, lengths.select("characters").collect().lazy()], how="horizontal")
    rows = {name: record["rows"] for record in records for name in record["adds"]}
    agreement: dict[str, float | None] = {}
    for record in records:
        if record["name"].startswith(AGREEMENT):
            agreement |= record["notes"]
    sparse = [name for record in records for name in record["null_is_a_verdict"]]
    found = health(table, rows, agreement, sparse)
    write_json(folder / "health.json", found.as_dict())
    for warned in found.warnings:
        tell(f"warning: {warned.text}")


def write_quarantine(
    folder: Path, store: Path, records: Sequence[Mapping[str, Any]], files: Sequence[str]
) -> list[str]:
    """Write quarantine.jsonl from what is known so far; return the causes, one per row.

    files: the names of the ingested files, by file index.
    """
    causes: list[str] = []
    with replacing(folder / "quarantine.jsonl") as temporary, temporary.open("wb") as stream:
        for line in _quarantined(store, records, files):
            causes.append(line["cause"])
            stream.write(orjson.dumps(line) + b"\n")
    return causes


def _quarantined(
    store: Path, records: Sequence[Mapping[str, Any]], files: Sequence[str]
) -> Iterable[dict[str, Any]]:
    for record in records:
        if not record["quarantined"]:
            continue
        for path in sorted((store / record["folder"]).glob("quarantine-*.jsonl")):
            yield from (_named(orjson.loads(line), files) for line in path.read_bytes().splitlines())
        if record is records[0]:
            continue
        bad = pl.scan_parquet(_shards(store, record)).filter(pl.col(DROP).is_not_null())
        origin = pl.scan_parquet(_shards(store, records[0])).select(*KEYS, "line", "record")
        found = bad.select("position", pl.col(DROP).alias("cause")).join(origin, on="position", how="left")
        for row in found.sort("position").collect().iter_rows(named=True):
            yield _named(row, files)


def _named(row: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """The line of quarantine.jsonl; its file has the name that this run's configuration gives it."""
    return {
        "file": files[row["position"] >> FILE_BITS],
        "line": row["line"],
        "ordinal": row["position"] & ((1 << FILE_BITS) - 1),
        "id": row["id"],
        "source": row["source"],
        "cause": row["cause"],
        "record": row["record"][:RECORD_CHARACTERS],
    }


def write_dropped(
    folder: Path, store: Path, records: Sequence[Mapping[str, Any]], keys: pl.LazyFrame
) -> None:
    """Write dropped.parquet: every row that a stage rejected, once."""
    parts = [
        pl.scan_parquet(_shards(store, record))
        .filter(pl.col(DROP).is_not_null())
        .select("position", pl.lit(record["name"]).alias("stage"), pl.col(DROP).alias("reason"))
        for record in records[1:]
        if DROP in record["adds"] and not record["quarantined"]
    ]
    empty = pl.LazyFrame(schema={"position": pl.Int64, "stage": pl.String, "reason": pl.String})
    dropped = pl.concat([empty, *parts]).join(keys, on="position", how="left")
    _write(dropped.select(*KEYS, "stage", "reason").sort("position"), folder / "dropped.parquet")


def _measured(store: Path, records: Sequence[Mapping[str, Any]]) -> pl.LazyFrame | None:
    """Every score (the last one computed, where a column was computed twice) and what is carried beside."""
    latest: dict[str, Mapping[str, Any]] = {}
    scored = False
    for record in records:
        for name in record["adds"]:
            if name.startswith("score.") or name in CARRIED:
                if isinstance(_kind(store, record, name), pl.Array):
                    continue  # what a row is compared by, many numbers each: it stays in the store
                latest[name] = record
                scored = scored or name.startswith("score.")
    if not scored:
        return None
    by_entry: dict[str, list[str]] = {}
    for name, record in latest.items():
        by_entry.setdefault(record["folder"], []).append(name)
    folders = {record["folder"]: record for record in latest.values()}
    rows = pl.concat(
        [
            pl.scan_parquet(_shards(store, folders[folder])).select("position")
            for folder, names in by_entry.items()
            if any(name.startswith("score.") for name in names)
        ]
    ).unique()
    for folder, names in by_entry.items():
        part = pl.scan_parquet(_shards(store, folders[folder])).select("position", *sorted(names))
        rows = rows.join(part, on="position", how="left")
    ordered = [
        *sorted(name for name in latest if name.startswith("score.")),
        *(c for c in CARRIED if c in latest),
    ]
    return rows.select("position", *ordered)


def _survivors(store: Path, records: Sequence[Mapping[str, Any]], keys: pl.LazyFrame) -> pl.LazyFrame:
    """The rows that no stage dropped, with the rank and reason of the last select and the schedule's repeats."""
    alive = keys
    selects = [record for record in records if "rank" in record["adds"]]
    for record in records:
        if DROP in record["adds"]:
            kept = pl.scan_parquet(_shards(store, record)).filter(pl.col(DROP).is_null()).select("position")
            alive = alive.join(kept, on="position", how="semi")
    if selects:
        ledger = pl.scan_parquet(_shards(store, selects[-1])).select("position", "rank", "reason")
        alive = alive.join(ledger, on="position", how="left")
    else:
        alive = alive.with_columns(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("rank"),
            pl.lit("kept by every stage").alias("reason"),
        )
    schedules = [record for record in records if "artifact:schedule" in record["adds"]]
    if not schedules:
        return alive.with_columns(pl.lit(1, dtype=pl.UInt32).alias("repeats"))
    draws = draws_of(store / schedules[-1]["folder"] / "files")
    repeats = draws.group_by("position").agg(pl.len().alias("repeats"))
    return alive.join(repeats, on="position", how="left").with_columns(pl.col("repeats").fill_null(0))


def _shards(store: Path, record: Mapping[str, Any]) -> list[Path]:
    entry = store / record["folder"]
    shards = Manifest.read(entry / "manifest.json").shards
    return [entry / shard.file for shard in shards if shard.file.endswith(".parquet")]


def _kind(store: Path, record: Mapping[str, Any], name: str) -> pl.DataType:
    return pl.read_parquet_schema(_shards(store, record)[0])[name]


def _write(frame: pl.LazyFrame, path: Path) -> None:
    with replacing(path) as temporary:
        frame.collect().write_parquet(temporary)


def _publish(folder: Path, name: str, files: Path, model: str | None) -> None:
    """Put an artifact where users look for it: hard links where the file system has them, else copies."""
    if name == "evaluation":
        shutil.copyfile(files / "eval.json", folder / "eval.json")
        return
    if name == "schedule":
        for file in files.iterdir():
            shutil.copyfile(file, folder / file.name)
        return
    if name.startswith("score.") and name.endswith(".reference"):
        target = folder / "references" / name.removeprefix("score.").removesuffix(".reference")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(files, target, copy_function=_link)
        return
    if name == "adapter":
        name = "adapter" if (files / ADAPTER_CONFIG).exists() else "model"
    elif name != SEARCH and not name.startswith("adapter"):
        return
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(files, target, copy_function=_link)
    for config in target.rglob(ADAPTER_CONFIG):
        named = {**orjson.loads(config.read_bytes()), "base_model_name_or_path": model}
        with replacing(config) as temporary:  # another file than the store's, which names no model
            temporary.write_text(json.dumps(named, indent=2, sort_keys=True) + "\n")


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target
