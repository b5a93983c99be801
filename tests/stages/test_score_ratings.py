"""Score ratings: each prompt asked once, one model for each rater, and what is told of the rater."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from passes import small_llama
from pools import configuration, write_pool
from raters import rater
from toys import tiny_llama, toy_rows

import curate
from curate.model.ratings import Answers, Rater
from curate.scorer import Numbers, RatingScorer
from curate.settings import ModelSpec, Resources, TokenSpec
from curate.stages.models import ModelHandle
from curate.stages.score import Scoring, score_stages
from curate.stages.score_ratings import ScoreRatings, _State
from curate.tasks import collected
from scorers.deita import Deita
from scorers.deita_complexity import DeitaComplexity
from scorers.deita_quality import DeitaQuality

THREE = (Deita(), DeitaComplexity(), DeitaQuality())
COLUMNS = frozenset({"score.deita", "score.deita_complexity", "score.deita_quality"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that went to any rater."""
    prompts: list[str] = []
    rate = Rater.rate

    def noted(self: Rater, some: Sequence[str]) -> Answers:
        prompts.extend(some)
        return rate(self, some)

    monkeypatch.setattr(Rater, "rate", noted)
    return prompts


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame({"messages": [json.dumps(row["messages"]) for row in rows]})


def stage_of(model: Path, methods: tuple[RatingScorer, ...] = THREE) -> ScoreRatings:
    handle = ModelHandle(ModelSpec(path=str(model), dtype="float32"))
    return ScoreRatings("score.ratings", None, Resources(batch_tokens=4000), 0.01, methods, handle)


def test_all_three_ask_each_prompt_once(tiny_model: Path, asked: list[str]) -> None:
    """Eight rows, two of them of two turns: ten instructions, ten answers."""
    stage = stage_of(tiny_model)
    stage.apply(frame(toy_rows(8)), stage.setup({}), COLUMNS)
    assert len(asked) == 20
    assert len(set(asked)) == 20


def test_together_they_are_what_each_is_alone(tiny_model: Path) -> None:
    stage, rows = stage_of(tiny_model), frame(toy_rows(8))
    state = stage.setup({})
    together = stage.apply(rows, state, COLUMNS)
    for column in sorted(COLUMNS):
        alone = stage.apply(rows, state, frozenset({column}))
        assert alone.columns == [column]
        np.testing.assert_allclose(alone[column], together[column], rtol=1e-5)
    single = [0, 1, 2, 4, 5, 6]  # rows of one turn
    product = together["score.deita_complexity"] * together["score.deita_quality"]
    np.testing.assert_allclose(together["score.deita"][single], product[single], rtol=1e-6)


def test_a_row_without_a_question_is_null(tiny_model: Path) -> None:
    rows = frame(
        [
            {"messages": [{"role": "text", "content": "Once upon a time."}]},
            {"messages": [{"role": "assistant", "content": "Good morning."}]},
            *toy_rows(1),
        ]
    )
    stage = stage_of(tiny_model)
    found = stage.apply(rows, stage.setup({}), COLUMNS)
    for column in sorted(COLUMNS):
        assert found[column].is_null().to_list() == [True, True, False]


def test_no_row_at_all(tiny_model: Path) -> None:
    stage = stage_of(tiny_model)
    state = stage.setup({})
    found = stage.apply(frame(toy_rows(1)).clear(), state, COLUMNS)
    assert found.height == 0
    assert set(found.schema.items()) == {(column, pl.Float64()) for column in COLUMNS}
    assert stage.notes(stage.counts(state)) == {}


class Liked(RatingScorer):
    """A score with ratings of its own."""

    higher_is_better = True
    ratings = ("0", "1")

    def prompts(self, turns: Sequence[tuple[str, str]]) -> Sequence[str]:
        return [response for _, response in turns]

    def rate(self, ratings: Numbers) -> float:
        return float(ratings.sum())


def test_every_scorer_gets_its_own_ratings(tiny_model: Path) -> None:
    stage = stage_of(tiny_model, (Deita(), Liked()))
    columns = frozenset(stage.outputs)
    found = stage.apply(frame(toy_rows(3)), stage.setup({}), columns)
    assert set(found.columns) == columns
    (other,) = columns - {"score.deita"}
    assert found[other].is_between(0, 1).all()


def test_the_notes_tell_how_the_rater_answered(tiny_model: Path) -> None:
    stage = stage_of(tiny_model)
    state = stage.setup({})
    stage.apply(frame(toy_rows(8)), state, COLUMNS)
    notes = stage.notes(stage.counts(state))
    assert (notes["prompts"], notes["too_long_prompts"]) == (20, 0)
    assert list(notes["likeliest"]) == list("123456")
    assert sum(notes["likeliest"].values()) == 20
    assert notes["distinct_likeliest"] == sum(count > 0 for count in notes["likeliest"].values())
    assert 0 < notes["rating_probability"] < 1
    assert notes["prompt_tokens"] > 20 * 100


def test_the_notes_add_up_over_shards(tiny_model: Path) -> None:
    stage, totals = stage_of(tiny_model), dict[str, float]()
    state = stage.setup({})
    for rows in (toy_rows(4), toy_rows(8)[4:]):
        stage.apply(frame(rows), state, COLUMNS)
        for name, count in stage.counts(state).items():
            totals[name] = totals.get(name, 0) + count
    whole = stage.setup({})
    stage.apply(frame(toy_rows(8)), whole, COLUMNS)
    assert stage.notes(totals) == stage.notes(stage.counts(whole))


def test_a_prompt_that_is_too_long_is_counted_and_its_row_null(tiny_model: Path) -> None:
    rows = toy_rows(2)
    rows[1]["messages"][-1]["content"] = "x" * 3000
    stage = stage_of(tiny_model)
    state = stage.setup({})
    found = stage.apply(frame(rows), state, COLUMNS)
    assert found["score.deita"].is_null().to_list() == [False, True]
    assert found["score.deita_complexity"].is_null().to_list() == [False, False]
    notes = stage.notes(stage.counts(state))
    assert notes["too_long_prompts"] == 1
    assert sum(notes["likeliest"].values()) == 3


def told(biased: int | None, rows: int, times: int = 1) -> list[str]:
    """What the user is told of a rater that always prefers one rating."""
    model = small_llama(bias=True)
    asked = rater(model)
    with torch.no_grad():
        model.lm_head.bias.zero_()
        if biased is not None:
            model.lm_head.bias[int(asked.rating_ids[biased])] = 100
        else:
            model.lm_head.weight[asked.rating_ids] *= 10
    stage = stage_of(Path("unused"), (DeitaComplexity(),))
    state = _State({DeitaComplexity.ratings: asked})
    with collected() as notices:
        for _ in range(times):
            stage.apply(frame(word_rows(rows)), state, frozenset({"score.deita_complexity"}))
    return notices


def word_rows(n: int) -> list[dict[str, Any]]:
    question = [" ".join(f"w{(i * 7 + k * k) % 250}" for k in range(1 + i % 5)) + f" w{i}" for i in range(n)]
    return [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "w1"}]}
        for text in question
    ]


def test_a_rater_that_always_says_three_is_noticed_once() -> None:
    (notice,) = told(2, 60, times=2)
    assert "the rater finds 3 the likeliest rating of 100% of 60 prompts" in notice


def test_a_few_prompts_do_not_tell() -> None:
    assert told(2, 40) == []


def test_a_rater_with_several_answers_is_not_warned_of() -> None:
    assert told(None, 60) == []


def scoring(model: Path | None) -> Scoring:
    handle = None if model is None else ModelHandle(ModelSpec(path=str(model), dtype="float32"))
    return Scoring(handle, TokenSpec(), None, 0.01, 0)


def test_one_stage_for_each_rater(tiny_model: Path) -> None:
    named = {"rater": {"path": str(tiny_model), "dtype": "float32"}}
    methods = (Deita(), DeitaComplexity(), DeitaQuality.model_validate(named))
    stages = score_stages(methods, 0, Resources(), scoring(tiny_model), 0)
    assert [sorted(stage.adds) for stage in stages] == [
        ["score.deita", "score.deita_complexity"],
        ["score.deita_quality"],
    ]


def test_a_named_rater_of_the_same_content_is_the_same_score(tiny_model: Path) -> None:
    """Whatever its path: nothing is computed again."""
    named = Deita.model_validate({"rater": str(tiny_model)})
    assert stage_of(tiny_model, (named,)).output_identity("score.deita") == stage_of(
        tiny_model, (Deita(),)
    ).output_identity("score.deita")


def test_another_model_is_another_score(tiny_model: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "other", seed=1)
    identities = [stage_of(model).output_identity("score.deita") for model in (tiny_model, other)]
    assert identities[0] != identities[1]


def test_a_whole_run_without_a_model_of_its_own(tmp_path: Path, tiny_model: Path, asked: list[str]) -> None:
    named = {"rater": {"path": str(tiny_model), "dtype": "float32"}}
    names = ("deita_complexity", "deita_quality", "deita")
    stages = [
        {"score": [{name: named} for name in names]},
        {"select": {"top": {"by": "deita", "budget": 10}}},
    ]
    config = configuration(write_pool(tmp_path / "data", 40), stages)
    run = curate.run(config, runs=tmp_path, runner="local")
    assert len(asked) == len(set(asked))
    scores = run.scores.collect()
    assert scores["score.deita"].null_count() == 0
    best = scores.sort("score.deita", descending=True)["uid"].head(10)
    assert set(run.selected.collect()["uid"]) == set(best)
    (notes,) = (stage["notes"] for stage in run.stages if stage["name"] == "score.deita")
    assert notes["prompts"] == len(asked)
