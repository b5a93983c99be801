"""Where in a rendered conversation the trained assistant turns stand, in characters.

Spans are found from the rendering alone: what the template writes before a turn (with its generation
prompt) and up to a turn's end must be prefixes of the whole. Nothing is searched for by role names.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]
Span = tuple[int, int]

MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
DIRECTIVES = ("%d", "%-d", "%e", "%b", "%B", "%m", "%-m", "%y", "%Y", "%a", "%A", "%j")
"""What a template may ask of a date."""


def with_fixed_day(template: str) -> str:
    """The template with its clock stopped at 26 July 2024, midnight; unchanged if it asks for no date.

    A macro of the clock's name shadows it, as transformers hands no function on to a template.
    """
    if "strftime_now" not in template:
        return template
    day = datetime.datetime(2024, 7, 26, tzinfo=datetime.UTC)
    replaced = "".join(f" | replace({name!r}, {day.strftime(name)!r})" for name in DIRECTIVES)
    return f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro +%}}{template}"


class BadTokens(DataError):
    """A row that cannot become training tokens; `cause` is the text for the quarantine."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True)
class Rendered:
    """text: what is tokenised. spans: half-open character ranges of targets, ascending; None for a
    `text` row, where everything is a target."""

    text: str
    spans: list[Span] | None


def trained_turns(messages: Messages, train_on: str) -> list[int] | None:
    """Indices of the assistant turns to train on, ascending; None for a `text` row.

    Raises BadTokens for an empty conversation, a `text` message among others, a `train` that is not
    true or false or marks a turn that is not the assistant's, or no turn to train on.
    """
    if not messages:
        raise BadTokens("no messages")
    if any(message["role"] == "text" for message in messages):
        if len(messages) > 1:
            raise BadTokens("a message of the role 'text' must stand alone")
        return None
    assistant = []
    for index, message in enumerate(messages):
        train = message.get("train")
        if train not in (None, True, False):
            raise BadTokens(f"message {index}: train must be true or false. Got {train!r}")
        if message["role"] == "assistant":
            assistant.append(index)
        elif train:
            raise BadTokens(f"message {index}: train is true on the role {message['role']!r}, not assistant")
    if train_on == "last":
        assistant = assistant[-1:]
    turns = [index for index in assistant if messages[index].get("train") is not False]
    if not turns:
        raise BadTokens("no supervised token")
    return turns


def render_plain(messages: Messages, turns: Sequence[int], eos: str) -> Rendered:
    """Without a chat template: each content and a newline, the assistant's followed by the end token."""
    text, spans = "", []
    for index, message in enumerate(messages):
        if not isinstance(message.get("content"), str):
            raise BadTokens(f"message {index}: content must be a string, as there is no chat template")
        start = len(text)
        text += message["content"]
        if message["role"] == "assistant":
            text += eos
            if index in turns:
                spans.append((start, len(text)))
        text += "\n"
    return Rendered(text[:-1], spans)


class ChatRenderer:
    """Renders conversations with a tokenizer's chat template and finds the trained turns in them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """tokenizer: one with a chat template, read now (a later change is not seen)."""
        self._plain = with_fixed_day(tokenizer.get_chat_template())
        self._with_tools = with_fixed_day(tokenizer.get_chat_template(tools=[{}]))
        self._special = dict(tokenizer.special_tokens_map)
        closers = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        if tokenizer.eos_token is not None:
            closers.add(tokenizer.eos_token)
        names = "|".join(re.escape(closer) for closer in sorted(closers, key=len, reverse=True))
        self._closed = re.compile(rf"(?:{names})(?=\s*\Z)") if names else None
        self._opening = re.compile(rf"\s*(?:{names})") if names else None

    @property
    def has_markers(self) -> bool:
        """Whether the template says itself, with generation markers, what the assistant wrote."""
        return MARKER.search(self._plain) is not None

    def render(self, messages: Messages, tools: Tools | None, turns: Sequence[int]) -> Rendered:
        """The whole conversation and the character spans of `turns`.

        Raises BadTokens where the template refuses the conversation, or where the place of a turn in
        it is not certain.
        """
        chat = [
            {key: value for key, value in message.items() if value is not None and key != "train"}
            for message in messages
        ]
        template = self._with_tools if tools else self._plain
        if MARKER.search(template):
            return self._marked(template, chat, tools, turns)
        text, _ = self._fill(template, chat, tools)
        return Rendered(text, [self._span(template, text, chat, tools, turn) for turn in turns])

    def _marked(
        self, template: str, chat: list[dict[str, Any]], tools: Tools | None, turns: Sequence[int]
    ) -> Rendered:
        text, marks = self._fill(template, chat, tools, markers=True)
        assistant = [index for index, message in enumerate(chat) if message["role"] == "assistant"]
        if len(marks) == len(assistant):
            chosen = set(turns)
            return Rendered(
                text, [mark for mark, index in zip(marks, assistant, strict=True) if index in chosen]
            )
        if len(turns) == len(assistant):
            return Rendered(text, marks)
        raise BadTokens(
            f"the chat template marks {len(marks)} generations for {len(assistant)} assistant turns, so "
            "that single turns cannot be chosen"
        )

    def _span(
        self, template: str, text: str, chat: list[dict[str, Any]], tools: Tools | None, turn: int
    ) -> Span:
        if turn == 0:
            raise BadTokens("the conversation starts with a trained assistant turn, before any prompt")
        before, _ = self._fill(template, chat[:turn], tools, prompt=True)
        if not text.startswith(before):
            raise BadTokens(
                f"the chat template's prompt for assistant turn {turn} is not a prefix of the whole "
                "conversation (it rewrites earlier turns, or adds to the prompt)"
            )
        if turn == len(chat) - 1:
            after = text
        else:
            after, _ = self._fill(template, chat[: turn + 1], tools)
        start = len(before)
        if text.startswith(after) and len(after) > start:
            return start, start + self._closing(text[start : len(after)])
        return start, self._verbatim_end(text, start, chat[turn], turn)

    def _closing(self, written: str) -> int:
        """Length of a turn up to its closing token; without one, up to its last visible character."""
        closing = None if self._closed is None else self._closed.search(written)
        return len(written.rstrip()) if closing is None else closing.end()

    def _verbatim_end(self, text: str, start: int, message: Mapping[str, Any], turn: int) -> int:
        """The end of a turn that the template writes otherwise when it is the last (Qwen3's empty
        thoughts): certain only if the content stands word for word after the prompt, then a special token.
        """
        content = message.get("content")
        if isinstance(content, str) and content.strip() and self._opening is not None:
            place = text.find(content.strip(), start)
            if place >= 0 and not text[start:place].strip():
                opening = self._opening.match(text, place + len(content.strip()))
                if opening is not None:
                    return opening.end()
        raise BadTokens(
            f"the chat template writes assistant turn {turn} otherwise once later turns follow; train on "
            "the last turn only, or use a template with generation markers"
        )

    def _fill(
        self,
        template: str,
        chat: list[dict[str, Any]],
        tools: Tools | None,
        prompt: bool = False,
        markers: bool = False,
    ) -> tuple[str, list[Span]]:
        """The text, and the spans of the generation markers if asked for."""
        from jinja2.exceptions import TemplateError
        from transformers.utils import chat_template_utils

        render: Any = chat_template_utils.render_jinja_template
        try:
            texts, marks = render(
                conversations=[chat],
                tools=[dict(tool) for tool in tools] if tools else None,
                chat_template=template,
                return_assistant_tokens_mask=markers,
                add_generation_prompt=prompt,
                **self._special,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise BadTokens(f"the chat template refuses the conversation: {error}") from error
        return texts[0], list(marks[0]) if markers else []
