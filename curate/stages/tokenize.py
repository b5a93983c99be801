"""Tokenize: turn each row into tokens and a loss mask, once; scorers and trainer read the same columns.

A row that cannot be trained on (no supervised token, over-long, a template that refuses it) counts
as unreadable: it goes to quarantine with its cause.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from curate.spec import TokenSpec
from curate.stage import DROP, RowStage
from curate.stages.models import ModelHandle

if TYPE_CHECKING:
    from curate.model.tokens import Encoder


@dataclass(frozen=True)
class Tokenize(RowStage):
    """Adds `input_ids`, `supervised`, `tokens`, `supervised_tokens`."""

    model: ModelHandle
    tokens: TokenSpec

    @property
    def needs(self) -> frozenset[str]:
        """The conversation."""
        return frozenset({"messages", "tools"})

    @property
    def adds(self) -> frozenset[str]:
        """Tokens, mask, counts, and the cause where there are none."""
        return frozenset({"input_ids", "supervised", "tokens", "supervised_tokens", DROP})

    @property
    def quarantines(self) -> bool:
        """Yes."""
        return True

    @property
    def names_rows(self) -> tuple[str, ...]:
        """The pool, and with it what will be held out."""
        return ("all", "pool")

    def identity(self) -> dict[str, Any]:
        """The tokenizer with its template, and the options."""
        return {"version": 1, "tokenizer": self.model.tokenizer_hash, **self.tokens.model_dump(mode="json")}

    def setup(self) -> "Encoder":
        """The tokenizer, its template compiled."""
        from curate.model.load import load_tokenizer
        from curate.model.tokens import Encoder, TokenOptions

        options = TokenOptions(self.tokens.max_tokens, self.tokens.over_long, self.tokens.train_on)
        return Encoder(load_tokenizer(self.model.folder, self.model.spec.trust_remote_code), options)

    def apply(self, rows: pl.DataFrame, state: "Encoder", outputs: frozenset[str]) -> pl.DataFrame:
        """Encode each row."""
        from curate.model.tokens import BadTokens, Example

        encoded = state.encode_rows(
            [
                Example(orjson.loads(messages), orjson.loads(tools) if tools else None)
                for messages, tools in zip(rows["messages"], rows["tools"], strict=True)
            ]
        )
        good = [None if isinstance(row, BadTokens) else row for row in encoded]
        causes = [row.cause if isinstance(row, BadTokens) else None for row in encoded]
        return pl.DataFrame(
            {
                "input_ids": pl.Series([row and row.input_ids for row in good], dtype=pl.List(pl.Int32)),
                "supervised": pl.Series([row and row.supervised for row in good], dtype=pl.List(pl.Boolean)),
                "tokens": pl.Series([row and len(row.input_ids) for row in good], dtype=pl.Int32),
                "supervised_tokens": pl.Series([row and sum(row.supervised) for row in good], dtype=pl.Int32),
                DROP: pl.Series(causes, dtype=pl.String),
            }
        )
