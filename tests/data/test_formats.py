"""Formats: what every format becomes, and why a record becomes no row."""

import json
from typing import Any

import pytest

from curate.data.formats import converter
from curate.data.messages import ROLES
from curate.data.rows import Row
from curate.data.storage import BadRow
from curate.errors import ConfigError

USER = {"role": "user", "content": "q"}
GOOD = {"role": "assistant", "content": "a"}
BAD = {"role": "assistant", "content": "z"}
TOOL = {"type": "function", "function": {"name": "f"}}


def read(format: Any, record: dict[str, Any], **columns: str) -> Row:
    return converter(format, columns)(record)


def turns(row: Row) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in row.messages]


def cause(format: Any, record: dict[str, Any], **columns: str) -> str:
    with pytest.raises(BadRow) as error:
        read(format, record, **columns)
    return error.value.cause


# --- messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["messages", "conversations", "conversation"])
def test_messages(field: str) -> None:
    assert read("messages", {field: [USER, GOOD]}).messages == [USER, GOOD]


def test_messages_may_be_json_text() -> None:
    assert read("messages", {"messages": json.dumps([USER, GOOD])}).messages == [USER, GOOD]


def test_messages_keep_extras_in_order_and_drop_nulls() -> None:
    answer = {**GOOD, "name": "bot", "tool_calls": None, "thinking": "hm"}
    assert list(read("messages", {"messages": [USER, answer]}).messages[1]) == [
        "role",
        "content",
        "name",
        "thinking",
    ]


def test_tool_conversation() -> None:
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    }
    result = {"role": "tool", "content": "7", "tool_call_id": "c1"}
    row = read("messages", {"messages": [USER, call, result, GOOD], "tools": [TOOL]})
    assert row.messages[1] == {**call, "content": ""}
    assert row.messages[2] == result
    assert row.tools == [TOOL]


def test_tools_may_be_json_text() -> None:
    assert read("messages", {"messages": [USER, GOOD], "tools": json.dumps([TOOL])}).tools == [TOOL]


@pytest.mark.parametrize("tools", [None, "", " ", [], "[]"])
def test_no_tools(tools: Any) -> None:
    assert read("messages", {"messages": [USER, GOOD], "tools": tools}).tools is None


def test_content_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read("messages", {"messages": [USER, {"role": "assistant", "content": parts}]}).response == "ab"


@pytest.mark.parametrize(
    ("flag", "train"),
    [
        ({"weight": 0}, False),
        ({"weight": 1}, True),
        ({"train": False}, False),
        ({"weight": 1, "train": True}, True),
    ],
)
def test_train_flags(flag: dict[str, Any], train: bool) -> None:
    row = read("messages", {"messages": [USER, {**GOOD, **flag}, USER, GOOD]})
    assert row.messages[1] == {**GOOD, "train": train}


def test_system_field_comes_first() -> None:
    row = read("messages", {"messages": [USER, GOOD], "system": "s"})
    assert turns(row) == [("system", "s"), ("user", "q"), ("assistant", "a")]


def test_system_field_equal_to_the_system_message_is_kept_once() -> None:
    system = {"role": "system", "content": "s"}
    assert read("messages", {"messages": [system, USER, GOOD], "system": "s"}).messages == [
        system,
        USER,
        GOOD,
    ]


@pytest.mark.parametrize("rejected", ["z", [BAD], BAD, [USER, BAD]], ids=["text", "turns", "turn", "whole"])
def test_rejected_becomes_a_whole_conversation(rejected: Any) -> None:
    assert read("messages", {"messages": [USER, GOOD], "rejected": rejected}).rejected == [USER, BAD]


CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "content": "7"}


@pytest.mark.parametrize("record", [
    {"messages": [USER, CALL, RESULT, GOOD], "rejected": [USER, CALL, RESULT, BAD]},
    {"messages": [USER, CALL, RESULT], "chosen": [USER, CALL, RESULT, GOOD], "rejected": [USER, CALL, RESULT, BAD]},
], ids=["answered", "chosen"])  # fmt: skip
def test_rejected_after_a_tool_result_may_be_the_whole_conversation(record: dict[str, Any]) -> None:
    row = read("messages", record)
    assert (row.messages, row.rejected) == ([USER, CALL, RESULT, GOOD], [USER, CALL, RESULT, BAD])


def test_rejected_after_another_tool_result_is_no_answer_to_this_one() -> None:
    other = [USER, CALL, {**RESULT, "content": "8"}, BAD]
    found = cause("messages", {"messages": [USER, CALL, RESULT, GOOD], "rejected": other})
    assert found == "field `rejected` is a whole conversation, but the prompt is not in it"


def test_rejected_is_json_text_where_the_messages_are() -> None:
    row = read("messages", {"messages": json.dumps([USER, GOOD]), "rejected": json.dumps([USER, BAD])})
    assert row.rejected == [USER, BAD]


def test_rejected_gets_the_system_turn_too() -> None:
    row = read("messages", {"messages": [USER, GOOD], "rejected": "z", "system": "s"})
    assert row.rejected == [{"role": "system", "content": "s"}, USER, BAD]


# --- sharegpt ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "role"), ROLES.items())
def test_sharegpt_roles(name: str, role: str) -> None:
    said = [{"from": name, "value": "x"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert read("sharegpt", {"conversations": said}).messages[0] == {"role": role, "content": "x"}


def test_sharegpt_role_in_capitals() -> None:
    said = [{"from": "Human", "value": "q"}, {"from": "GPT", "value": "a"}]
    assert turns(read("sharegpt", {"conversations": said})) == [("user", "q"), ("assistant", "a")]


def test_sharegpt_preference_pair() -> None:
    record = {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "z"},
    }
    row = read("sharegpt", record)
    assert (row.messages, row.rejected) == ([USER, GOOD], [USER, BAD])


# --- alpaca -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"instruction": "i", "output": "o"}, [("user", "i"), ("assistant", "o")]),
        ({"instruction": "i", "input": "", "output": "o"}, [("user", "i"), ("assistant", "o")]),
        ({"instruction": "i", "input": "n", "output": "o"}, [("user", "i\nn"), ("assistant", "o")]),
        ({"instruction": "", "input": "n", "output": "o"}, [("user", "n"), ("assistant", "o")]),
        ({"instruction": "i", "context": "n", "response": "o"}, [("user", "i\nn"), ("assistant", "o")]),
        (
            {"instruction": "i", "output": "o", "system": "s", "history": [["u", "v"], ["w", "x"]]},
            [
                ("system", "s"), ("user", "u"), ("assistant", "v"), ("user", "w"), ("assistant", "x"),
                ("user", "i"), ("assistant", "o"),
            ],
        ),
    ],
    ids=["plain", "empty input", "input", "input only", "dolly", "system and history"],
)  # fmt: skip
def test_alpaca(record: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert turns(read("alpaca", record)) == expected


def test_alpaca_columns() -> None:
    record = {"ask": "i", "reply": "o", "sys": "s", "before": [["u", "v"]]}
    row = read("alpaca", record, prompt="ask", response="reply", system="sys", history="before")
    assert [content for _, content in turns(row)] == ["s", "u", "v", "i", "o"]


# --- prompt and completion --------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["prompt", "question", "query"])
@pytest.mark.parametrize("completion", ["completion", "response", "answer", "chosen"])
def test_prompt_completion_names(prompt: str, completion: str) -> None:
    assert turns(read("prompt_completion", {prompt: "q", completion: "a"})) == [
        ("user", "q"),
        ("assistant", "a"),
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": [USER], "completion": [GOOD]},
        {"prompt": [USER], "completion": "a"},
        {"prompt": "q", "completion": [GOOD]},
        {"prompt": "q", "completion": [USER, GOOD]},
        {"completion": [USER, GOOD]},
        {"prompt": [{"role": "system", "content": "s"}, USER], "completion": [USER, GOOD]},
    ],
    ids=[
        "lists",
        "list and text",
        "text and list",
        "whole conversation",
        "implicit prompt",
        "system and whole",
    ],
)
def test_prompt_completion_shapes(record: dict[str, Any]) -> None:
    assert read("prompt_completion", record).messages == [USER, GOOD]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "chosen": "a", "rejected": "z"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ],
    ids=["texts", "lists", "implicit prompt", "whole conversations"],
)
def test_preference_pairs(record: dict[str, Any]) -> None:
    row = read("prompt_completion", record)
    assert (row.messages, row.rejected) == ([USER, GOOD], [USER, BAD])


def test_column_map() -> None:
    record = {"Q": "q", "A": "a", "R": "z", "key": 7, "topic": "t", "sys": "s", "prompt": "not me"}
    row = read(
        "prompt_completion",
        record,
        prompt="Q",
        response="A",
        rejected="R",
        id="key",
        group="topic",
        system="sys",
    )
    assert turns(row) == [("system", "s"), ("user", "q"), ("assistant", "a")]
    assert row.rejected == [{"role": "system", "content": "s"}, USER, BAD]
    assert (row.id, row.group) == ("7", "t")


def test_history_where_it_is_mapped() -> None:
    record = {"prompt": "q", "response": "a", "before": [["u", "v"]]}
    row = read("prompt_completion", record, prompt="prompt", history="before")
    assert [content for _, content in turns(row)] == ["u", "v", "q", "a"]


def test_completion_that_looks_like_json_messages_stays_text() -> None:
    answer = json.dumps([USER, GOOD])
    assert read("prompt_completion", {"prompt": "q", "completion": answer}).response == answer


def test_text() -> None:
    assert read("text", {"body": "once"}, text="body").response == "once"


@pytest.mark.parametrize(("value", "id"), [("x", "x"), (3, "3"), (1.5, "1.5"), (None, None)])
def test_id(value: Any, id: str | None) -> None:
    assert read("text", {"text": "a", "id": value}).id == id


def test_group_field_counts_only_where_it_is_mapped() -> None:
    assert read("text", {"text": "a", "group": "g"}).group is None


# --- causes -----------------------------------------------------------------------------------------

CAUSES: list[tuple[str, dict[str, Any], str]] = [
    ("messages", {}, "missing field `messages` or `conversations` or `conversation`"),
    ("messages", {"messages": None}, "field `messages` is null"),
    ("messages", {"messages": "hello"}, "`messages` is text but not JSON: "),
    ("messages", {"messages": 7}, "`messages` must be a list of messages. Got a number."),
    ("messages", {"messages": []}, "`messages` is an empty list"),
    ("messages", {"messages": [USER]}, "no assistant turn"),
    ("messages", {"messages": [USER, {"role": "assistant", "content": ""}]}, "empty response"),
    ("messages", {"messages": ["q"]}, "`messages[0]` must be an object. Got text."),
    ("messages", {"messages": [{"content": "q"}]}, "missing field `messages[0].role`"),
    ("messages", {"messages": [{"role": 1, "content": "q"}]}, "`messages[0].role` must be text. Got a number."),
    ("messages", {"messages": [{"role": "narrator", "content": "q"}]}, "unknown role `narrator` in `messages[0]`"),
    ("messages", {"messages": [USER, {"role": "assistant"}]}, "missing field `messages[1].content`"),
    ("messages", {"messages": [USER, {"role": "assistant", "content": None}]}, "`messages[1].content` is null"),
    ("messages", {"messages": [USER, {"role": "assistant", "content": 4}]}, "`messages[1].content` must be text. Got a number."),
    ("messages", {"messages": [USER, {"role": "assistant", "content": [{"type": "image"}]}]}, "`messages[1].content[0]` must be a text part. Got type 'image'."),
    ("messages", {"messages": [USER, {**GOOD, "weight": 0.5}]}, "`messages[1].weight` must be 0 or 1. Got 0.5."),
    ("messages", {"messages": [USER, {**GOOD, "train": "no"}]}, "`messages[1].train` must be true or false. Got 'no'."),
    ("messages", {"messages": [USER, {**GOOD, "train": True, "weight": 0}]}, "`messages[1]`: `train` and `weight` contradict"),
    ("messages", {"messages": [USER, {**GOOD, "weight": 0}]}, "no assistant turn is trained on"),
    ("messages", {"messages": [{"role": "system", "content": "t"}, USER, GOOD], "system": "s"}, "both a `system` field"),
    ("messages", {"messages": [USER, GOOD], "system": 3}, "field `system` must be text. Got a number."),
    ("messages", {"messages": [USER, GOOD], "tools": "f()"}, "`tools` is text but not JSON"),
    ("messages", {"messages": [USER, GOOD], "tools": ["f"]}, "field `tools` must be a list of objects"),
    ("messages", {"messages": [USER, GOOD], "rejected": 1}, "field `rejected` must be text or a list of messages. Got a number."),
    ("sharegpt", {"conversations": [{"role": "user"}]}, "missing field `conversations[0].from`"),
    ("alpaca", {"output": "o"}, "missing field `instruction`"),
    ("alpaca", {"instruction": "", "output": "o"}, "empty prompt"),
    ("alpaca", {"instruction": "i"}, "missing field `output` or `response` or `completion`"),
    ("alpaca", {"instruction": "i", "output": 3}, "field `output` must be text. Got a number."),
    ("alpaca", {"instruction": ["i"], "output": "o"}, "field `instruction` must be text. Got a list."),
    ("alpaca", {"instruction": "i", "output": "o", "history": {"a": 1}}, "field `history` must be a list of [user, assistant] pairs. Got an object."),
    ("alpaca", {"instruction": "i", "output": "o", "history": [["u"]]}, "`history[0]` must be a pair of texts"),
    ("prompt_completion", {"completion": "a"}, "missing field `prompt` or `question` or `query`"),
    ("prompt_completion", {"prompt": "q"}, "missing field `completion` or `response`"),
    ("prompt_completion", {"prompt": "q", "response": None}, "field `response` is null"),
    ("prompt_completion", {"prompt": "q", "response": "  "}, "empty response"),
    ("prompt_completion", {"prompt": " ", "response": "a"}, "empty prompt"),
    ("prompt_completion", {"prompt": 1, "response": "a"}, "field `prompt` must be text. Got a number."),
    ("prompt_completion", {"prompt": "q", "response": True}, "field `response` must be text or a list of messages. Got a boolean."),
    ("prompt_completion", {"prompt": "other", "completion": [USER, GOOD]}, "field `completion` is a whole conversation, but the prompt is not in it"),
    ("text", {"text": " "}, "empty text"),
    ("text", {"text": 1}, "field `text` must be text. Got a number."),
    ("text", {"text": "a", "id": [1]}, "field `id` must be text or a number. Got a list."),
    ("text", {"text": "a", "id": True}, "field `id` must be text or a number. Got a boolean."),
]  # fmt: skip


@pytest.mark.parametrize(("format", "record", "expected"), CAUSES)
def test_cause(format: str, record: dict[str, Any], expected: str) -> None:
    assert cause(format, record).startswith(expected)


def test_cause_names_the_mapped_field() -> None:
    assert cause("prompt_completion", {"prompt": "q"}, response="A") == "missing field `A`"


def test_unknown_name_in_the_column_map() -> None:
    with pytest.raises(ConfigError, match="Did you mean `response`"):
        converter("auto", {"reponse": "x"})


def test_auto_is_no_format_of_a_record() -> None:
    with pytest.raises(ConfigError, match="must be one of alpaca"):
        converter("auto", {})
