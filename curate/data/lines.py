"""Lines: JSON Lines and separated values, read in blocks of records.

A byte order mark belongs to the file, not to its first record: it is left out of both.
"""

import csv
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import BinaryIO

import orjson

from curate.data.messages import kind
from curate.data.storage import BadRow, Block, Record, Value, open_plain
from curate.errors import DataError

_BOM = b"\xef\xbb\xbf"
DELIMITERS: Mapping[str, str] = {"csv": ",", "tsv": "\t"}
_FIELD_BYTES = (1 << 31) - 1
"""The longest CSV field. Python's own limit of 128 KiB would refuse long documents."""


def read_jsonl(path: str, rows: int) -> Iterator[Block]:
    """Blocks of `rows` lines each; blank lines are no records. `raw` is the exact line without newline."""
    with open_plain(path) as stream:
        first = line = 0
        while lines := list(islice(stream, rows)):
            if line == 0:
                lines[0] = lines[0].removeprefix(_BOM)
            count = len(lines) - sum(map(bytes.isspace, lines)) - lines.count(b"")
            yield Block(first, count, partial(_parse_lines, lines, first, line + 1))
            first += count
            line += len(lines)


def parse_json(raw: bytes) -> Value:
    """The object that a JSON text holds, or a BadRow with the cause why it holds none."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            raw.decode()
        except UnicodeDecodeError as wrong:
            return BadRow(f"invalid UTF-8 at byte {wrong.start}: 0x{raw[wrong.start]:02x}")
        return BadRow(f"bad JSON: {error}")
    return value if isinstance(value, dict) else BadRow(f"record must be an object. Got {kind(value)}.")


def _parse_lines(lines: list[bytes], first: int, line: int) -> Iterator[Record]:
    ordinal = first
    for number, text in enumerate(lines, line):
        if text and not text.isspace():
            raw = text.removesuffix(b"\n")
            yield ordinal, number, raw, parse_json(raw)
            ordinal += 1


Fields = tuple[int, str, list[str] | BadRow]
"""The line on which a CSV record starts, its text, and its fields."""


def read_separated(path: str, rows: int, delimiter: str) -> Iterator[Block]:
    """Blocks of `rows` records of a CSV or TSV file with a header; every field is text.

    `raw` is the record as JSON. Raises DataError for an unusable header and for a quote that is never
    closed, which would swallow the rest of the file.
    """
    with open_plain(path) as stream:
        records = _separated(stream, path, delimiter)
        header = _header(records, path)
        first = 0
        while block := list(islice(records, rows)):
            yield Block(first, len(block), partial(_parse_separated, block, header, first))
            first += len(block)


def header(path: str, delimiter: str) -> list[str]:
    """The names of the columns. Raises DataError for an unusable header."""
    with open_plain(path) as stream:
        return _header(_separated(stream, path, delimiter), path)


def _header(records: Iterator[Fields], path: str) -> list[str]:
    for _, text, fields in records:
        if isinstance(fields, BadRow):
            raise DataError(f"{path}: the header cannot be read: {fields.cause}. Found {text[:200]!r}.")
        if len(set(fields)) < len(fields) or "" in fields:
            raise DataError(f"{path}: the header must name every column once. Found {fields}.")
        return fields
    return []


def _separated(stream: BinaryIO, path: str, delimiter: str) -> Iterator[Fields]:
    csv.field_size_limit(_FIELD_BYTES)
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for index, line in enumerate(stream):
            taken.append((line.removeprefix(_BOM) if index == 0 else line).decode("utf-8", "surrogateescape"))
            yield taken[-1]

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    start = 1
    while True:
        try:
            fields: list[str] | BadRow = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error) == "unexpected end of data":
                raise DataError(
                    f"{path}: the quote opened in the record of line {start} is never closed."
                ) from error
            fields = BadRow(f"bad CSV: {error}")
        text = "".join(taken)
        taken.clear()
        if fields:
            yield start, text.rstrip("\r\n"), fields
        start = reader.line_num + 1


def _parse_separated(block: list[Fields], header: list[str], first: int) -> Iterator[Record]:
    for ordinal, (line, text, fields) in enumerate(block, first):
        if not isinstance(fields, BadRow) and len(fields) != len(header):
            fields = BadRow(f"record must have {len(header)} fields, like the header. Got {len(fields)}.")
        if not text.isascii():
            raw = text.encode("utf-8", "surrogateescape")
            try:
                raw.decode()
            except UnicodeDecodeError as wrong:
                fields = BadRow(f"invalid UTF-8 at byte {wrong.start}: 0x{raw[wrong.start]:02x}")
        if isinstance(fields, BadRow):
            yield ordinal, line, text.encode("utf-8", "surrogateescape"), fields
        else:
            record = dict(zip(header, fields, strict=True))
            yield ordinal, line, orjson.dumps(record), record
