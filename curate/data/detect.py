"""Detect: which format the records of a source have, from the records themselves."""

from collections import Counter
from collections.abc import Iterable
from typing import get_args

from curate.data.fields import (
    CHAT,
    COMPLETION,
    INSTRUCTION,
    OUTPUT,
    PROMPT,
    Columns,
    Fields,
    check_columns,
    names,
    value,
)
from curate.data.messages import CHAT_KEYS, SHAREGPT_KEYS, is_turns
from curate.errors import DataError
from curate.settings import Format

FORMATS: tuple[Format, ...] = tuple(format for format in get_args(Format) if format != "auto")


def detect(records: Iterable[Fields], columns: Columns) -> Format:
    """The format that more than half of the records have.

    `columns` narrows it down: `text` means text, `messages` messages or sharegpt, `prompt` or `response`
    prompt_completion. Raises DataError, listing the fields found, where no format has a majority.
    """
    check_columns(columns)
    fields: Counter[str] = Counter()
    votes: Counter[Format] = Counter()
    total = 0
    for record in records:
        total += 1
        fields.update(record.keys())
        found = guess(record, columns)
        if found is not None:
            votes[found] += 1
    best = max(FORMATS, key=lambda format: votes[format])
    if 2 * votes[best] > total:
        return best
    listed = ", ".join(f"`{name}`" for name, _ in fields.most_common(20)) or "none"
    mapped = f" and the column map {dict(columns)}" if columns else ""
    raise DataError(
        f"the records must have one of the formats {', '.join(FORMATS)}. Found the fields {listed}{mapped}. "
        "Say which field is which, e.g. columns: {prompt: question, response: answer}, or set `format`."
    )


def guess(record: Fields, columns: Columns) -> Format | None:
    """The format of one record, None where nothing fits. The first that fits, in the order of `FORMATS`."""
    if "text" in columns:
        return "text" if isinstance(record.get(columns["text"]), str) else None
    if "messages" in columns:
        return _chat(record, (columns["messages"],))
    if columns.keys() & {"prompt", "response"}:
        return _pair(record, columns)
    found = _chat(record, CHAT)
    if found is not None:
        return found
    if isinstance(value(record, INSTRUCTION), str) and isinstance(value(record, OUTPUT), str):
        return "alpaca"
    return _pair(record, columns) or ("text" if isinstance(record.get("text"), str) else None)


def _chat(record: Fields, fields: Iterable[str]) -> Format | None:
    for field in fields:
        if is_turns(record.get(field), CHAT_KEYS):
            return "messages"
        if is_turns(record.get(field), SHAREGPT_KEYS):
            return "sharegpt"
    return None


def _pair(record: Fields, columns: Columns) -> Format | None:
    prompt = value(record, names(columns, "prompt", PROMPT))
    completion = value(record, names(columns, "response", COMPLETION))
    if isinstance(completion, str):
        return "prompt_completion" if isinstance(prompt, str | list) else None
    return "prompt_completion" if isinstance(completion, list) and is_turns(completion, CHAT_KEYS) else None
