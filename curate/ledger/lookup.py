"""Lookup: the row that an id means. An id is the user's own, so several rows may have it, and a record that could not
be read too; then the error lists them, each with its address, which names one row.

Address: `<source>:<record number, from 0>`, in a source's second file on `<source>:<file number>:<record number>`;
what a row without an id is called anyway.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from curate.data.rows import FILE_BITS
from curate.errors import ConfigError
from curate.ledger.fates import DUPLICATE, fates
from curate.ledger.stored import Stored

LOOKED_AT = 20_000
"""Ids among which the nearest to an unknown one is looked for."""

LISTED = 10
"""Rows of one id that an error lists."""

ORDINAL = (1 << FILE_BITS) - 1


def find(stages: Sequence[Stored], id: str) -> int | Mapping[str, Any]:
    """The position of the row with this id, uid or address; or the line of quarantine.jsonl.

    A uid that several rows have means the one that was not dropped as a duplicate. Raises ConfigError for an id that is
    unknown, or that several rows have.
    """
    origin, run = stages[0], stages[0].run
    table = origin.scan("id", "uid")
    rows = _positions(table.filter(pl.col("id") == id))
    bad = run.quarantine.filter(pl.col("id") == id).collect().rows(named=True)
    read = {address(origin, row) for row in rows}
    bad = [line for line in bad if record_address(origin, line) not in read]
    kind = "id" if rows or bad else "uid"
    if kind == "uid":
        rows = _positions(table.filter(pl.col("uid") == id))
        if len(rows) > 1:
            known = fates(stages, rows)
            rows = [row for row in rows if known[row] != DUPLICATE] or rows
    if not rows and not bad:
        rows, bad = _addressed(stages, id)
    if len(rows) + len(bad) > 1:
        raise ConfigError(_shared(stages, f"{kind} `{id}`", rows, bad))
    if rows:
        return rows[0]
    if bad:
        return bad[0]
    raise ConfigError(_unknown(origin, id))


def address(origin: Stored, position: int) -> str:
    """What names a row and no other; see the module."""
    return _address(origin, position >> FILE_BITS, position & ORDINAL)


def record_address(origin: Stored, line: Mapping[str, Any]) -> str:
    """The same of a line of quarantine.jsonl."""
    files = zip(_sources(origin), origin.run.info["files"], strict=True)
    own = [(source, name) == (line["source"], line["file"]) for (source, _), name in files]
    return _address(origin, own.index(True), line["ordinal"])


def file_of(origin: Stored, position: int) -> str:
    """The file that a row was read from, as this run calls it."""
    return str(origin.run.info["files"][position >> FILE_BITS])


def _address(origin: Stored, file: int, ordinal: int) -> str:
    source, number = _sources(origin)[file]
    return f"{source}:{number}:{ordinal}" if number else f"{source}:{ordinal}"


def _sources(origin: Stored) -> list[tuple[str, int]]:
    """Of each file its source, and which of the source's files it is."""
    names = [file["source"]["name"] for file in origin.identity["files"]]
    return [(name, names[:index].count(name)) for index, name in enumerate(names)]


def _positions(table: pl.LazyFrame) -> list[int]:
    found: list[int] = table.select("position").collect()["position"].sort().to_list()
    return found


def _addressed(stages: Sequence[Stored], id: str) -> tuple[list[int], list[Any]]:
    """The row, or the record that is no row, at an address."""
    origin, prefix, ordinal = stages[0], *_split(id)
    if ordinal is None:
        return [], []
    for file, (source, number) in enumerate(_sources(origin)):
        if prefix != (f"{source}:{number}" if number else source):
            continue
        rows = _positions(origin.rows([file << FILE_BITS | ordinal]).lazy())
        name = origin.run.info["files"][file]
        here = (pl.col("source") == source) & (pl.col("ordinal") == ordinal) & (pl.col("file") == name)
        bad = [] if rows else origin.run.quarantine.filter(here).collect().rows(named=True)
        return rows, bad
    return [], []


def _split(id: str) -> tuple[str, int | None]:
    """What stands before the last colon, and the number after it; None where that numbers no record."""
    prefix, _, digits = id.rpartition(":")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(ORDINAL))):
        return prefix, None
    return prefix, int(digits) if int(digits) <= ORDINAL else None


def _shared(stages: Sequence[Stored], name: str, rows: Sequence[int], bad: Sequence[Any]) -> str:
    origin, known = stages[0], fates(stages, rows[:LISTED])
    lines = {row["position"]: row["line"] for row in origin.rows(known, "line").iter_rows(named=True)}
    found = [
        f"  {address(origin, row)}  {_at(file_of(origin, row), lines[row])}  {known[row]}" for row in known
    ]
    found += [
        f"  {record_address(origin, line)}  {_at(line['file'], line['line'])}  quarantined"
        for line in bad[: LISTED - len(found)]
    ]
    more = len(rows) + len(bad) - len(found)
    if more:
        found.append(f"  … and {more:,} more")
    return (
        f"{origin.run.name}: {len(rows) + len(bad):,} rows have the {name}. "
        "Give one of these in its place:\n" + "\n".join(found)
    )


def _at(file: str, line: int | None) -> str:
    return file if line is None else f"{file}:{line}"


def _unknown(origin: Stored, id: str) -> str:
    known = origin.scan("id").head(LOOKED_AT).collect()["id"].to_list()
    near = difflib.get_close_matches(id, known, n=3)
    rows = origin.record["rows"]
    some = f" (looked for among the first {LOOKED_AT:,} of {rows:,} ids)" if rows > LOOKED_AT else ""
    meant = " or ".join(f"`{each}`" for each in near)
    hint = f"Did you mean {meant}{some}?" if near else f"Ids look like `{known[0]}`; see `run.rows`."
    return f"{origin.run.name}: unknown row id `{id}`. {hint}"
