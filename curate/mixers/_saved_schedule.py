"""Saved schedules: read from a Parquet file or a table that a user edited, and checked against the selected rows."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from curate.errors import DataError
from curate.mixer import Composed
from curate.numerics.decomposition import Pieces, supervised_pieces
from curate.pool import Pool

NUMBERS = ("start", "length", "step", "composed")
SHOWN = 5
"""Unknown uids that an error names."""


class Rows:
    """The selected rows by their content."""

    def __init__(self, pool: Pool, file: str) -> None:
        self.file = file
        self.first = pool.frame.select("uid").with_row_index("row").unique("uid", keep="first")

    def of(self, uids: pl.Series) -> NDArray[np.int64]:
        """A row for each uid, int64 [uids]. Raises DataError for those that no selected row has."""
        found = uids.alias("uid").to_frame().join(self.first, on="uid", how="left", maintain_order="left")
        missing = found.filter(pl.col("row").is_null())["uid"].unique(maintain_order=True).to_list()
        if missing:
            named = ", ".join(str(uid) for uid in missing[:SHOWN])
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise DataError(
                f"{self.file} draws {len(missing)} rows that are not among the selected ones: {named}{more}. Select "
                "them, or take their lines out."
            )
        return found["row"].to_numpy().astype(np.int64)


def read_table(file: Path) -> pl.DataFrame:
    """uid, phase, and the numbers, null where they are absent. Raises DataError."""
    try:
        table = pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{file}: cannot be read as a schedule. {error}") from error
    missing = [name for name in ("uid", "phase") if name not in table.columns]
    if missing:
        raise DataError(
            f"{file}: must have the columns uid and phase. {' and '.join(missing)} is missing; "
            f"there are {', '.join(table.columns)}."
        )
    nothing = [pl.lit(None, dtype=pl.Int64).alias(name) for name in NUMBERS if name not in table.columns]
    read = table.with_columns(nothing).with_columns(pl.col("uid", "phase").cast(pl.String))
    numbers = read.select(pl.col(NUMBERS).cast(pl.Float64, strict=False))  # a spreadsheet writes 3.0
    for name in NUMBERS:
        wrong = read[name].is_not_null() & (
            numbers[name].is_null() | (numbers[name] % 1 != 0) | (numbers[name] < 0)
        )
        if wrong.any():
            line = int(wrong.arg_max() or 0)
            raise DataError(
                f"{file}: `{name}` must be empty or a whole number of at least 0. Got {read[name][line]!r} in "
                f"draw {line}."
            )
    for name, empty in (
        ("uid", read["uid"].is_null() & read["composed"].is_null()),
        ("phase", read["phase"].is_null()),
    ):
        if empty.any():
            raise DataError(f"{file}: every draw must have a {name}. Draw {empty.arg_max()} has none.")
    if not read.height:
        raise DataError(f"{file}: must have at least one draw. Got none.")
    return read.select("uid", "phase").hstack(numbers.cast(pl.Int64))


def pieces_of(
    table: pl.DataFrame, draws: NDArray[np.int64], pool: Pool, file: str
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Starts and lengths, int64 [draws] each; None where all rows are whole. Raises DataError."""
    if table["start"].null_count() == table["length"].null_count() == table.height:
        return None, None
    tokens = np.append(pool.counts("tokens"), 0)[np.minimum(draws, pool.rows)]
    starts = table["start"].fill_null(0).to_numpy()
    lengths = table["length"].fill_null(pl.Series(tokens)).to_numpy()
    of_composed = np.flatnonzero((draws >= pool.rows) & (table["length"].fill_null(0) > 0).to_numpy())
    if len(of_composed):
        raise DataError(
            f"{file}: a composed example is trained on whole. Draw {of_composed[0]} has a `length`; leave `start` and "
            "`length` empty."
        )
    halves = (table["start"].is_null() != table["length"].is_null()).to_numpy()
    wrong = halves | ((draws < pool.rows) & ((lengths < 1) | (starts + lengths > tokens)))
    if wrong.any():
        line = int(wrong.argmax())
        raise DataError(
            f"{file}: `start` and `length` must both be given and lie within the row, of {tokens[line]} tokens. Draw "
            f"{line} has {table['start'][line]} and {table['length'][line]}."
        )
    mask = pool.frame["supervised"].explode().to_numpy().astype(np.bool_)
    of_rows = np.flatnonzero(draws < pool.rows)
    drawn = Pieces(draws[of_rows], starts[of_rows], lengths[of_rows])
    trained = supervised_pieces(drawn, pool.counts("tokens"), mask)
    if not trained.all():
        line = int(of_rows[trained.argmin()])
        raise DataError(
            f"{file}: every piece must have a supervised token beyond its first. Draw {line}, tokens {starts[line]} to "
            f"{starts[line] + lengths[line]}, has none; take its line out."
        )
    return starts, lengths


def steps_of(steps: pl.Series, file: str) -> NDArray[np.int64] | None:
    """The optimizer step of each draw, int64 [draws]; None where none is given. Raises DataError."""
    if steps.null_count() == len(steps):
        return None
    if steps.null_count():
        raise DataError(
            f"{file}: `step` must be given for all draws or for none. {steps.null_count()} have none."
        )
    found: NDArray[np.int64] = steps.to_numpy()
    jumps = np.diff(found, prepend=-1)
    wrong = np.flatnonzero((jumps > 1) | (jumps < 0))
    if len(wrong) or found[0]:
        line = int(wrong[0]) if len(wrong) else 0
        raise DataError(
            f"{file}: `step` must count up from 0, in the order of the lines, and leave none out. Draw {line} has "
            f"{found[line]}{f' after {found[line - 1]}' if line else ''}. Number them again, or leave the column empty."
        )
    return found


def composed_of(file: Path, used: NDArray[np.int64], rows: Rows) -> list[Composed]:
    """The examples of these lines of composed.parquet, int64 [used], ascending. Raises DataError."""
    if not file.is_file():
        raise DataError(f"{rows.file} draws composed examples, and {file} does not exist. Put it beside it.")
    table = pl.read_parquet(file)
    if "member_uids" not in table.columns or used[-1] >= table.height:
        raise DataError(
            f"{file}: must have messages and member_uids of {used[-1] + 1} examples. It has {table.height}, with "
            f"{', '.join(table.columns)}."
        )
    chosen = table[used.tolist()]
    members = np.split(
        rows.of(chosen["member_uids"].explode()), np.cumsum(chosen["member_uids"].list.len())[:-1]
    )
    return [
        Composed(orjson.loads(messages), inside)
        for messages, inside in zip(chosen["messages"], members, strict=True)
    ]
