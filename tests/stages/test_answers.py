"""Answers and what they are worth: perplexities by hand, ratings by a scorer."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import toys

from curate.evaluate import load_tuned
from curate.model.generate import generate, last_turn
from curate.model.load import LoadedModel, load_causal_lm, resolve
from curate.model.ratings import Rater
from curate.model.request import TokenRow
from curate.model.tokens import Encoder, Example, TokenOptions
from curate.scorer import Numbers, RatingScorer
from curate.settings import ModelSpec, Resources, TokenSpec
from curate.stages.answers import Generate, PerplexityGap, RatingGap, last_exchange
from curate.stages.models import ModelHandle
from curate.stages.rows import token_rows
from curate.training.spec import Train
from curate.training.trainer import train
from scorers.deita_quality import DeitaQuality

MARKED = [0, 2, 3, 6]
LONGEST = 7


def load(folder: Path) -> LoadedModel:
    return load_causal_lm(resolve(str(folder), None), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """Eight conversations, four of them marked; the fourth of two turns."""
    some = toys.toy_rows(8)
    encoded: Any = Encoder(toys.tiny_tokenizer(), TokenOptions()).encode_rows(
        [Example(row["messages"]) for row in some]
    )
    return pl.DataFrame(
        {
            "position": range(8),
            "messages": [json.dumps(row["messages"]) for row in some],
            "input_ids": pl.Series([each.input_ids for each in encoded], dtype=pl.List(pl.Int32)),
            "supervised": pl.Series([each.supervised for each in encoded], dtype=pl.List(pl.Boolean)),
            "mark": pl.Series([1 if row in (0, 6) else None for row in range(8)], dtype=pl.Int64),
            "other": pl.Series([0 if row in (2, 3) else None for row in range(8)], dtype=pl.Int64),
        }
    )


@pytest.fixture(scope="module")
def handle(tiny_model: Path) -> ModelHandle:
    return ModelHandle(ModelSpec(path=str(tiny_model), dtype="float32"))


@pytest.fixture(scope="module")
def tuned(tiny_model: Path, rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    spec = Train(learning_rate=0.05, max_steps=2, batch_rows=4)
    out = folder / "out"
    out.mkdir()
    train(
        token_rows(rows),
        np.arange(8),
        spec,
        load(tiny_model),
        seed=1,
        out=out,
        work=folder / "work",
        tell=lambda *_: None,
    )
    return out


def generating(handle: ModelHandle) -> Generate:
    return Generate("round1.answers", 0, Resources(), handle, "model", ("mark", "other"), "answers", LONGEST)


@pytest.fixture(scope="module")
def answered(handle: ModelHandle, rows: pl.DataFrame, tuned: Path) -> pl.DataFrame:
    stage = generating(handle)
    state = stage.setup({"model": tuned})
    found = rows.hstack(stage.apply(rows, state, frozenset({"answers"})))
    totals = stage.notes(stage.counts(state))
    assert totals["answers"] == 4
    assert totals["answer_tokens"] == found["answers"].list.len().sum()
    assert totals["without_room"] == 0
    return found


def test_only_marked_rows_are_answered(answered: pl.DataFrame) -> None:
    assert answered["answers"].is_not_null().arg_true().to_list() == MARKED
    assert answered["answers"].dtype == pl.List(pl.Int32)


def test_the_tuned_model_answers_the_last_turn(answered: pl.DataFrame, tiny_model: Path, tuned: Path) -> None:
    base = load(tiny_model)
    prompts = [last_turn(row)[0] for row in token_rows(answered[MARKED])]
    before = generate(base, prompts, LONGEST, 900)
    after = generate(replace(base, model=load_tuned(base, tuned)), prompts, LONGEST, 900)
    found = answered["answers"].drop_nulls().to_list()
    assert found == [answer.tolist() for answer in after if answer is not None]
    assert found != [answer.tolist() for answer in before if answer is not None]


def test_a_shard_without_a_marked_row_is_null(handle: ModelHandle, rows: pl.DataFrame, tuned: Path) -> None:
    stage = generating(handle)
    state = stage.setup({"model": tuned})
    found = stage.apply(rows[[1, 4]], state, frozenset({"answers"}))
    assert found["answers"].to_list() == [None, None]
    compare = PerplexityGap("gap", 0, Resources(), handle, "answers", "gap", None)
    gaps = compare.apply(rows[[1, 4]].hstack(found), compare.setup({}), frozenset({"gap"}))
    assert gaps["gap"].to_list() == [None, None]
    assert gaps["gap"].dtype == pl.Float64


def loss(model: Any, prompt: Any, answer: Any) -> float:
    """Mean nats a token of the answer given the prompt, in the plainest way."""
    ids = torch.tensor([[*map(int, prompt), *map(int, answer)]])
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :]))


@pytest.mark.parametrize("judge", [None, "model"])
def test_the_gap_is_the_log_of_the_ratio_of_perplexities(
    handle: ModelHandle, answered: pl.DataFrame, tiny_model: Path, tuned: Path, judge: str | None
) -> None:
    """S = -log(PPL of the generated / PPL of the row's own answer)."""
    stage = PerplexityGap("gap", 0, Resources(), handle, "answers", "gap", judge)
    gaps = stage.apply(answered, stage.setup({"model": tuned}), frozenset({"gap"}))["gap"]
    base = load(tiny_model)
    model = load_tuned(base, tuned if judge else None)
    expected = []
    for row in answered[MARKED].iter_rows(named=True):
        prompt, own = last_turn(TokenRow(np.array(row["input_ids"], np.int32), np.array(row["supervised"])))
        ratio = np.exp(loss(model, prompt, row["answers"])) / np.exp(loss(model, prompt, own))
        expected.append(-np.log(ratio))
    assert gaps.is_not_null().arg_true().to_list() == MARKED
    np.testing.assert_allclose(gaps.drop_nulls(), expected, rtol=1e-4)


def test_needs_name_the_judge(handle: ModelHandle) -> None:
    stages = [PerplexityGap("g", 0, Resources(), handle, "a", "g", judge) for judge in ("round1.model", None)]
    assert ["artifact:round1.model" in stage.needs for stage in stages] == [True, False]
    assert stages[0].identity() != stages[1].identity()


class Words(RatingScorer):
    """Asks for the turn alone."""

    higher_is_better = True

    def models(self) -> tuple[ModelSpec | None, ...]:
        return (None,)

    def prompts(self, turns: Sequence[tuple[str, str]]) -> Sequence[str]:
        return [f"{instruction}|{response}" for instruction, response in turns if response]

    def rate(self, ratings: Numbers) -> float:
        return float(ratings.sum()) if len(ratings) else float("nan")


def rating_gap(handle: ModelHandle, scorer: RatingScorer) -> RatingGap:
    return RatingGap("gap", 0, Resources(), handle, "answers", "gap", scorer, TokenSpec())


def test_ratings_are_of_the_two_answers_to_one_instruction(
    handle: ModelHandle, answered: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rate = Rater.rate

    def noted(self: Rater, some: Sequence[str]) -> Any:
        asked.extend(some)
        return rate(self, some)

    monkeypatch.setattr(Rater, "rate", noted)
    stage = rating_gap(handle, Words())
    state = stage.setup({})
    gaps = stage.apply(answered, state, frozenset({"gap"}))["gap"]
    pairs = []
    for row in answered[MARKED].iter_rows(named=True):
        instruction, own = json.loads(row["messages"])[-2:]
        text = state.tokenizer.decode(row["answers"], skip_special_tokens=True)
        pairs.append((own["content"], text))
        assert any(prompt.endswith(f"{instruction['content']}|{own['content']}") for prompt in asked)
        assert any(prompt.endswith(f"{instruction['content']}|{text}") for prompt in asked)
    assert gaps.is_not_null().arg_true().to_list() == MARKED


def test_a_rating_gap_is_own_minus_generated(handle: ModelHandle, answered: pl.DataFrame) -> None:
    """Where the generated answer is the row's own, there is none."""
    tokenizer, some = toys.tiny_tokenizer(), answered.head(2)
    own = [tokenizer.encode(json.loads(text)[-1]["content"]) for text in some["messages"]]
    same = some.with_columns(answers=pl.Series(own, dtype=pl.List(pl.Int32)))
    stage = rating_gap(handle, DeitaQuality())
    state = stage.setup({})
    assert stage.apply(same, state, frozenset({"gap"}))["gap"].to_list() == [0.0] * 2
    swapped = same.with_columns(answers=pl.col("answers").shift(1, fill_value=pl.col("answers").last()))
    there = stage.apply(swapped, state, frozenset({"gap"}))["gap"]
    assert there.abs().max() > 0  # type: ignore[operator]


def test_an_empty_answer_is_not_rated(handle: ModelHandle, answered: pl.DataFrame) -> None:
    end: Any = toys.tiny_tokenizer().eos_token_id
    silent = answered.with_columns(answers=pl.Series([[end]] * 8, dtype=pl.List(pl.Int32)))
    stage = rating_gap(handle, DeitaQuality())
    assert stage.apply(silent, stage.setup({}), frozenset({"gap"}))["gap"].null_count() == 8


def test_the_last_exchange_is_of_the_last_trained_turn() -> None:
    messages = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "First."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Second.", "train": False},
    ]
    assert last_exchange(messages, "all") == ("One?", "First.")
    assert last_exchange([{"role": "text", "content": "Once."}], "all") is None
