"""What several stages need of rows: their tokens as the model takes them, and a count of equal ones."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.model.request import TokenRow


def token_rows(rows: pl.DataFrame) -> list[TokenRow]:
    """Stored token columns as the pass and the trainer take them."""
    return [
        TokenRow(ids.to_numpy(), mask.to_numpy())
        for ids, mask in zip(rows["input_ids"], rows["supervised"], strict=True)
    ]


def occurrences(uids: pl.Series) -> NDArray[np.int64]:
    """For each row, how many rows before it have the same uid: int64 [rows]."""
    frame = pl.DataFrame({"uid": uids}).with_columns(pl.int_range(pl.len()).over("uid").alias("nth"))
    return frame["nth"].to_numpy().astype(np.int64)
