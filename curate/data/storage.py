"""Where bytes lie: local paths and fsspec URLs, plain, gzip or zstd; and the records that come out.

A record is read as `(ordinal, line, raw, value)`: its place among the records of its file (from 0), the
line it starts on (from 1; None where the container has no lines), its text, and its value, or a
`BadRow` with the cause why it has none.
"""

import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal

import fsspec  # type: ignore[import-untyped]
import xxhash
import zstandard

from curate.errors import DataError

Kind = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
KINDS: Mapping[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
COMPRESSED: Mapping[str, str] = {".gz": "gzip", ".zst": "zstd"}
TEXT_KINDS = frozenset({"jsonl", "json", "csv", "tsv"})
_BLOCK_BYTES = 1 << 20


class BadRow(ValueError):
    """One record that cannot become a row. `cause` says precisely why."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause

    def __reduce__(self) -> tuple[type["BadRow"], tuple[str]]:
        return BadRow, (self.cause,)


Value = dict[str, Any] | BadRow
Record = tuple[int, int | None, str | bytes, Value]


@dataclass(frozen=True)
class Block:
    """Consecutive records of one file, not parsed yet.

    first: ordinal of the first; count: how many; parse: yields them as `Record`s.
    """

    first: int
    count: int
    parse: Callable[[], Iterator[Record]]


def is_url(path: str) -> bool:
    """Whether fsspec reads this path (it names a protocol)."""
    return "://" in path


def kind_of(path: str) -> Kind | None:
    """The container that the extension names, compression aside; None for an unknown one.

    Only text containers may be compressed: `.parquet.gz` is unknown.
    """
    pure = PurePosixPath(path.lower())
    if pure.suffix in COMPRESSED:
        inner = KINDS.get(pure.with_suffix("").suffix)
        return inner if inner in TEXT_KINDS else None
    return KINDS.get(pure.suffix)


def compression_of(path: str) -> str | None:
    """How the extension says that the file is compressed, `gzip` or `zstd`; None for not at all."""
    return COMPRESSED.get(PurePosixPath(path.lower()).suffix)


def open_stored(path: str) -> BinaryIO:
    """The file's bytes as they are stored. Raises DataError if it cannot be opened."""
    try:
        if is_url(path):
            return fsspec.open(path, mode="rb").open()  # type: ignore[no-any-return]
        return open(path, "rb")
    except (OSError, ImportError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be opened: {error}. Check the path and your access to it."
        ) from error


def open_plain(path: str) -> BinaryIO:
    """The file's bytes, decompressed as the extension says. Raises DataError if it cannot be opened.

    Reading a damaged or truncated compressed file raises DataError at the place of the damage.
    """
    stored = open_stored(path)
    compression = compression_of(path)
    if compression is None:
        return stored
    raw: io.RawIOBase = _Gzip(stored, path) if compression == "gzip" else _Zstd(stored, path)
    return io.BufferedReader(raw, _BLOCK_BYTES)


def content_hash(path: str) -> str:
    """xxh3-128 of the stored bytes, hexadecimal: the same wherever and whenever the file was written."""
    digest = xxhash.xxh3_128()
    with open_stored(path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class _Decompressed(io.RawIOBase):
    """A readable stream that reports damage as DataError."""

    def __init__(self, stored: BinaryIO, path: str) -> None:
        super().__init__()
        self._stored = stored
        self._path = path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stored.close()
        super().close()

    def _some(self, size: int) -> bytes:
        raise NotImplementedError

    def _damaged(self, why: object) -> DataError:
        return DataError(f"{self._path}: damaged or cut off: {why}. Write or fetch the file again.")


class _Gzip(_Decompressed):
    def __init__(self, stored: BinaryIO, path: str) -> None:
        super().__init__(stored, path)
        self._inner = gzip.GzipFile(fileobj=stored, mode="rb")

    def _some(self, size: int) -> bytes:
        try:
            return self._inner.read1(size)
        except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
            raise self._damaged(error) from error


class _Zstd(_Decompressed):
    """zstd frames one after another; unlike zstandard's own reader it notices a frame that is cut off."""

    def __init__(self, stored: BinaryIO, path: str) -> None:
        super().__init__(stored, path)
        self._frame: Any = None
        self._input = b""
        self._ready = memoryview(b"")

    def _some(self, size: int) -> bytes:
        while not self._ready and self._advance():
            pass
        piece, self._ready = self._ready[:size], self._ready[size:]
        return bytes(piece)

    def _advance(self) -> bool:
        if not self._input:
            self._input = self._stored.read(1 << 17)
        if not self._input:
            if self._frame is not None:
                raise self._damaged("the last zstd frame is incomplete")
            return False
        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(self._input))
        except zstandard.ZstdError as error:
            raise self._damaged(error) from error
        self._input = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None
        return True
