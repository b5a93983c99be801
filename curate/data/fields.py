"""Fields: finding a value in a record under one of its usual names, or under the one that the user maps."""

from collections.abc import Mapping, Sequence
from typing import Any

from curate.data.messages import kind
from curate.data.storage import BadRow
from curate.errors import ConfigError
from curate.registry import unknown

Fields = Mapping[str, Any]
Columns = Mapping[str, str]

OURS = (
    "prompt", "response", "system", "history", "messages", "rejected", "text", "tools", "id", "group",
)  # fmt: skip
"""The names on the left of a column map."""

CHAT = ("messages", "conversations", "conversation")
SHAREGPT = ("conversations", "conversation", "messages")
PROMPT = ("prompt", "question", "query")
COMPLETION = ("completion", "response", "answer", "chosen")
INSTRUCTION = ("instruction",)
INPUT = ("input", "context")
OUTPUT = ("output", "response", "completion")
SYSTEM = ("system", "system_prompt")


def check_columns(columns: Columns) -> None:
    """Raises ConfigError for a name on the left of a column map that is not ours."""
    for ours in columns:
        if ours not in OURS:
            raise ConfigError(f"columns: {unknown('name', ours, OURS)}")


def names(columns: Columns, ours: str, usual: Sequence[str]) -> Sequence[str]:
    """The fields that may hold `ours`: the mapped one alone, else the usual ones."""
    return (columns[ours],) if ours in columns else usual


def value(record: Fields, fields: Sequence[str]) -> Any:
    """The first of these fields that is not null; None where there is none."""
    for field in fields:
        found = record.get(field)
        if found is not None:
            return found
    return None


def required(record: Fields, fields: Sequence[str]) -> tuple[str, Any]:
    """The first of these fields that is not null, with its name. Raises BadRow where there is none."""
    for field in fields:
        found = record.get(field)
        if found is not None:
            return field, found
    for field in fields:
        if field in record:
            raise BadRow(f"field `{field}` is null")
    raise BadRow(f"missing field {' or '.join(f'`{field}`' for field in fields)}")


def string(field: str, found: Any) -> str:
    """`found` if it is text. Raises BadRow otherwise."""
    if not isinstance(found, str):
        raise BadRow(f"field `{field}` must be text. Got {kind(found)}.")
    return found


def optional_string(record: Fields, fields: Sequence[str]) -> str | None:
    """The first of these fields that is not null, if it is text. Raises BadRow if it is something else."""
    for field in fields:
        if record.get(field) is not None:
            return string(field, record[field])
    return None


def label(record: Fields, field: str) -> str | None:
    """A text or a number as text; None where the field is absent or null. Raises BadRow otherwise."""
    found = record.get(field)
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise BadRow(f"field `{field}` must be text or a number. Got {kind(found)}.")
    return str(found)
