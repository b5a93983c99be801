"""Columns: arrays as the store keeps them."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray


def nullable(name: str, values: NDArray[Any]) -> pl.Series:
    """A score, float64 with null for NaN; several numbers per row as an Array of float32."""
    if values.ndim == 1:
        return pl.Series(name, np.asarray(values, dtype=np.float64)).fill_nan(None)
    rows = np.asarray(values, dtype=np.float32)
    return pl.Series(name, rows, dtype=pl.Array(pl.Float32, rows.shape[1]))


def numbers(series: pl.Series) -> NDArray[Any]:
    """The array of such a column: float64 [rows], or float32 [rows, k]; NaN where it is null."""
    if isinstance(series.dtype, pl.Array):
        return np.asarray(series.to_numpy(), dtype=np.float32)
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def listed(values: NDArray[Any], owner: NDArray[np.int64], rows: int, dtype: type[pl.DataType]) -> pl.Series:
    """A list for each of `rows` rows: the values that it owns, in order; owner: int64 [values], ascending."""
    frame = pl.DataFrame({"row": owner, "value": pl.Series(values).cast(dtype)})
    lists = frame.group_by("row", maintain_order=True).agg("value")
    every = pl.DataFrame({"row": pl.int_range(rows, eager=True, dtype=pl.Int64)})
    return every.join(lists, on="row", how="left", maintain_order="left")["value"].fill_null([])


def unlisted(lists: pl.Series) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The row of each element of lists, int64, and the elements, in order."""
    lengths = lists.list.len().to_numpy().astype(np.int64)
    filled = lists.filter(lists.list.len() > 0)
    return np.repeat(np.arange(len(lists)), lengths), filled.explode().to_numpy()
