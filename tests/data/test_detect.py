"""Detect: the format from the records."""

import json
from typing import Any

import pytest

from curate.data.detect import detect
from curate.errors import ConfigError, DataError

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHARED = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


@pytest.mark.parametrize(
    ("record", "format"),
    [
        ({"messages": TURNS}, "messages"),
        ({"messages": json.dumps(TURNS)}, "messages"),
        ({"conversations": TURNS}, "messages"),
        ({"conversations": SHARED}, "sharegpt"),
        ({"messages": SHARED}, "sharegpt"),
        ({"messages": TURNS, "prompt": "q", "chosen": TURNS}, "messages"),
        ({"instruction": "i", "input": "", "output": "o"}, "alpaca"),
        ({"instruction": "i", "context": "", "response": "o"}, "alpaca"),
        ({"prompt": "q", "completion": "a"}, "prompt_completion"),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, "prompt_completion"),
        ({"system_prompt": "s", "question": "q", "response": "a"}, "prompt_completion"),
        ({"chosen": TURNS, "rejected": TURNS}, "prompt_completion"),
        ({"text": "t"}, "text"),
        ({"text": "t", "prompt": "q", "response": "a"}, "prompt_completion"),
    ],
)
def test_format(record: dict[str, Any], format: str) -> None:
    assert detect([record], {}) == format


@pytest.mark.parametrize(
    ("record", "columns", "format"),
    [
        ({"q": "q", "a": "a", "text": "t"}, {"prompt": "q", "response": "a"}, "prompt_completion"),
        ({"messages": TURNS, "q": "q", "a": "a"}, {"prompt": "q", "response": "a"}, "prompt_completion"),
        ({"dialog": TURNS}, {"messages": "dialog"}, "messages"),
        ({"dialog": SHARED}, {"messages": "dialog"}, "sharegpt"),
        ({"body": "t", "messages": TURNS}, {"text": "body"}, "text"),
        ({"messages": TURNS, "key": 1}, {"id": "key"}, "messages"),
    ],
)
def test_columns_decide(record: dict[str, Any], columns: dict[str, str], format: str) -> None:
    assert detect([record], columns) == format


def test_majority_wins_over_a_few_broken_records() -> None:
    assert detect([{"text": "t"}] * 3 + [{"txt": "t"}] * 2, {}) == "text"


def test_no_majority_is_an_error() -> None:
    with pytest.raises(DataError):
        detect([{"text": "t"}, {"instruction": "i", "output": "o"}], {})


def test_error_lists_the_fields_found_and_what_to_do() -> None:
    with pytest.raises(DataError, match=r"Found the fields `frage`, `antwort`.*columns: \{prompt: question"):
        detect([{"frage": "q", "antwort": "a"}], {})


def test_a_structured_answer_is_not_taken_for_text() -> None:
    with pytest.raises(DataError):
        detect([{"question": "q", "answer": {"spans": ["a"]}}], {})


def test_unknown_column_name() -> None:
    with pytest.raises(ConfigError, match="Did you mean `prompt`"):
        detect([{"q": "a"}], {"promt": "q"})
