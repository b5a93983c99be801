"""Messages: turns as datasets write them, brought to one form.

A message is `{"role", "content", ...extras}`, content a string, role one of system, user, assistant,
tool. Extras (`name`, `tool_calls`, `tool_call_id`, ...) are kept in their order; keys whose value is null
are dropped, since typed containers fill them in. `train` says whether the turn is learned from, where the
record says so itself: `train: true|false`, or OpenAI's `weight: 0|1`.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from curate.data.storage import BadRow

Message = dict[str, Any]

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
"""The role of each name in use. A `function_call` turn becomes an assistant turn whose text is the call."""

CHAT_KEYS = ("role", "content")
SHAREGPT_KEYS = ("from", "value")
_CALLS = ("tool_calls", "function_call")
_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def kind(value: object) -> str:
    """What a JSON value is, in the words of an error message."""
    return _KINDS.get(type(value), type(value).__name__)


def decoded(value: Any, field: str) -> Any:
    """`value`, or what it says where it is JSON in a string (as typed containers hold mixed structures)."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadRow(f"`{field}` is text but not JSON: {error}") from error


def is_turns(value: Any, keys: tuple[str, str]) -> bool:
    """Whether a value looks like a list of turns with these keys."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return False
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and keys[0] in value[0]


def read_turns(value: Any, field: str, keys: tuple[str, str] = CHAT_KEYS) -> list[Message]:
    """The messages of a list of turns. Raises BadRow with the place of the first fault."""
    turns = decoded(value, field)
    if not isinstance(turns, list):
        raise BadRow(f"`{field}` must be a list of messages. Got {kind(turns)}.")
    if not turns:
        raise BadRow(f"`{field}` is an empty list")
    return [_message(turn, f"{field}[{index}]", keys) for index, turn in enumerate(turns)]


def _message(turn: Any, where: str, keys: tuple[str, str]) -> Message:
    if not isinstance(turn, dict):
        raise BadRow(f"`{where}` must be an object. Got {kind(turn)}.")
    role_key, content_key = keys
    name = turn.get(role_key)
    if not isinstance(name, str):
        raise BadRow(
            f"missing field `{where}.{role_key}`"
            if name is None
            else f"`{where}.{role_key}` must be text. Got {kind(name)}."
        )
    role = ROLES.get(name) or ROLES.get(name.strip().lower())
    if role is None:
        raise BadRow(f"unknown role `{name}` in `{where}`. Known: {', '.join(ROLES)}.")
    content = turn.get(content_key)
    message: Message = {"role": role, "content": content}
    if len(turn) > 2:
        for key, extra in turn.items():
            if key not in keys and extra is not None:
                message[key] = extra
    if not isinstance(content, str):
        message["content"] = _content(content, f"{where}.{content_key}", message, content_key in turn)
    if "weight" in message or "train" in message:
        _flag(message, where)
    return message


def _content(content: Any, where: str, message: Message, present: bool) -> str:
    if content is None:
        if calls(message):
            return ""
        raise BadRow(f"`{where}` is null" if present else f"missing field `{where}`")
    if not isinstance(content, list):
        raise BadRow(f"`{where}` must be text. Got {kind(content)}.")
    texts = []
    for index, part in enumerate(content):
        text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else part
        if not isinstance(text, str):
            found = f"type {part.get('type')!r}" if isinstance(part, dict) else kind(part)
            raise BadRow(f"`{where}[{index}]` must be a text part. Got {found}.")
        texts.append(text)
    return "".join(texts)


def _flag(message: Message, where: str) -> None:
    flags = set()
    if "train" in message:
        if not isinstance(message["train"], bool):
            raise BadRow(f"`{where}.train` must be true or false. Got {message['train']!r}.")
        flags.add(message.pop("train"))
    if "weight" in message:
        weight = message.pop("weight")
        if weight not in (0, 1):
            raise BadRow(f"`{where}.weight` must be 0 or 1. Got {weight!r}.")
        flags.add(bool(weight))
    if len(flags) > 1:
        raise BadRow(f"`{where}`: `train` and `weight` contradict each other")
    message["train"] = flags.pop()


def calls(message: Message) -> Any:
    """The tool calls of a message, or None."""
    for key in _CALLS:
        if message.get(key):
            return message[key]
    return None


def with_system(messages: list[Message], system: str | None) -> list[Message]:
    """The messages with a system turn in front. Raises BadRow if they open with another one."""
    if not system:
        return messages
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"] != system:
            raise BadRow("both a `system` field and a different system message")
        return messages
    return [{"role": "system", "content": system}, *messages]


def last_assistant(messages: list[Message]) -> int:
    """The index of the last assistant turn; checks all of them.

    Raises BadRow where there is none, where one says nothing, or where none is trained on.
    """
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns:
        raise BadRow("no assistant turn")
    last = turns[-1]
    for index in turns:
        message = messages[index]
        content = message["content"]
        if (not content or content.isspace()) and not calls(message):
            raise BadRow("empty response" if index == last else f"empty response in message {index}")
    if all(messages[index].get("train") is False for index in turns):
        raise BadRow("no assistant turn is trained on: all have train false or weight 0")
    return last


def exchanges(messages: list[Message]) -> list[tuple[str, str]]:
    """(instruction, response) of each assistant turn: what was said since the turn before, and the answer."""
    found, said = [], list[str]()
    for message in messages:
        if message["role"] == "assistant":
            found.append(("\n".join(said), message["content"]))
            said = []
        else:
            said.append(message["content"])
    return found
