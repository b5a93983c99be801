"""Messages to token ids and the mask of targets: the one path that scorers and trainer share.

Which tokens are targets. `supervised[t]` is True where token t is one that the loss predicts (from
t - 1); index 0 never is. The targets of a conversation are the trained assistant turns, each with its
closing token (`<|im_end|>`, `</s>`, ...) and without what the template writes after that.

- A chat template with `{% generation %}` markers says itself what the assistant wrote; its word is taken.
- Any other chat template is rendered up to before and after each trained turn; both renderings must be
  prefixes of the whole (see spans.py for the templates where the second is not). BadTokens otherwise.
- A tokenizer without a chat template gets a plain default: every message is its content and a newline,
  an assistant's is its content, the end token and a newline (the last without newline); BOS first where
  the tokenizer has one. For a single turn: "{prompt}\\n{response}{eos}".
- A `text` row (one message of the role "text") is tokenised as the tokenizer does by itself, and all its
  tokens but the first are targets.

A token that holds characters of both prompt and response (GPT-2's "\\n   " before indented code) is no
target: a target lies wholly within the turn. A template that asks for today's date gets 26 July 2024
(Llama's own default), so that the same row gives the same tokens on any day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.errors import ConfigError
from curate.model.spans import BadTokens, ChatRenderer, Rendered, render_plain, trained_turns

if TYPE_CHECKING:
    import tokenizers
    from transformers import PreTrainedTokenizerBase

__all__ = ["BadTokens", "Encoded", "Encoder", "Example", "TokenOptions", "encode", "encode_rows"]

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class TokenOptions:
    """How rows become tokens.

    max_tokens: the longest row; None for no bound. over_long: "quarantine" gives BadTokens, "truncate" cuts
    from the right. train_on: "all" assistant turns or the "last"; a turn's own `"train": false` holds
    in both.
    """

    max_tokens: int | None = 2048
    over_long: Literal["quarantine", "truncate"] = "quarantine"
    train_on: Literal["all", "last"] = "all"


class Example(NamedTuple):
    """One row to tokenise: messages of {role, content, ...} and the tools offered, if any."""

    messages: Messages
    tools: Tools | None = None


@dataclass(frozen=True)
class Encoded:
    """input_ids: int [tokens]; supervised: bool [tokens], True where the token is a target.

    characters: Unicode code points of the supervised text, special tokens (the closing ones) apart.
    """

    input_ids: list[int]
    supervised: list[bool]
    characters: int


class Encoder:
    """A tokenizer made ready for many rows: made once per worker, about 0.1 s per 50k of vocabulary.

    mask: how targets are found: "generation markers", "token prefixes" or "plain".
    """

    mask: str

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: TokenOptions) -> None:
        """Raises ConfigError for a bad option, or a tokenizer with neither chat template nor end token."""
        _check(options)
        self.options = options
        self._backend = _exact_backend(tokenizer)
        self._chat: ChatRenderer | None = None
        self._eos = tokenizer.eos_token
        self._special = np.array(sorted(tokenizer.all_special_ids), dtype=np.int64)
        self._leading: list[int] = []
        if tokenizer.chat_template is not None:
            self._chat = ChatRenderer(tokenizer)
            self.mask = "generation markers" if self._chat.has_markers else "token prefixes"
        else:
            if self._eos is None:
                raise ConfigError(
                    "the tokenizer must have a chat template or an end token. Got neither; set one of them "
                    "in tokenizer_config.json."
                )
            self.mask = "plain"
            added = self._backend.encode("", add_special_tokens=True).ids
            self._leading = [token for token in added if token == tokenizer.bos_token_id][:1]

    def encode(self, messages: Messages, tools: Tools | None = None) -> Encoded:
        """One row. Raises BadTokens with the cause where it cannot be trained on or is over-long."""
        (result,) = self.encode_rows([Example(messages, tools)])
        if isinstance(result, BadTokens):
            raise result
        return result

    def encode_rows(self, rows: Sequence[Example]) -> list[Encoded | BadTokens]:
        """One result per row, in order: the tokens, or why there are none.

        O(tokens) for single turns; a conversation of k trained turns is rendered 2k times. A row's
        result does not depend on its neighbours.
        """
        results: list[Encoded | BadTokens] = []
        for first in range(0, len(rows), ROWS_AT_ONCE):
            results.extend(self._encode_some(rows[first : first + ROWS_AT_ONCE]))
        return results

    def _encode_some(self, rows: Sequence[Example]) -> list[Encoded | BadTokens]:
        rendered = [self._render(row) for row in rows]
        good = [each for each in rendered if isinstance(each, Rendered)]
        own = self._tokenise([each.text for each in good if each.spans is None], add_special_tokens=True)
        plain = self._tokenise([each.text for each in good if each.spans is not None], False)
        results: list[Encoded | BadTokens] = []
        for each in rendered:
            if isinstance(each, BadTokens):
                results.append(each)
            elif each.spans is None:
                encoding = next(own)
                mask = np.ones(len(encoding.ids), dtype=np.bool_)
                results.append(self._finish([], encoding, mask))
            else:
                encoding = next(plain)
                results.append(self._finish(self._leading, encoding, _within(encoding.offsets, each.spans)))
        return results

    def _tokenise(self, texts: list[str], add_special_tokens: bool) -> Any:
        return iter(self._backend.encode_batch(texts, add_special_tokens=add_special_tokens))

    def _render(self, row: Example) -> Rendered | BadTokens:
        try:
            turns = trained_turns(row.messages, self.options.train_on)
            if turns is None:
                return Rendered(str(row.messages[0]["content"]), None)
            if self._chat is not None:
                return self._chat.render(row.messages, row.tools, turns)
            if row.tools:
                raise BadTokens("the row offers tools, but the tokenizer has no chat template to show them")
            return render_plain(row.messages, turns, self._eos)
        except BadTokens as bad:
            return bad

    def _finish(self, leading: list[int], encoding: Any, targets: NDArray[np.bool_]) -> Encoded | BadTokens:
        limit = self.options.max_tokens
        ids = leading + encoding.ids
        before = np.zeros(len(leading), dtype=np.int64)
        supervised = np.concatenate([before.astype(np.bool_), targets])
        new = np.where(np.isin(encoding.ids, self._special), 0, _new_characters(encoding.offsets))
        supervised[:1] = False
        if limit is not None and len(ids) > limit:
            if self.options.over_long == "quarantine":
                return BadTokens(f"over-long: {len(ids)} tokens, at most {limit}")
            ids, supervised = ids[:limit], supervised[:limit]
        if not supervised.any():
            return BadTokens("no supervised token")
        characters = np.concatenate([before, new])[: len(ids)][supervised].sum()
        return Encoded(ids, supervised.tolist(), int(characters))


def encode(
    messages: Messages, tools: Tools | None, tokenizer: PreTrainedTokenizerBase, options: TokenOptions
) -> Encoded:
    """`Encoder.encode` for one row; make an Encoder for many."""
    return Encoder(tokenizer, options).encode(messages, tools)


def encode_rows(
    rows: Sequence[Example], tokenizer: PreTrainedTokenizerBase, options: TokenOptions
) -> list[Encoded | BadTokens]:
    """`Encoder.encode_rows`; keep an Encoder to call it more than once."""
    return Encoder(tokenizer, options).encode_rows(rows)


def _within(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Tokens that lie wholly within one of the character spans, bool [tokens]."""
    places = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    inside = np.zeros(len(places), dtype=np.bool_)
    for start, end in spans:
        inside |= (places[:, 0] >= start) & (places[:, 0] < end) & (places[:, 1] <= end)
    return inside


def _new_characters(offsets: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """How many characters each token is the first to reach the end of, int64 [tokens].

    Several tokens of one character (byte-level tokens of an emoji) have the same offsets: it counts once.
    """
    places = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    reached = np.concatenate([[0], np.maximum.accumulate(places[:, 1])])[:-1]
    new: NDArray[np.int64] = np.maximum(places[:, 1] - np.maximum(places[:, 0], reached), 0)
    return new


def _exact_backend(tokenizer: PreTrainedTokenizerBase) -> tokenizers.Tokenizer:
    """A copy of the fast tokenizer whose offsets count every character, without truncation or padding.

    Byte-level tokenizers may leave white space out of a token's offsets (`trim_offsets`), which would
    hide that a token reaches over the edge of a turn.
    """
    import tokenizers

    if not tokenizer.is_fast:
        raise ConfigError(
            f"the tokenizer must be a fast one (tokenizer.json), for token offsets. Got "
            f"{type(tokenizer).__name__}."
        )
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    _keep_white_space(state["post_processor"])
    backend = tokenizers.Tokenizer.from_str(json.dumps(state))
    backend.no_truncation()
    backend.no_padding()
    return backend


def _keep_white_space(processor: dict[str, Any] | None) -> None:
    if processor is None:
        return
    if "trim_offsets" in processor:
        processor["trim_offsets"] = False
    for inner in processor.get("processors", ()):
        _keep_white_space(inner)


def _check(options: TokenOptions) -> None:
    if options.max_tokens is not None and options.max_tokens < 2:
        raise ConfigError(f"max_tokens must be at least 2, or null. Got {options.max_tokens}.")
    if options.over_long not in ("quarantine", "truncate"):
        raise ConfigError(f"over_long must be 'quarantine' or 'truncate'. Got {options.over_long!r}.")
    if options.train_on not in ("all", "last"):
        raise ConfigError(f"train_on must be 'all' or 'last'. Got {options.train_on!r}.")
