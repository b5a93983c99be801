"""Mixture runs: the table of trained mixtures, with their losses, that mixture laws are fitted to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.law_runs import Runs

LABEL, SIZES, LOSS = "run", ("parameters", "tokens"), "loss"
SUM_TOLERANCE = 1e-3
"""How far the weights of a run may be from 1, as written numbers are rounded; they are divided by their sum."""

COLUMNS = (
    "a column per group, named as it, with its weight; `loss`, or one `loss.<target>` per target, in nats; "
    "`parameters` and `tokens` where runs differ in size; `run` for a name"
)
"""What the table holds, for messages and descriptions."""


@dataclass(frozen=True)
class RunTable:
    """groups: k names. mixtures: float64 [n, k]. losses: target ("loss" for the one) -> float64 [n].

    parameters, tokens: float64 [n], or None without the column.
    """

    groups: tuple[str, ...]
    mixtures: NDArray[np.float64]
    losses: Mapping[str, NDArray[np.float64]]
    parameters: NDArray[np.float64] | None
    tokens: NDArray[np.float64] | None

    def runs(self, target: str) -> Runs:
        """The runs with the loss of one target."""
        return Runs(self.groups, self.mixtures, self.losses[target], self.parameters, self.tokens)


def read_runs(path: Path) -> RunTable:
    """Read a CSV, JSON lines or Parquet file with COLUMNS.

    Raises DataError, with the file and the row (from 1, without the header), for a file that is none of these,
    missing columns, what is no number, weights below 0 or that do not sum to 1 within 0.001, losses and sizes
    that are not above 0.
    """
    frame = _frame(path)
    names = [name for name in frame.columns if name != LABEL]
    losses = [name for name in names if name == LOSS or name.startswith(f"{LOSS}.")]
    groups = [name for name in names if name not in losses and name not in SIZES]
    if not losses or len(groups) < 2 or (LOSS in losses and len(losses) > 1):
        raise DataError(
            f"{path}: must have {COLUMNS}. "
            f"Got losses {', '.join(losses) or 'none'} and groups {', '.join(groups) or 'none'}."
        )
    columns = {name: _numbers(path, frame[name]) for name in names}
    for name in [*losses, *(name for name in SIZES if name in names)]:
        _refuse(path, columns[name] <= 0, columns[name], f"`{name}` must be above 0")
    for name in groups:
        _refuse(path, columns[name] < 0, columns[name], f"the weight of `{name}` must be at least 0")
    mixtures = np.column_stack([columns[name] for name in groups])
    sums = mixtures.sum(axis=1)
    wrong = np.abs(sums - 1) > SUM_TOLERANCE
    _refuse(path, wrong, sums, f"the weights ({', '.join(groups)}) must sum to 1 within {SUM_TOLERANCE}")
    return RunTable(
        tuple(groups),
        mixtures / sums[:, None],
        {name.removeprefix(f"{LOSS}."): columns[name] for name in losses},
        *(columns.get(name) for name in SIZES),
    )


def _frame(path: Path) -> pl.DataFrame:
    try:
        match path.suffix:
            case ".csv":
                frame = pl.read_csv(path, infer_schema=False)
            case ".jsonl":
                frame = pl.read_ndjson(path, infer_schema_length=None)
            case ".parquet":
                frame = pl.read_parquet(path)
            case _:
                raise DataError(f"{path}: runs must be a .csv, .jsonl or .parquet file.")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: runs cannot be read. {error}") from error
    if frame.height == 0:
        raise DataError(f"{path}: must hold runs, one a row. Got none.")
    return frame


def _numbers(path: Path, column: pl.Series) -> NDArray[np.float64]:
    """A column as finite float64 [n]."""
    text = column.str.strip_chars() if column.dtype == pl.String else column
    numbers = text.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{path}, row {row + 1}: `{column.name}` must be a number. Got {column[row]!r}.")
    return numbers


def _refuse(path: Path, wrong: NDArray[np.bool_], values: NDArray[np.float64], expected: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(f"{path}, row {row + 1}: {expected}. Got {values[row]:.6g}.")
