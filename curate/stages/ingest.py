"""Ingest: read the sources into shards of rows, in the order of the configuration.

Works file by file, chunk by chunk of records; a chunk is one shard, so the layout depends on the
files alone. A row's position is (file index << 40) | record number: unique, ascending, and it
says where the row came from. Records that cannot be read go to quarantine files beside the shards.
"""

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import polars as pl

from curate.data.ingest import read_shard, resolve_format
from curate.data.rows import shard_schema
from curate.data.schemas import source_schema
from curate.data.sources import SourceFile, open_source
from curate.settings import SourceSpec
from curate.stage import DROP, SourceStage
from curate.store import Entry, Shard
from curate.tasks import peak_memory_bytes

CHUNK_ROWS = 8192


@dataclass(frozen=True)
class ResolvedFile:
    """One file of a source; the source's format is known (never `auto`), the content hashed."""

    index: int
    source: SourceSpec
    file: SourceFile
    content_hash: str


@dataclass(frozen=True)
class Ingest(SourceStage):
    """Adds the columns of the rows, and sets the first living rows."""

    sources: tuple[SourceSpec, ...]

    @cached_property
    def files(self) -> tuple[ResolvedFile, ...]:
        """The files of all sources, in order; formats detected, contents hashed.

        Raises DataError where a source names no file, or its format cannot be told.
        """
        found = []
        for source in self.sources:
            files = open_source(source)
            resolved = source.model_copy(update={"format": resolve_format(source, files)})
            found += [(resolved, file) for file in files]
        return tuple(
            ResolvedFile(index, source, file, file.content_hash())
            for index, (source, file) in enumerate(found)
        )

    def schemas(self) -> dict[str, str | None]:
        """For each source its Arrow schema, serialised and in base64, None for JSON: what export needs later."""
        found = {}
        for source in self.sources:
            files = [file.file for file in self.files if file.source.name == source.name]
            schema = source_schema(files, source.name)
            found[source.name] = None if schema is None else b64encode(schema.serialize()).decode()
        return found

    @cached_property
    def metadata(self) -> tuple[str, ...]:
        """The further fields that any source keeps, sorted."""
        return tuple(sorted({name for source in self.sources for name in source.metadata}))

    @property
    def needs(self) -> frozenset[str]:
        """Nothing: it is the first."""
        return frozenset()

    @property
    def adds(self) -> frozenset[str]:
        """The columns of a row."""
        return frozenset(shard_schema(self.metadata)) - {"position"} | {DROP}

    @property
    def names_rows(self) -> tuple[str, ...]:
        """The pool, and with it what will be held out."""
        return ("all", "pool")

    def identity(self) -> dict[str, Any]:
        """The content of the files and how they are read, not where they lie."""
        return {
            "version": 2,
            "files": [
                {
                    "content": file.content_hash,
                    "kind": file.file.kind,
                    "compression": file.file.compression,
                    "source": file.source.model_dump(mode="json", exclude={"path"}),
                }
                for file in self.files
            ],
            "metadata": list(self.metadata),
            "chunk_rows": CHUNK_ROWS,
        }

    def units(self) -> Sequence[ResolvedFile]:
        """The files."""
        return self.files

    def task(self, entry: Entry, finished: Mapping[str, Shard]) -> "IngestTask":
        """The work on a file."""
        return IngestTask(entry, frozenset(finished), self.metadata)


@dataclass(frozen=True)
class IngestTask:
    """Reads one file, chunk by chunk; a chunk whose shard is finished is passed over unparsed."""

    entry: Entry
    finished: frozenset[str]
    metadata: tuple[str, ...]

    def setup(self) -> None:
        """Nothing to prepare."""

    def run(self, unit: ResolvedFile, state: Any) -> dict[str, Any]:
        """Write the file's missing shards, each after the quarantine file of its chunk."""
        written, rows = [], 0
        for number, chunk in enumerate(unit.file.chunks(CHUNK_ROWS)):
            name = f"shard-{unit.index:05d}-{number:05d}.parquet"
            rejects = f"quarantine-{unit.index:05d}-{number:05d}.jsonl"
            if name in self.finished and rejects in self.finished:
                continue
            begun = time.monotonic()
            frame, quarantined = read_shard(chunk, unit.source, unit.index, self.metadata)
            frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias(DROP))
            stats = {"quarantined": len(quarantined), "peak_memory_bytes": peak_memory_bytes()}
            lines = b"".join(orjson.dumps(record) + b"\n" for record in quarantined)
            written.append(self.entry.write_bytes(rejects, lines, {}))
            written.append(
                self.entry.write_shard(name, frame, {**stats, "seconds": time.monotonic() - begun})
            )
            rows += frame.height
        return {"shards": [vars(shard) for shard in written], "rows": rows}
