"""Export: selected records back in the schema in which they came.

A record of a JSON source is written as the very line that was read. A record of a typed source (Parquet,
Arrow, `datasets`, CSV) carries its row as JSON (`typed`), from which Parquet and `datasets` get the
original types back; as JSONL it is that JSON.

Rows of several sources go into one sequence, in the order given. For Parquet and `datasets` their
schemas are merged by promotion; where no schema holds them all, each source gets a folder of its own.
"""

import os
import shutil
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from curate.data.schemas import infer, merge, reading, widen
from curate.data.typed import fitting, to_table
from curate.errors import ConfigError, DataError

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped]

ExportFormat = Literal["jsonl", "parquet", "hf"]
Pairs = Iterable[tuple[str, str]]
"""(record, source) of each row, in order."""
_BLOCK_ROWS = 8192
_JSONL = "Export as jsonl, which keeps every record as it is."


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    folders: for each source the folder that holds its rows: `folder` itself, unless `separate`.
    separate: whether no one schema held all sources, so that each has its own folder.
    """

    folder: Path
    rows: int
    files: tuple[Path, ...]
    folders: Mapping[str, Path]
    separate: bool


def pairs(frames: Iterable[pl.DataFrame]) -> Iterator[tuple[str, str]]:
    """The (record, source) of each row of frames that have these columns, in order."""
    for frame in frames:
        yield from frame.select("record", "source").iter_rows()


def export(
    rows: Pairs,
    schemas: Mapping[str, pa.Schema | None],
    to: Path,
    format: ExportFormat = "jsonl",
    rows_per_file: int = 100_000,
) -> Exported:
    """Write the rows into the folder `to`, in files of `rows_per_file` rows.

    schemas: for each source its `schemas.source_schema`, None for a JSON one. Streams: memory does not grow
    with the number of rows. The folder appears when it is complete. Raises ConfigError where `to` is not
    empty or the format unknown; DataError where rows do not fit a typed file.
    """
    if format not in get_args(ExportFormat):
        raise ConfigError(f"format must be one of {', '.join(get_args(ExportFormat))}. Got {format!r}.")
    if rows_per_file < 1:
        raise ConfigError(f"rows_per_file must be at least 1. Got {rows_per_file}.")
    with _staging(to) as staging:
        if format == "jsonl":
            written, separate = _write_jsonl(rows, staging, rows_per_file), False
        else:
            written, separate = _write_typed(rows, schemas, staging, format, rows_per_file)
        files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
    folders = {name: to / name if separate else to for name in schemas}
    return Exported(to, written, tuple(to / file for file in files), folders, separate)


def dataset(rows: Pairs, schemas: Mapping[str, pa.Schema | None]) -> "datasets.Dataset":
    """The rows as a `datasets.Dataset` in memory, in the original schema.

    Raises DataError where the sources' schemas cannot be merged (export them, or take one source), and
    where rows do not fit a typed file.
    """
    import datasets

    held = list(rows)
    known = _known(schemas)
    present: dict[str, pa.Schema] = {}
    for source in dict.fromkeys(source for _, source in held):
        mine = [record for record, name in held if name == source]
        present[source] = known[source] if source in known else infer(mine, source)
    target = merge(present or known)
    if target is None:
        raise DataError(
            f"the schemas of the sources {', '.join(present)} cannot be merged into one dataset. Export "
            "(each source gets its own folder), or take the rows of one source."
        )
    if held:
        _check(target, present, "hf")
    return datasets.Dataset(datasets.table.InMemoryTable(_table(held, present, target)))


@contextmanager
def _staging(to: Path) -> Iterator[Path]:
    """A folder beside `to` that takes its place when the block is left without an error."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to}: must be a new or an empty folder. It is not; choose another, or empty it.")
    staging = to.parent / f".{to.name}.{os.getpid()}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        if to.exists():
            to.rmdir()
        staging.rename(to)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_jsonl(rows: Pairs, folder: Path, rows_per_file: int) -> int:
    written, rest = 0, iter(rows)
    for number in range(10**9):
        block = islice(rest, rows_per_file)
        first = next(block, None)
        if first is None and number:
            break
        with (folder / f"data-{number:05d}.jsonl").open("wb") as stream:
            for record, _ in [] if first is None else [first, *block]:
                stream.write(record.encode() + b"\n")
                written += 1
    return written


@dataclass
class _Spool:
    """The rows in a temporary file, while the schemas of the JSON sources are learned from them."""

    path: Path
    sources: list[str]
    order: "array[int]"

    def blocks(self) -> Iterator[list[tuple[str, str]]]:
        with self.path.open("rb") as stream:
            for start in range(0, len(self.order), _BLOCK_ROWS):
                names = self.order[start : start + _BLOCK_ROWS]
                lines = islice(stream, len(names))
                yield [(line.decode(), self.sources[name]) for line, name in zip(lines, names, strict=True)]


def _write_typed(
    rows: Pairs,
    schemas: Mapping[str, pa.Schema | None],
    folder: Path,
    format: ExportFormat,
    rows_per_file: int,
) -> tuple[int, bool]:
    spool = _Spool(folder / ".spool", [], array("L"))
    present = _spool(rows, schemas, spool) or _known(schemas)
    separate = merge(present) is None
    groups = (
        {folder / name: {name: schema} for name, schema in present.items()} if separate else {folder: present}
    )
    for place, members in groups.items():
        schema = merge(members)
        _check(schema, members, format)
        tables = (
            _table(block, members, schema)
            for whole in spool.blocks()
            if (block := [pair for pair in whole if pair[1] in members])
        )
        place.mkdir(exist_ok=True)
        write = _write_parquet if format == "parquet" else _write_saved
        write(tables, schema, place, rows_per_file)
    spool.path.unlink()
    return len(spool.order), separate


def _check(schema: pa.Schema, members: Mapping[str, pa.Schema], format: ExportFormat) -> None:
    """Raises DataError for rows without a field, and for a field whose type the format cannot write."""
    if not schema.names:
        raise DataError(f"no row has a field, so the rows fit no typed file. {_JSONL}")
    for field in schema:
        alone = pa.schema([field])
        try:
            if format == "parquet":
                pq.ParquetWriter(pa.BufferOutputStream(), alone).close()
            else:
                import datasets

                datasets.Features.from_arrow_schema(alone)
        except (pa.ArrowException, ValueError) as error:
            sources = ", ".join(name for name, member in members.items() if field.name in member.names)
            raise DataError(
                f"source {sources}: field `{field.name}` cannot be written as {format} ({error}). {_JSONL}"
            ) from error


def _known(schemas: Mapping[str, pa.Schema | None]) -> dict[str, pa.Schema]:
    return {source: schema for source, schema in schemas.items() if schema is not None}


def _spool(rows: Pairs, schemas: Mapping[str, pa.Schema | None], spool: _Spool) -> dict[str, pa.Schema]:
    """Fill the spool; return the schema of every source that has rows."""
    found: dict[str, pa.Schema] = {}
    codes: dict[str, int] = {}
    rest = iter(rows)
    with spool.path.open("wb") as stream:
        while block := list(islice(rest, _BLOCK_ROWS)):
            for record, source in block:
                stream.write(record.encode() + b"\n")
                spool.order.append(codes.setdefault(source, len(codes)))
            for source in dict.fromkeys(source for _, source in block):
                schema = schemas.get(source)
                if schema is None:
                    inferred = infer([record for record, name in block if name == source], source)
                    schema = widen(found.get(source), inferred, source)
                found[source] = schema
    spool.sources.extend(codes)
    return found


def _table(block: Sequence[tuple[str, str]], schemas: Mapping[str, pa.Schema], target: pa.Schema) -> pa.Table:
    """The rows of a block, in order, each read in its source's schema and cast to the target."""
    if not block:
        return target.empty_table()
    tables: list[pa.Table] = []
    places: list[int] = []
    for source in dict.fromkeys(source for _, source in block):
        mine = [place for place, (_, name) in enumerate(block) if name == source]
        own, where = reading(schemas[source], target), f"source {source}"
        table = to_table([block[place][0] for place in mine], own, where)
        tables.append(_cast(table, target, where))
        places += mine
    whole = pa.concat_tables(tables)
    if len(tables) == 1:
        return whole
    back = [0] * len(places)
    for row, place in enumerate(places):
        back[place] = row
    return whole.take(pa.array(back))


def _cast(table: pa.Table, target: pa.Schema, where: str) -> pa.Table:
    columns = []
    for field, column in zip(target, table.columns, strict=True):
        with fitting(field.name, where):
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=target)


def _write_parquet(tables: Iterable[pa.Table], schema: pa.Schema, folder: Path, rows_per_file: int) -> None:
    number, free = 0, rows_per_file
    writer = pq.ParquetWriter(folder / f"data-{number:05d}.parquet", schema)
    try:
        for table in tables:
            while table.num_rows:
                if not free:
                    writer.close()
                    number, free = number + 1, rows_per_file
                    writer = pq.ParquetWriter(folder / f"data-{number:05d}.parquet", schema)
                part = table.slice(0, free)
                writer.write_table(part)
                free -= part.num_rows
                table = table.slice(part.num_rows)
    finally:
        writer.close()


def _write_saved(tables: Iterable[pa.Table], schema: pa.Schema, folder: Path, rows_per_file: int) -> None:
    """Through an Arrow file on disk, which `datasets` maps into memory and saves in shards."""
    import datasets

    whole = folder / ".whole" / "rows.arrow"
    whole.parent.mkdir()
    count = 0
    with pa.OSFile(str(whole), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for table in tables:
            writer.write_table(table)
            count += table.num_rows
    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        saved = datasets.Dataset.from_file(str(whole))
        saved.save_to_disk(folder, num_shards=max(1, -(-count // rows_per_file)))
    finally:
        if not quiet:
            datasets.enable_progress_bars()
    shutil.rmtree(whole.parent)
