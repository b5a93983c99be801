"""Characters: the length of what would be trained on, where no model says it in tokens.

With a model, `tokenize` adds the same column, of what is left after its template and its bound on tokens.
"""

from dataclasses import dataclass
from typing import Any, Literal

import orjson
import polars as pl

from curate.stage import RowStage


@dataclass(frozen=True)
class CountCharacters(RowStage):
    """Adds `supervised_characters`: of the assistant turns that would be trained on, or of a plain text."""

    train_on: Literal["all", "last"]

    @property
    def needs(self) -> frozenset[str]:
        """The conversation."""
        return frozenset({"messages"})

    @property
    def adds(self) -> frozenset[str]:
        """The count; 0 for a row that could not be trained on."""
        return frozenset({"supervised_characters"})

    def identity(self) -> dict[str, Any]:
        """Which turns count."""
        return {"version": 1, "train_on": self.train_on}

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """Count each row's characters (Unicode code points)."""
        counts = [_characters(orjson.loads(messages), self.train_on) for messages in rows["messages"]]
        return pl.DataFrame({"supervised_characters": pl.Series(counts, dtype=pl.Int32)})


def _characters(messages: list[dict[str, Any]], train_on: str) -> int:
    from curate.model.spans import BadTokens, trained_turns

    try:
        turns = trained_turns(messages, train_on)
    except BadTokens:
        return 0
    texts = [messages[turn].get("content") for turn in (turns if turns is not None else [0])]
    return sum(len(text) for text in texts if isinstance(text, str))
