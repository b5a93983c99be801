"""Answers: what a tuned model answers to some of the rows, and how much better the rows' own answers are.

A row's answer is its last trained turn; the model is given what stands before it. Only rows that a column marks
are answered; the others are null.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from curate.data.messages import exchanges
from curate.model.request import TokenRow
from curate.scorer import RatingScorer
from curate.settings import TokenSpec
from curate.stage import Artifacts, RowStage
from curate.stages.columns import nullable
from curate.stages.models import ModelHandle
from curate.stages.references import batch_tokens
from curate.stages.rows import token_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from curate.model.load import LoadedModel
    from curate.model.ratings import Rater

Turn = tuple[str, str]


@dataclass
class _Generating:
    """What a worker holds. counted: of the last shard."""

    loaded: "LoadedModel"
    counted: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Generate(RowStage):
    """Adds `column`: the tokens of the greedy answer, with the one that ended it, List(Int32).

    tuned: the artifact of a training, on top of `model`. marks: a row is answered where any of these columns is
    not null. A prompt that leaves no room for `max_new_tokens` has no answer.
    """

    model: ModelHandle
    tuned: str
    marks: tuple[str, ...]
    column: str
    max_new_tokens: int

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The stored tokens, which rows, and the tuned model."""
        return frozenset({"input_ids", "supervised", *self.marks, f"artifact:{self.tuned}"})

    @property
    def adds(self) -> frozenset[str]:
        """The answers."""
        return frozenset({self.column})

    def identity(self) -> dict[str, Any]:
        """The model, its end token, and how long an answer may be."""
        model = {"model": self.model.identity(), "tokenizer": self.model.tokenizer_hash}
        return {"version": 1, **model, "max_new_tokens": self.max_new_tokens}

    def setup(self, artifacts: Artifacts) -> _Generating:
        """Load the tuned model."""
        from curate.evaluate import load_tuned

        loaded = self.model.load()
        return _Generating(replace(loaded, model=load_tuned(loaded, artifacts[self.tuned])))

    def apply(self, rows: pl.DataFrame, state: _Generating, outputs: frozenset[str]) -> pl.DataFrame:
        """Answer the rows that are marked."""
        from curate.model.generate import end_tokens, generate, last_turn

        marked = rows.select(pl.any_horizontal(pl.col(self.marks).is_not_null())).to_series()
        prompts = [last_turn(row)[0] for row in token_rows(rows.filter(marked))]
        budget = self.resources.batch_tokens or batch_tokens(state.loaded.device)
        answers = generate(state.loaded, prompts, self.max_new_tokens, budget)
        found = [answer for answer in answers if answer is not None]
        ends = end_tokens(state.loaded)
        state.counted = {
            "answers": len(found),
            "answer_tokens": sum(len(answer) for answer in found),
            "ended": sum(int(answer[-1]) in ends for answer in found),
            "without_room": len(answers) - len(found),
        }
        texts = [None if answer is None else answer.tolist() for answer in answers]
        return pl.DataFrame([_placed(marked, pl.Series(self.column, texts, dtype=pl.List(pl.Int32)))])

    def counts(self, state: _Generating) -> Mapping[str, float]:
        """Answers and their tokens, how many ended by themselves, how many prompts left no room."""
        return state.counted

    def notes(self, totals: Mapping[str, float]) -> Mapping[str, Any]:
        """The sums of what was counted."""
        counted = ("answers", "answer_tokens", "ended", "without_room")
        return {name: int(totals.get(name, 0)) for name in counted}


@dataclass(frozen=True)
class _Gap(RowStage, ABC):
    """score(the row's own answer) - score(the generated one), float64, null where either has none.

    answers: the column of the generated ones, tokens. model: that of the run.
    """

    model: ModelHandle
    answers: str
    column: str

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def adds(self) -> frozenset[str]:
        """The differences."""
        return frozenset({self.column})

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """Compare where there is an answer."""
        answered = rows[self.answers].is_not_null()
        some = rows.filter(answered)
        gaps = self.compare(some, state) if some.height else np.empty(0)
        return pl.DataFrame([_placed(answered, nullable(self.column, gaps))])

    @abstractmethod
    def compare(self, rows: pl.DataFrame, state: Any) -> NDArray[np.float64]:
        """The difference for each of these rows, all answered, float64 [rows]; NaN where there is none."""


@dataclass(frozen=True)
class PerplexityGap(_Gap):
    """log PPL(own answer) - log PPL(generated), both given the prompt; nats a token, the end token included.

    judge: the artifact of the tuned model that measures; None for the model as it is.
    """

    judge: str | None

    @property
    def needs(self) -> frozenset[str]:
        """The stored tokens, the answers, and the model that measures."""
        tuned = set[str]() if self.judge is None else {f"artifact:{self.judge}"}
        return frozenset({"input_ids", "supervised", self.answers} | tuned)

    def identity(self) -> dict[str, Any]:
        """The model, and whether it is the tuned one."""
        return {"version": 1, "model": self.model.identity(), "tuned": self.judge is not None}

    def setup(self, artifacts: Artifacts) -> "PreTrainedModel":
        """Load the model that measures."""
        from curate.evaluate import load_tuned

        return load_tuned(self.model.load(), None if self.judge is None else artifacts[self.judge])

    def compare(self, rows: pl.DataFrame, state: "PreTrainedModel") -> NDArray[np.float64]:
        """By the mean loss of the answer's tokens, as training and evaluation measure it."""
        from curate.evaluate import held_out_losses
        from curate.model.generate import last_turn

        own = [last_turn(row) for row in token_rows(rows)]
        generated = [answer.to_numpy() for answer in rows[self.answers]]
        pairs = [*own, *((prompt, answer) for (prompt, _), answer in zip(own, generated, strict=True))]
        names = [*(["own"] * len(own)), *(["generated"] * len(own))]
        losses = held_out_losses(state, [_answering(*pair) for pair in pairs], names).row_losses
        return losses[: len(own)] - losses[len(own) :]


@dataclass
class _Rating:
    """What a worker holds. tokenizer: that the answers' tokens are of."""

    rater: "Rater"
    tokenizer: Any


@dataclass(frozen=True)
class RatingGap(_Gap):
    """rating(own answer) - rating(generated), by a scorer that asks an instruct model about a turn.

    Null where the scorer does not rate one of the two turns, as an empty answer.
    """

    method: RatingScorer
    tokens: TokenSpec

    @property
    def rater(self) -> ModelHandle:
        """The model that is asked: the run's own, where the scorer names none."""
        (spec,) = self.method.models()
        return self.model if spec is None else ModelHandle(spec)

    @property
    def needs(self) -> frozenset[str]:
        """The conversation and the answers."""
        return frozenset({"messages", self.answers})

    def identity(self) -> dict[str, Any]:
        """The scorer, the model that it asks, the tokens that are read as text."""
        rater = self.rater
        asked = {"model": rater.identity(), "tokenizer": rater.tokenizer_hash}
        read = {"answers": self.model.tokenizer_hash, "train_on": self.tokens.train_on}
        return {"version": 1, **self.method.identity(), **asked, **read}

    def setup(self, artifacts: Artifacts) -> _Rating:
        """Load the rater, and the tokenizer of the answers."""
        from curate.model.load import load_tokenizer
        from curate.model.ratings import Rater

        loaded = self.rater.load()
        budget = self.resources.batch_tokens or batch_tokens(loaded.device)
        tokenizer = load_tokenizer(self.model.folder, self.model.spec.trust_remote_code)
        return _Rating(Rater.of(loaded, self.method.ratings, budget), tokenizer)

    def compare(self, rows: pl.DataFrame, state: _Rating) -> NDArray[np.float64]:
        """Ask every prompt once, rate both turns of each row."""
        own = [last_exchange(orjson.loads(messages), self.tokens.train_on) for messages in rows["messages"]]
        texts = state.tokenizer.batch_decode(rows[self.answers].to_list(), skip_special_tokens=True)
        turns: list[Sequence[Turn]] = [[] if turn is None else [turn] for turn in own]
        turns += [[] if turn is None else [(turn[0], text)] for turn, text in zip(own, texts, strict=True)]
        prompts = [list(self.method.prompts(each)) for each in turns]
        unique = list(dict.fromkeys(text for each in prompts for text in each))
        expected = dict(zip(unique, state.rater.rate(unique).expected.tolist(), strict=True))
        ratings = np.array(
            [self.method.rate(np.array([expected[text] for text in each])) for each in prompts],
            dtype=np.float64,
        )
        return ratings[: len(own)] - ratings[len(own) :]


def last_exchange(messages: list[dict[str, Any]], train_on: str) -> Turn | None:
    """(instruction, response) of the last trained turn; None for a plain text."""
    from curate.model.spans import trained_turns

    turns = trained_turns(messages, train_on)
    return None if turns is None else exchanges(messages[: turns[-1] + 1])[-1]


def _answering(prompt: NDArray[np.int32], answer: NDArray[np.int32]) -> TokenRow:
    ids = np.concatenate([prompt, answer]).astype(np.int32)
    return TokenRow(ids, np.arange(len(ids)) >= len(prompt))


def _placed(where: pl.Series, values: pl.Series) -> pl.Series:
    """The values at the rows where `where` is true, null at the others."""
    places = pl.select(pl.when(where).then(where.cast(pl.Int64).cum_sum() - 1)).to_series()
    return values.gather(places)
