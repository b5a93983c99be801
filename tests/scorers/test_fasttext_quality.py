"""The classifier of texts: what it learns, from which rows, and that it does so again."""

import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from examples import ToyExamples
from pydantic import ValidationError

from curate.errors import DataError
from scorers._classifier import Drawn, draw, learn, lines, load
from scorers.fasttext_quality import FasttextQuality

SMALL: dict[str, Any] = {"dim": 8, "buckets": 500, "learning_rate": 1.0}
GOOD = ["because", "therefore", "first", "second", "hence"]
BAD = ["click", "buy", "cheap", "login", "cookie"]


def pool(rows: int = 200, seed: int = 0) -> pl.DataFrame:
    """Half the rows speak of one thing, half of another; each group has two rows; one in five has no score."""
    generator = random.Random(seed)
    good = [index % 2 == 0 for index in range(rows)]
    return pl.DataFrame(
        {
            "uid": [f"{seed}-{index}" for index in range(rows)],
            "group": [f"group {index // 2}" for index in range(rows)],
            "prompt": [f"{seed}\nwhat is {generator.randint(0, 9)}?" for _ in range(rows)],
            "response": [" ".join(generator.choices(GOOD if each else BAD, k=8)) for each in good],
            "score.predictive_strength": [
                None if index % 5 == 4 else float(each) for index, each in enumerate(good)
            ],
        }
    )


def examples(table: pl.DataFrame, seed: int = 0) -> ToyExamples:
    return ToyExamples(None, (), seed=seed, table=table)


def score(scorer: FasttextQuality, learnt: Any, rows: pl.DataFrame) -> np.ndarray:
    return scorer.score(rows.select(sorted(scorer.needs())), scorer.load(learnt))


@pytest.fixture(scope="module")
def scorer() -> FasttextQuality:
    return FasttextQuality(**SMALL)


@pytest.fixture(scope="module")
def learnt(scorer: FasttextQuality) -> Any:
    return scorer.refer(examples(pool()))


def test_it_tells_what_it_learnt_apart_on_other_rows(scorer: FasttextQuality, learnt: Any) -> None:
    found = score(scorer, learnt, pool(seed=1))
    assert found[::2].min() > 0.5 > found[1::2].max()


def test_the_notes_tell_how_many_rows_and_how_well(scorer: FasttextQuality, learnt: Any) -> None:
    notes = scorer.notes(learnt)
    assert sum(notes["trained_on"]) + sum(notes["held_out"]) == 160
    assert notes["held_out_auc"] == 1.0


def test_the_same_rows_give_the_same_bytes(scorer: FasttextQuality, learnt: Any) -> None:
    np.testing.assert_array_equal(scorer.refer(examples(pool()))["model"], learnt["model"])


def test_the_order_of_the_pool_changes_nothing(scorer: FasttextQuality, learnt: Any) -> None:
    shuffled = pool().sample(fraction=1, shuffle=True, seed=3)
    np.testing.assert_array_equal(scorer.refer(examples(shuffled))["model"], learnt["model"])


def test_another_seed_gives_another_model(scorer: FasttextQuality, learnt: Any) -> None:
    other = scorer.refer(examples(pool(), seed=1))["model"]
    assert len(other) != len(learnt["model"]) or (other != learnt["model"]).any()


def test_a_row_without_text_is_null(scorer: FasttextQuality, learnt: Any) -> None:
    rows = pl.DataFrame({"prompt": ["", "", None], "response": [" \n ", "hence", "hence"]})
    np.testing.assert_array_equal(np.isnan(score(scorer, learnt, rows)), [True, False, True])


def test_a_batch_is_its_rows_one_by_one(scorer: FasttextQuality, learnt: Any) -> None:
    rows, classifier = pool(20, seed=2), scorer.load(learnt)
    alone = np.concatenate([scorer.score(rows[index : index + 1], classifier) for index in range(20)])
    np.testing.assert_array_equal(scorer.score(rows, classifier), alone)


def test_nothing_is_held_out_where_nothing_is_asked() -> None:
    scorer = FasttextQuality(held_out=0, **SMALL)
    notes = scorer.notes(scorer.refer(examples(pool())))
    assert (sum(notes["trained_on"]), notes["held_out_auc"]) == (160, None)


def test_a_group_is_held_out_as_a_whole() -> None:
    table = pool()
    chosen = draw(table, "score.predictive_strength", None, 0.3, seed=5)
    groups = np.array(table["group"].to_list())[chosen.rows]
    assert 0 < chosen.held_out.sum() < len(groups)
    assert not set(groups[chosen.held_out]) & set(groups[~chosen.held_out])


def test_good_and_bad_examples_are_mixed_however_rare_one_kind_is() -> None:
    values = [1.0] * 900 + [0.0] * 100
    table = pool(1000).with_columns(pl.Series("score.predictive_strength", values))
    first = draw(table, "score.predictive_strength", None, 0.0, seed=0).good[:100]
    assert 30 < first.sum() < 70


@pytest.mark.parametrize(
    ("values", "fraction", "found"),
    [([1.0, 0.0] * 8, None, "8 and 8"), ([1.0] * 100, None, "0 and 0"), (list(range(60)), 0.1, "6 and 6")],
    ids=["few rows", "one value", "a small fraction"],
)
def test_too_few_examples(values: list[float], fraction: float | None, found: str) -> None:
    table = pool(len(values)).with_columns(pl.Series("score.predictive_strength", values, dtype=pl.Float64))
    scorer = FasttextQuality(fraction=fraction, held_out=0, **SMALL)
    with pytest.raises(DataError, match=f"at least 10 good and 10 bad .* Got {found}. Score more rows"):
        scorer.refer(examples(table))


def test_no_scored_row_at_all() -> None:
    table = pool(30).with_columns(pl.lit(None, dtype=pl.Float64).alias("score.predictive_strength"))
    with pytest.raises(DataError, match="Got 0 and 0"):
        FasttextQuality(**SMALL).refer(examples(table))


def test_any_column_may_be_learnt() -> None:
    table = pool().with_columns(pl.Series("meta.rating", [str(index % 2) for index in range(200)]))
    scorer = FasttextQuality(by="meta.rating", **SMALL)
    assert scorer.reference_needs() == {"meta.rating", "uid", "group", "prompt", "response"}
    found = score(scorer, scorer.refer(examples(table)), pool(seed=1))
    assert found[1::2].min() > found[::2].max()


def test_a_column_that_holds_no_numbers_is_an_error() -> None:
    table = pool().with_columns(pl.lit("easy").alias("meta.rating"))
    with pytest.raises(DataError, match="`meta.rating` must hold numbers"):
        FasttextQuality(by="meta.rating", **SMALL).refer(examples(table))


def test_only_the_part_is_read() -> None:
    scorer = FasttextQuality(part="response", **SMALL)
    assert scorer.needs() == {"response"}
    learnt = scorer.refer(examples(pool()))
    same = pl.DataFrame({"prompt": ["click buy", "hence"], "response": ["therefore hence"] * 2})
    assert len(set(score(scorer, learnt, same))) == 1


def test_lines_hold_no_word_of_fasttext_itself() -> None:
    texts = pl.Series(["\na\r\nb\tc\x0bd\x0c", "__label__1 x </s> y", None])
    assert lines(texts).to_list() == ["a  b c d", "__label 1 x < /s> y", None]


def test_a_label_in_a_text_teaches_nothing() -> None:
    """Texts that say they are good, and are not."""
    texts = pl.Series(["hence therefore"] * 20 + ["__label__1 </s> cheap"] * 20)
    good = np.arange(40) < 20
    order = np.random.default_rng(0).permutation(40)
    drawn = Drawn(order, good[order], np.zeros(40, dtype=np.bool_))
    settings = {"epoch": 20, "lr": 1.0, "wordNgrams": 1, "dim": 4, "bucket": 10, "seed": 0}
    model = load(learn(lines(texts)[order.tolist()], drawn, settings)["model"])
    assert sorted(model.get_labels()) == ["__label__0", "__label__1"]
    assert "cheap" in model.get_words()


@pytest.mark.parametrize("fields", [{"fraction": 0.6}, {"fraction": 0}, {"held_out": 1.0}, {"epochs": 0}])
def test_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FasttextQuality(**fields)
