"""Ingest: a chunk of records becomes a frame of rows, and a list of the records that could not be read."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import orjson
import polars as pl

from curate.data.detect import detect
from curate.data.fields import Fields, check_columns, label
from curate.data.formats import converter
from curate.data.rows import FILE_BITS, RECORD_CHARACTERS, ROW_COLUMNS, shard_schema
from curate.data.schemas import source_schema
from curate.data.sources import Chunk, SourceFile
from curate.data.storage import BadRow, Value
from curate.errors import ConfigError, DataError
from curate.registry import unknown
from curate.settings import Format, SourceSpec

SAMPLE_ROWS = 1000


def resolve_format(spec: SourceSpec, files: Sequence[SourceFile]) -> Format:
    """The format of a source: its own, or for `auto` the one of the first records of its first filled file.

    Raises DataError where no format fits, where the source has no readable record, where a field that
    `columns` or `metadata` names is in none of those records, or where typed files of one source do not fit
    together; ConfigError for a name in `columns` that is not ours.
    """
    check_columns(spec.columns)
    source_schema(files, spec.name)
    sample: list[Fields] = []
    for file in files:
        sample = list(islice(_readable(file), SAMPLE_ROWS))
        if sample:
            break
    if not sample:
        raise DataError(
            f"source {spec.name} ({spec.path}): holds no record that can be read as an object. It is empty, or "
            "damaged from its first line on."
        )
    fields = sorted(set().union(*sample))
    for where, names in (("columns", spec.columns.values()), ("metadata", spec.metadata)):
        for name in names:
            if name not in fields:
                raise DataError(
                    f"source {spec.name} ({spec.path}): {where}: {unknown('field', name, fields)}"
                )
    if spec.format != "auto":
        return spec.format
    try:
        return detect(sample, spec.columns)
    except DataError as error:
        raise DataError(f"source {spec.name} ({spec.path}): {error}") from error


def _readable(file: SourceFile) -> Iterator[Fields]:
    for chunk in islice(file.chunks(SAMPLE_ROWS), 2):
        for _, _, _, value in chunk.records():
            if not isinstance(value, BadRow):
                yield value


def read_shard(
    chunk: Chunk, spec: SourceSpec, file_index: int, metadata: Sequence[str] | None = None
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The rows of a chunk, and its records that are no rows.

    spec: of a known format (`resolve_format`). file_index: the file's place among all files of the run.
    metadata: the `meta.` columns of the frame, the source's own by default; one that is not the source's
    is null. Returns the frame (`shard_schema(metadata)`, in order of position) and for each bad record
    {position, id, line, source, cause, record}, record being at most 2000 characters of its text.

    A row without an id, good or bad, gets `<source>:<ordinal>`, from the source's second file on
    `<source>:<file number>:<ordinal>`. A metadata value that is not text is kept as JSON.
    Raises ConfigError if the format is `auto`.
    """
    if spec.format == "auto":
        raise ConfigError(f"source {spec.name}: its format must be resolved before rows are read")
    convert = converter(spec.format, spec.columns)
    base = file_index << FILE_BITS
    named = f"{spec.name}:{chunk.file.number}:" if chunk.file.number else f"{spec.name}:"
    columns: list[tuple[Any, ...]] = []
    meta: dict[str, list[str | None]] = {
        field: [] for field in (spec.metadata if metadata is None else metadata)
    }
    own = [field for field in meta if field in spec.metadata]
    bad: list[dict[str, Any]] = []
    dumps = orjson.dumps
    for ordinal, line, raw, value in chunk.records():
        try:
            if isinstance(value, BadRow):
                raise value
            row = convert(value)
        except BadRow as error:
            known = _own_id(value, spec)
            text = raw if isinstance(raw, str) else raw[: 4 * RECORD_CHARACTERS].decode("utf-8", "replace")
            bad.append(
                {
                    "position": base | ordinal,
                    "id": f"{named}{ordinal}" if known is None else known,
                    "line": line,
                    "source": spec.name,
                    "cause": error.cause,
                    "record": text[:RECORD_CHARACTERS],
                }
            )
            continue
        start = row.start
        columns.append(
            (
                base | ordinal,
                row.uid,
                f"{named}{ordinal}" if row.id is None else row.id,
                spec.name,
                start if row.group is None else row.group,
                start,
                dumps(row.messages).decode(),
                None if row.tools is None else dumps(row.tools).decode(),
                None if row.rejected is None else dumps(row.rejected).decode(),
                row.prompt,
                row.response,
                raw if isinstance(raw, str) else raw.decode(),
                line,
            )
        )
        for field in own:
            meta[field].append(_text(value.get(field)))
    transposed = zip(*columns, strict=True) if columns else ((),) * len(ROW_COLUMNS)
    data: dict[str, Sequence[Any]] = dict(zip(ROW_COLUMNS, transposed, strict=True))
    for field, values in meta.items():
        data[f"meta.{field}"] = values or [None] * len(columns)
    return pl.DataFrame(data, schema=shard_schema(list(meta))), bad


def _own_id(value: Value, spec: SourceSpec) -> str | None:
    """The id that a record which is no row gives itself, where that much of it can be read."""
    if isinstance(value, BadRow):
        return None
    try:
        return label(value, spec.columns.get("id", "id"))
    except BadRow:
        return None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
