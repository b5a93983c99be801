"""Stored token columns as the pass and the trainer take them."""

import polars as pl

from curate.model.request import TokenRow


def token_rows(rows: pl.DataFrame) -> list[TokenRow]:
    """Stored token columns as the pass and the trainer take them."""
    return [
        TokenRow(ids.to_numpy(), mask.to_numpy())
        for ids, mask in zip(rows["input_ids"], rows["supervised"], strict=True)
    ]
