"""Tables: Parquet and Arrow files, read in blocks of rows without holding the file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from curate.data.storage import Block, Kind, Record, is_url, open_stored
from curate.data.typed import is_nested, portable, prune, to_records
from curate.errors import DataError

_FILE_MAGIC = b"ARROW1"


def arrow_schema(path: str, kind: Kind) -> pa.Schema:
    """The file's schema. Raises DataError if it cannot be read or has a type that cannot be kept."""
    with _opened(path, kind) as (schema, _):
        portable(schema, path)
        return schema


def read_table(path: str, kind: Kind, rows: int) -> Iterator[Block]:
    """Blocks of `rows` rows. `raw` is the row as JSON, from which `typed.to_table` rebuilds it.

    In the value, members of objects that are null are left out. Raises DataError for a damaged file.
    """
    with _opened(path, kind) as (schema, batches):
        plain = portable(schema, path)
        first = 0
        for table in _blocks(batches(rows), schema, rows):
            yield Block(first, table.num_rows, partial(_parse, table, plain, first))
            first += table.num_rows


def _parse(table: pa.Table, plain: pa.Schema, first: int) -> Iterator[Record]:
    nested = any(is_nested(field.type) for field in plain)
    for ordinal, record in enumerate(to_records(table, plain), first):
        raw = orjson.dumps(record)
        if nested:
            record = {name: prune(value) if value is not None else None for name, value in record.items()}
        yield ordinal, None, raw, record


def _blocks(batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while batch.num_rows:
            taken = batch.slice(0, rows - count)
            waiting.append(taken)
            count += taken.num_rows
            batch = batch.slice(taken.num_rows)
            if count == rows:
                yield pa.Table.from_batches(waiting, schema)
                waiting, count = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting, schema)


class _Batches:
    """The record batches of an open file; called with the number of rows that are wanted at a time."""

    def __init__(self, file: pq.ParquetFile | pa.RecordBatchFileReader | pa.RecordBatchStreamReader) -> None:
        self._file = file

    def __call__(self, rows: int) -> Iterator[pa.RecordBatch]:
        if isinstance(self._file, pq.ParquetFile):
            yield from self._file.iter_batches(batch_size=rows)
        elif isinstance(self._file, pa.RecordBatchFileReader):
            for index in range(self._file.num_record_batches):
                yield self._file.get_batch(index)
        else:
            yield from self._file


@contextmanager
def _opened(path: str, kind: Kind) -> Iterator[tuple[pa.Schema, _Batches]]:
    source = open_stored(path)
    if not is_url(path):
        source.close()
        source = (
            pa.OSFile(path) if kind == "parquet" or not Path(path).stat().st_size else pa.memory_map(path)
        )
    try:
        if kind == "parquet":
            file = pq.ParquetFile(source, pre_buffer=False)
            schema = file.schema_arrow
        else:
            start = source.read(len(_FILE_MAGIC))
            source.seek(0)
            file = pa.ipc.open_file(source) if start == _FILE_MAGIC else pa.ipc.open_stream(source)
            schema = file.schema
        yield schema, _Batches(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: is no {kind} file, or a damaged one: {str(error).rstrip('.')}. Write it again."
        ) from error
    finally:
        source.close()


def saved_dataset(folder: Path) -> list[Path] | None:
    """The Arrow files of a folder that `datasets` saved, in order; None if it is not such a folder.

    Raises DataError for a folder of several splits: the split's own folder is the path to give.
    """
    state, splits = folder / "state.json", folder / "dataset_dict.json"
    if splits.exists():
        names = json.loads(splits.read_bytes())["splits"]
        if len(names) != 1:
            raise DataError(f"{folder}: holds the splits {', '.join(names)}. Give one: {folder / names[0]}")
        return saved_dataset(folder / names[0])
    if not state.exists():
        return None
    files = [folder / str(file["filename"]) for file in json.loads(state.read_bytes())["_data_files"]]
    for file in files:
        if not file.exists():
            raise DataError(f"{file}: is missing, though {state} names it. Save the dataset again.")
    return files
