"""Sources: from what a user wrote as `path` to the files behind it, read chunk by chunk.

=====================  ======================================================================================
a file                 .jsonl .ndjson .json .csv .tsv, each also .gz or .zst; .parquet; .arrow .feather .ipc
a glob                 `data/**/*.jsonl`; the matches in sorted order
a folder               one that `datasets` saved, or one with data files of a single kind, at any depth
an fsspec URL          `s3://bucket/*.parquet`, `memory://x.jsonl`: a file or a glob
hub:ORG/NAME           `hub:ORG/NAME[:CONFIG][@SPLIT]`, fetched by `datasets` into its cache
=====================  ======================================================================================
"""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]

from curate.data.arrays import read_array
from curate.data.hub import HUB, fetch
from curate.data.lines import DELIMITERS, header, read_jsonl, read_separated
from curate.data.storage import (
    COMPRESSED,
    KINDS,
    Block,
    Kind,
    Record,
    compression_of,
    content_hash,
    is_url,
    kind_of,
    open_plain,
)
from curate.data.tables import arrow_schema, read_table, saved_dataset
from curate.errors import DataError
from curate.settings import SourceSpec


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. Small to pickle: it holds a path, no data.

    label: the path for messages, as the user wrote it; number: its place among the source's files, from 0.
    """

    path: str
    label: str
    kind: Kind
    number: int = 0

    def content_hash(self) -> str:
        """xxh3-128 of the stored bytes, hexadecimal."""
        return content_hash(self.path)

    @property
    def compression(self) -> str | None:
        """`gzip` or `zstd`; None for not at all."""
        return compression_of(self.path)

    def arrow_schema(self) -> pa.Schema | None:
        """The schema in which export writes typed records again; all text for CSV, None for JSON.

        Raises DataError where the file cannot be read, or has a type that cannot be kept.
        """
        if self.kind in ("parquet", "arrow"):
            return arrow_schema(self.path, self.kind)
        if self.kind in DELIMITERS:
            names = header(self.path, DELIMITERS[self.kind])
            return pa.schema([(name, pa.string()) for name in names])
        return None

    def chunks(self, rows_per_chunk: int) -> Iterator["Chunk"]:
        """The file in order, about `rows_per_chunk` records at a time (fewer where lines are blank).

        Chunks depend on the content alone. One is held at a time; it is parsed only by `Chunk.records`.
        Raises DataError where the file as a whole cannot be read on.
        """
        if rows_per_chunk < 1:
            raise ValueError(f"rows_per_chunk must be at least 1. Got {rows_per_chunk}.")
        for block in self._blocks(rows_per_chunk):
            yield Chunk(self, block)

    def _blocks(self, rows: int) -> Iterator[Block]:
        if self.kind == "jsonl":
            return read_jsonl(self.path, rows)
        if self.kind == "json":
            return read_array(self.path, rows)
        if self.kind in DELIMITERS:
            return read_separated(self.path, rows, DELIMITERS[self.kind])
        return read_table(self.path, self.kind, rows)


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one file: in memory, not parsed. Pickles with its data."""

    file: SourceFile
    block: Block

    @property
    def first(self) -> int:
        """The ordinal, in its file, of the first record."""
        return self.block.first

    @property
    def count(self) -> int:
        """How many records, good and bad."""
        return self.block.count

    def records(self) -> Iterator[Record]:
        """Parse: `(ordinal, line, raw, value)` of each record; the value of an unreadable one is a BadRow."""
        return self.block.parse()


def open_source(spec: SourceSpec) -> list[SourceFile]:
    """The files of a source, in a stable order. Raises DataError for a path without a usable file."""
    files = fetch(spec.path) if spec.path.startswith(HUB) else _find(spec.path)
    found = [SourceFile(path, label, _kind(path), number) for number, (path, label) in enumerate(files)]
    return [replace(file, kind=_json_kind(file)) if file.kind == "json" else file for file in found]


def _find(path: str) -> list[tuple[str, str]]:
    if is_url(path):
        return _find_remote(path)
    local = os.path.expanduser(path)
    if not os.path.exists(local):
        if not glob.has_magic(local):
            raise DataError(f"{path}: does not exist (looked in {os.getcwd()}). Check `path`.")
        matches = sorted(glob.glob(local, recursive=True))
        files = [match for name in matches for match in _expand(name, path, optional=True)]
        if not files:
            raise DataError(f"{path}: matches no file (looked in {os.getcwd()}). Check the pattern.")
    else:
        files = _expand(local, path, optional=False)
    return [(os.path.abspath(file), file) for file in files]


def _expand(name: str, written: str, optional: bool) -> list[str]:
    """A file as it is; a folder as the data files in it (a plain folder in a glob as none of its own)."""
    if not os.path.isdir(name):
        return [name]
    saved = saved_dataset(Path(name))
    if saved is not None:
        return [str(file) for file in saved]
    if optional:
        return []
    inside = sorted(str(file) for file in Path(name).rglob("*") if file.is_file() and kind_of(str(file)))
    kinds = sorted({str(kind_of(file)) for file in inside})
    if len(kinds) == 1:
        return inside
    found = f"files of the kinds {', '.join(kinds)}; name them with a glob" if kinds else "no data file"
    raise DataError(
        f"{written}: a folder must hold data files of one kind ({', '.join(KINDS)}). Found {found}."
    )


def _find_remote(url: str) -> list[tuple[str, str]]:
    try:
        system, path = fsspec.core.url_to_fs(url)
        if not glob.has_magic(path) or system.exists(path):
            names = [path] if system.isfile(path) else []
        else:
            names = sorted(system.glob(path))
    except (OSError, ImportError, ValueError) as error:
        raise DataError(
            f"{url}: cannot be reached: {error}. Check the URL, your access and the driver."
        ) from error
    if not names:
        raise DataError(
            f"{url}: no such file. Check `path`; a folder there needs a glob, e.g. {url}/*.parquet"
        )
    urls = [str(system.unstrip_protocol(name)) for name in names]
    return [(name, name) for name in urls]


def _kind(path: str) -> Kind:
    kind = kind_of(path)
    if kind is None:
        raise DataError(
            f"{path}: the extension must be one of {', '.join(KINDS)} (text ones also with "
            f"{' or '.join(COMPRESSED)}). Rename or convert the file, or leave it out of the pattern."
        )
    return kind


def _json_kind(file: SourceFile) -> Kind:
    """`.json` holds an array or, as often, JSON Lines: told apart by the first character."""
    with open_plain(file.path) as stream:
        start = stream.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{"):
        line = start.partition(b"\n")[0].strip()
        if len(start.split(b"\n", 1)) > 1 and not line.endswith(b"}"):
            raise DataError(
                f"{file.label}: must be an array of objects, or one object a line. Found a single object "
                "over several lines. Give the array inside it a file of its own."
            )
        return "jsonl"
    return "json" if start else "jsonl"
