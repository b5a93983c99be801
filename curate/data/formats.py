"""Formats: how datasets write an example, each read into a `Row`.

=================  ==========================================================================================
messages           `messages` (or `conversations`, `conversation`): [{role, content, ...}]; `rejected`
sharegpt           `conversations` (or `conversation`, `messages`): [{from, value, ...}]; `rejected`;
                   in both a conversation that stops before the answer takes it from `chosen`
alpaca             `instruction`, `input` (or `context`), `output` (or `response`, `completion`), `history`
                   [[user, assistant], ...]; instruction and input are joined by a newline
prompt_completion  `prompt` (or `question`, `query`); `completion` (or `response`, `answer`, `chosen`), each
                   text or a list of messages; `rejected`. A completion that opens with a system or user
                   turn is a whole conversation
text               `text`
=================  ==========================================================================================

All but `text` also keep `system` (or `system_prompt`) and `tools`; all keep `id`. Messages, history and tools
may be JSON in a string. `columns` (our name -> field) replaces the names above: prompt, response, system,
history, messages, rejected, text, tools, id, group. `group` is read only where it is mapped.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from curate.data.fields import (
    CHAT,
    COMPLETION,
    INPUT,
    INSTRUCTION,
    OUTPUT,
    PROMPT,
    SHAREGPT,
    SYSTEM,
    Columns,
    Fields,
    check_columns,
    label,
    names,
    optional_string,
    required,
    string,
    value,
)
from curate.data.messages import (
    CHAT_KEYS,
    SHAREGPT_KEYS,
    Message,
    decoded,
    is_turns,
    kind,
    last_assistant,
    read_turns,
    with_system,
)
from curate.data.rows import Row, conversation, plain_text
from curate.data.storage import BadRow
from curate.errors import ConfigError
from curate.settings import Format

Turns = tuple[list[Message], list[Message] | None]
"""The messages and, where the record has one, the conversation with the rejected answer."""


def converter(format: Format, columns: Columns) -> Callable[[Fields], Row]:
    """The function that turns a record of this format into a row, or raises BadRow.

    Raises ConfigError for `auto` (see `detect`) and for a name in `columns` that is not ours.
    """
    check_columns(columns)
    if format == "text":
        return partial(_text, columns)
    readers: dict[str, Callable[[Columns, Fields], Turns]] = {
        "messages": partial(_chat, CHAT_KEYS, CHAT),
        "sharegpt": partial(_chat, SHAREGPT_KEYS, SHAREGPT),
        "alpaca": _alpaca,
        "prompt_completion": _prompt_completion,
    }
    if format not in readers:
        raise ConfigError(f"format must be one of {', '.join(sorted({*readers, 'text'}))}. Got {format!r}.")
    return partial(_conversation, readers[format], columns)


def _identity(columns: Columns, record: Fields) -> tuple[str | None, str | None]:
    group = label(record, columns["group"]) if "group" in columns else None
    return label(record, columns.get("id", "id")), group


def _text(columns: Columns, record: Fields) -> Row:
    text = string(*required(record, names(columns, "text", ("text",))))
    if not text or text.isspace():
        raise BadRow("empty text")
    return plain_text(text, *_identity(columns, record))


def _conversation(reader: Callable[[Columns, Fields], Turns], columns: Columns, record: Fields) -> Row:
    messages, rejected = reader(columns, record)
    system = optional_string(record, names(columns, "system", SYSTEM))
    if system:
        messages = with_system(messages, system)
        rejected = with_system(rejected, system) if rejected else None
    tools = _tools(record, columns.get("tools", "tools"))
    return conversation(messages, tools, rejected, *_identity(columns, record))


def _tools(record: Fields, field: str) -> list[Any] | None:
    found = record.get(field)
    if not found or (isinstance(found, str) and found.isspace()):
        return None
    tools = decoded(found, field)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow(f"field `{field}` must be a list of objects. Got {kind(tools)}.")
    return tools or None


def _rejected(columns: Columns, record: Fields) -> tuple[str, Any]:
    field = columns.get("rejected", "rejected")
    return field, record.get(field)


def _chat(keys: tuple[str, str], usual: Sequence[str], columns: Columns, record: Fields) -> Turns:
    field, found = required(record, names(columns, "messages", usual))
    messages = read_turns(found, field, keys)
    field, other = _rejected(columns, record)
    if isinstance(found, str) and is_turns(other, keys):
        other = decoded(other, field)
    if messages[-1]["role"] != "assistant" and record.get("chosen") is not None:
        start, messages = messages, _answered(messages, record["chosen"], "chosen", keys)
    elif other is not None:
        start = messages[: last_assistant(messages)]
    return messages, None if other is None else _answered(start, other, field, keys)


def _alpaca(columns: Columns, record: Fields) -> Turns:
    asked = names(columns, "prompt", INSTRUCTION)
    parts = (optional_string(record, asked), optional_string(record, INPUT))
    prompt = "\n".join([part for part in parts if part])
    if not prompt or prompt.isspace():
        required(record, asked)
        raise BadRow("empty prompt")
    output = string(*required(record, names(columns, "response", OUTPUT)))
    start = [*_history(record, columns.get("history", "history")), {"role": "user", "content": prompt}]
    field, other = _rejected(columns, record)
    rejected = None if other is None else _answered(start, other, field, CHAT_KEYS)
    return [*start, {"role": "assistant", "content": output}], rejected


def _history(record: Fields, field: str) -> list[Message]:
    found = record.get(field)
    if found is None or found in ("", []):
        return []
    pairs = decoded(found, field)
    if not isinstance(pairs, list):
        raise BadRow(f"field `{field}` must be a list of [user, assistant] pairs. Got {kind(pairs)}.")
    messages: list[Message] = []
    for index, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(said, str) for said in pair):
            raise BadRow(f"`{field}[{index}]` must be a pair of texts [user, assistant]. Got {pair!r}.")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return messages


def _prompt_completion(columns: Columns, record: Fields) -> Turns:
    field, answer = required(record, names(columns, "response", COMPLETION))
    asked = names(columns, "prompt", PROMPT)
    start: list[Message] = []
    if isinstance(answer, str) or value(record, asked) is not None:
        start = _prompt(*required(record, asked))
        if "history" in columns:
            start = [*_history(record, columns["history"]), *start]
    messages = _answered(start, answer, field, CHAT_KEYS)
    field, other = _rejected(columns, record)
    return messages, None if other is None else _answered(start, other, field, CHAT_KEYS)


def _prompt(field: str, found: Any) -> list[Message]:
    if isinstance(found, list):
        return read_turns(found, field)
    text = string(field, found)
    if not text or text.isspace():
        raise BadRow("empty prompt")
    return [{"role": "user", "content": text}]


def _answered(start: list[Message], answer: Any, field: str, keys: tuple[str, str]) -> list[Message]:
    """The conversation `start` with its answer: a text, further turns, or the whole conversation again."""
    if isinstance(answer, str):
        return [*start, {"role": "assistant", "content": answer}]
    if not isinstance(answer, list | dict):
        raise BadRow(f"field `{field}` must be text or a list of messages. Got {kind(answer)}.")
    turns = read_turns([answer] if isinstance(answer, dict) else answer, field, keys)
    if turns[0]["role"] not in ("system", "user") or not start:
        return [*start, *turns]
    asked = _said(start[-1])
    if not any(_said(turn) == asked for turn in turns):
        raise BadRow(f"field `{field}` is a whole conversation, but the prompt is not in it")
    return turns


def _said(turn: Message) -> tuple[str, str]:
    return turn["role"], turn["content"].strip()
