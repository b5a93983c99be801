"""Characters of what would be trained on, counted without a tokenizer."""

import json
from typing import Any

import polars as pl
import pytest
import toys

from curate.model.tokens import Encoder, Example, TokenOptions
from curate.settings import Resources
from curate.stages.characters import CountCharacters


def count(messages: list[dict[str, Any]], train_on: Any = "all") -> int:
    stage = CountCharacters("characters", None, Resources(), train_on)
    found = stage.apply(pl.DataFrame({"messages": [json.dumps(messages)]}), None, frozenset())
    return int(found["supervised_characters"][0])


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


TWO = [turn("user", "hello"), turn("assistant", "yes"), turn("user", "and?"), turn("assistant", "né 😀")]


@pytest.mark.parametrize(
    ("messages", "train_on", "characters"),
    [
        (TWO, "all", 3 + 4),
        (TWO, "last", 4),
        ([*TWO[:1], {**TWO[1], "train": False}, *TWO[2:]], "all", 4),
        ([turn("text", "plain")], "all", 5),
        ([turn("user", "hello")], "all", 0),
        ([], "all", 0),
        ([turn("user", "x"), turn("assistant", None, tool_calls=[])], "all", 0),
    ],
    ids=["all turns", "last turn", "untrained turn", "text", "no answer", "no message", "no content"],
)
def test_counts(messages: list[dict[str, Any]], train_on: str, characters: int) -> None:
    assert count(messages, train_on) == characters


def test_it_is_what_tokenize_counts_where_nothing_is_cut() -> None:
    encoder = Encoder(toys.tiny_tokenizer(), TokenOptions())
    for row in toys.toy_rows(12):
        encoded = encoder.encode_rows([Example(row["messages"])])[0]
        assert encoded.characters == count(row["messages"])  # type: ignore[union-attr]
