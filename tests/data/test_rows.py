"""Rows: identity, grouping and the text columns."""

from typing import Any

import polars as pl
import pytest

from curate.data.rows import SHORT_START, Row, conversation, normalised, plain_text, shard_schema
from curate.data.storage import BadRow

LONG = "Why does the sea look blue from far away?"


def chat(*turns: str, **extra: Any) -> Row:
    """Turns `role:content`."""
    parts = [turn.split(":", 1) for turn in turns]
    return conversation([{"role": role, "content": content} for role, content in parts], **extra)


def test_prompt_joins_all_before_the_last_assistant_turn() -> None:
    row = chat("system:S", "user:a", "assistant:b", "user:c", "assistant:d")
    assert (row.prompt, row.response) == ("S\na\nb\nc", "d")


def test_turns_after_the_last_assistant_turn_are_in_neither_text() -> None:
    row = chat("user:a", "assistant:b", "user:c")
    assert (row.prompt, row.response) == ("a", "b")


def test_response_of_a_pure_tool_call_is_the_call() -> None:
    call = [{"function": {"name": "f"}}]
    row = conversation(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": call}]
    )
    assert row.response == '[{"function":{"name":"f"}}]'


def test_text_row_has_an_empty_prompt() -> None:
    row = plain_text("once upon a time")
    assert (row.prompt, row.response, row.messages[0]["role"]) == ("", "once upon a time", "text")


def test_uid_ignores_the_order_of_keys_and_the_id() -> None:
    one = conversation([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], id="1")
    two = conversation(
        [{"content": "a", "role": "user"}, {"content": "b", "role": "assistant"}], id="2", group="g"
    )
    assert one.uid == two.uid
    assert len(one.uid) == 32


@pytest.mark.parametrize(
    "other",
    [
        chat("user:a", "assistant:c"),
        chat("user:a", "assistant:b", tools=[{"name": "f"}]),
        chat("user:a", "assistant:b", rejected=[{"role": "assistant", "content": "x"}]),
        chat("system:a", "assistant:b"),
        conversation(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": True}]
        ),
    ],
    ids=["response", "tools", "rejected", "role", "train"],
)
def test_uid_tells_apart_what_trains_differently(other: Row) -> None:
    assert other.uid != chat("user:a", "assistant:b").uid


def test_uid_of_a_known_row_stays_as_it_is() -> None:
    """Stored runs are keyed by it: a change of the canonical form must be deliberate."""
    assert chat("user:a", "assistant:b").uid == "099574857be460d25c86295cf578dd09"


def test_normalised() -> None:
    assert normalised("  Hello\n\tWORLD ") == "hello world"


def test_same_prompt_is_one_group_whatever_case_space_answer_and_system() -> None:
    one = chat(f"user:{LONG}", "assistant:b")
    two = chat("system:You are kind.", f"user:  {LONG.upper()}\n", "assistant:c")
    assert one.start == two.start


def test_conversations_that_share_their_start_are_one_group() -> None:
    one = chat(f"user:{LONG}", "assistant:b")
    two = chat(f"user:{LONG}", "assistant:c", "user:and why?", "assistant:d")
    assert one.start == two.start


def test_other_prompt_is_another_group() -> None:
    assert chat(f"user:{LONG}", "assistant:b").start != chat(f"user:{LONG}!", "assistant:b").start


def test_short_start_reads_on_until_it_says_something() -> None:
    one = chat("user:hi", "assistant:hello", "user:" + "a" * SHORT_START, "assistant:x")
    two = chat("user:hi", "assistant:hello", "user:" + "b" * SHORT_START, "assistant:x")
    assert one.start != two.start


def test_short_start_stops_once_it_says_something() -> None:
    start = ("user:hi", "assistant:" + "a" * SHORT_START)
    assert chat(*start, "user:b", "assistant:x").start == chat(*start, "user:c", "assistant:x").start


def test_short_start_never_reads_the_last_answer() -> None:
    assert chat("user:hi", "assistant:a").start == chat("user:hi", "assistant:b").start


def test_text_rows_group_by_their_text() -> None:
    assert plain_text("A b").start == plain_text("a  b").start != plain_text("c").start


@pytest.mark.parametrize(
    ("turns", "cause"),
    [
        (["user:a"], "no assistant turn"),
        (["user:a", "assistant: \n"], "empty response"),
        (["user:a", "assistant:", "user:b", "assistant:c"], "empty response in message 1"),
    ],
)
def test_conversation_without_an_answer_is_bad(turns: list[str], cause: str) -> None:
    with pytest.raises(BadRow) as error:
        chat(*turns)
    assert error.value.cause == cause


def test_shard_schema_appends_the_metadata() -> None:
    schema = shard_schema(("lang",))
    assert list(schema)[:2] == ["position", "uid"]
    assert schema["position"] == pl.Int64
    assert schema["meta.lang"] == pl.String
