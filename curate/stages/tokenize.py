"""Tokenize: turn each row into tokens and a loss mask, once; scorers and trainer read the same columns.

A row that cannot be trained on (no supervised token, over-long, a template that refuses it) counts
as unreadable: it goes to quarantine with its cause.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from curate.settings import TokenSpec
from curate.stage import DROP, Artifacts, RowStage
from curate.stages.models import ModelHandle

if TYPE_CHECKING:
    from curate.model.tokens import BadTokens, Encoded, Encoder


@dataclass(frozen=True)
class Tokenize(RowStage):
    """Adds `input_ids`, `supervised`, `tokens`, `supervised_tokens`, `supervised_characters`.

    And `rejected_input_ids`, `rejected_supervised`: the same of the conversation with the answer that was not
    preferred, null where a row has none or it cannot be encoded.
    """

    model: ModelHandle
    tokens: TokenSpec

    @property
    def needs(self) -> frozenset[str]:
        """The conversation."""
        return frozenset({"messages", "tools", "rejected"})

    @property
    def adds(self) -> frozenset[str]:
        """Tokens, mask, counts, and the cause where there are none."""
        return frozenset(schema()) | {DROP}

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
        return {"version": 2, "tokenizer": self.model.tokenizer_hash, **self.tokens.model_dump(mode="json")}

    def setup(self, artifacts: Artifacts) -> "Encoder":
        """The tokenizer, its template compiled."""
        from curate.model.load import load_tokenizer
        from curate.model.tokens import Encoder, TokenOptions

        options = TokenOptions(self.tokens.max_tokens, self.tokens.over_long, self.tokens.train_on)
        return Encoder(load_tokenizer(self.model.folder, self.model.spec.trust_remote_code), options)

    def apply(self, rows: pl.DataFrame, state: "Encoder", outputs: frozenset[str]) -> pl.DataFrame:
        """Encode each row."""
        return encode_columns(rows, state)


def schema() -> dict[str, pl.DataType]:
    """The columns of encoded rows."""
    ids, mask = pl.List(pl.Int32), pl.List(pl.Boolean)
    counts = dict.fromkeys(("tokens", "supervised_tokens", "supervised_characters"), pl.Int32())
    return {
        "input_ids": ids,
        "supervised": mask,
        **counts,
        "rejected_input_ids": ids,
        "rejected_supervised": mask,
    }


def encode_columns(rows: pl.DataFrame, encoder: "Encoder") -> pl.DataFrame:
    """`schema()` and the cause where a row cannot be encoded, from the columns messages, tools and rejected."""
    from curate.model.tokens import BadTokens

    encoded = _encoded(rows["messages"], rows["tools"], encoder)
    good = [None if isinstance(row, BadTokens) else row for row in encoded]
    causes = [row.cause if isinstance(row, BadTokens) else None for row in encoded]
    answered = rows.filter(pl.col("rejected").is_not_null())
    others = iter(_encoded(answered["rejected"], answered["tools"], encoder))
    rejected = [None if text is None else next(others) for text in rows["rejected"]]
    second = [None if isinstance(row, BadTokens) else row for row in rejected]
    columns: dict[str, list[Any]] = {
        "input_ids": [row and row.input_ids for row in good],
        "supervised": [row and row.supervised for row in good],
        "tokens": [row and len(row.input_ids) for row in good],
        "supervised_tokens": [row and sum(row.supervised) for row in good],
        "supervised_characters": [row and row.characters for row in good],
        "rejected_input_ids": [row and row.input_ids for row in second],
        "rejected_supervised": [row and row.supervised for row in second],
    }
    typed = {name: pl.Series(columns[name], dtype=kind) for name, kind in schema().items()}
    return pl.DataFrame({**typed, DROP: pl.Series(causes, dtype=pl.String)})


def _encoded(messages: pl.Series, tools: pl.Series, encoder: "Encoder") -> "list[Encoded | BadTokens]":
    from curate.model.tokens import Example

    return encoder.encode_rows(
        [
            Example(orjson.loads(turns), orjson.loads(offered) if offered else None)
            for turns, offered in zip(messages, tools, strict=True)
        ]
    )
