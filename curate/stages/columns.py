"""Columns: arrays of a scorer as the store keeps them."""

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
