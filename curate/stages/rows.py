"""Stored token columns as the pass and the trainer take them."""

import polars as pl

from curate.model.request import TokenRow

TOKENS = frozenset({"input_ids", "supervised", "tokens"})
"""What `token_rows` must be given."""

SCORED = TOKENS | {"supervised_characters", "rejected_input_ids", "rejected_supervised"}
"""All that it can use."""


def token_rows(rows: pl.DataFrame) -> list[TokenRow]:
    """Stored token columns as the pass and the trainer take them."""
    characters = (
        rows["supervised_characters"] if "supervised_characters" in rows.columns else [0] * rows.height
    )
    others: list[TokenRow | None] = [None] * rows.height
    if "rejected_input_ids" in rows.columns:
        others = [
            None if ids is None else TokenRow(ids.to_numpy(), mask.to_numpy())
            for ids, mask in zip(rows["rejected_input_ids"], rows["rejected_supervised"], strict=True)
        ]
    return [
        TokenRow(ids.to_numpy(), mask.to_numpy(), count, other)
        for ids, mask, count, other in zip(
            rows["input_ids"], rows["supervised"], characters, others, strict=True
        )
    ]
