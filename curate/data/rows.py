"""Row: one training example in canonical form, whatever format it came in.

Identity. `uid` is blake2b-128 over JSON with sorted keys of (messages, tools, rejected): two rows with one
uid are interchangeable everywhere, for scoring and for training. So `train` flags, which change what
is learned, and extras such as `tool_calls`, which a chat template may print, are part of it; `id`,
`source`, metadata, the order of keys and the format are not.

Group. Rows of one group never stand on both sides of a split, nor do rows of one start. `start` is a hash of
the normalised start of the conversation: the first user turn, lower-cased, white space collapsed, under any
system prompt. `group` is the user's group field where one is mapped, else the start.
A first user turn of less than `SHORT_START` characters ("hi") says too little: then the start is
everything from the beginning, system turn included, up to the turn at which that many characters are
reached, and at most all before the last assistant turn. A `text` row, and a row without a user turn, takes
all before its last assistant turn, or its text where that is nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
import polars as pl

from curate.data.messages import Message, calls, last_assistant

SHORT_START = 32
FILE_BITS = 40
"""A row's position is (file index << FILE_BITS) | its ordinal in the file."""
RECORD_CHARACTERS = 2000
"""How much of a record that is no row is kept in quarantine."""
TEXT_ROLE = "text"
"""The role of the single message of a `text` row: learned from as a whole, never put into a chat template."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example.

    messages: the turns; rejected: the whole conversation with the answer that was not preferred;
    tools: a list of JSON objects. prompt: the contents before the last assistant turn, joined by
    newlines; response: that turn's content (its tool calls as JSON where it has no text).
    id, group: the user's own, None where the record has none.
    """

    messages: list[Message]
    prompt: str
    response: str
    tools: list[Any] | None = None
    rejected: list[Message] | None = None
    id: str | None = None
    group: str | None = None

    @property
    def uid(self) -> str:
        """32 hexadecimal characters; see the module."""
        content = (self.messages, self.tools, self.rejected)
        return blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    @property
    def start(self) -> str:
        """32 hexadecimal characters; see the module."""
        return blake2b(normalised(_start(self)).encode(), digest_size=16).hexdigest()


def conversation(
    messages: list[Message],
    tools: list[Any] | None = None,
    rejected: list[Message] | None = None,
    id: str | None = None,
    group: str | None = None,
) -> Row:
    """The row of a conversation. Raises BadRow if no assistant turn can be learned from."""
    last = last_assistant(messages)
    prompt = "\n".join([message["content"] for message in messages[:last]])
    answer = messages[last]
    response = answer["content"] or orjson.dumps(calls(answer)).decode()
    return Row(messages, prompt, response, tools, rejected, id, group)


def plain_text(text: str, id: str | None = None, group: str | None = None) -> Row:
    """The row of a text without turns."""
    return Row([{"role": TEXT_ROLE, "content": text}], "", text, id=id, group=group)


def normalised(text: str) -> str:
    """Lower-case, runs of white space as one space, none at the ends."""
    return " ".join(text.lower().split())


def _start(row: Row) -> str:
    messages = row.messages
    turns = [message["role"] for message in messages]
    last = max((index for index, role in enumerate(turns) if role == "assistant"), default=0)
    if "user" not in turns[:last]:
        return row.prompt or row.response
    user = turns.index("user")
    first: str = messages[user]["content"]
    if len(first) >= SHORT_START:
        return first
    said, stop = len(first), user + 1
    while stop < last and said < SHORT_START:
        said += len(messages[stop]["content"])
        stop += 1
    return "\n".join([message["content"] for message in messages[:stop]])


ROW_COLUMNS: dict[str, pl.DataType] = {
    "position": pl.Int64(),
    "uid": pl.String(),
    "id": pl.String(),
    "source": pl.String(),
    "group": pl.String(),
    "start": pl.String(),
    "messages": pl.String(),
    "tools": pl.String(),
    "rejected": pl.String(),
    "prompt": pl.String(),
    "response": pl.String(),
    "record": pl.String(),
    "line": pl.Int64(),
}
"""The columns of every ingest shard, in order. messages, tools and rejected hold JSON; line counts from 1,
and is null where the file has no lines."""


def shard_schema(metadata: Sequence[str] = ()) -> pl.Schema:
    """The schema of an ingest shard: `ROW_COLUMNS`, then `meta.<field>` (text) for each metadata field."""
    return pl.Schema({**ROW_COLUMNS, **{f"meta.{field}": pl.String() for field in metadata}})
