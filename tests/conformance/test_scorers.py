"""What holds for every scorer that the registry finds, with its default options and any listed here."""

import copy
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from examples import ToyExamples, made
from numpy.typing import NDArray
from passes import VOCABULARY, preference_rows, small_llama, token_rows
from raters import rater, ratings, turns_of

from curate.methods import read_method, write_method
from curate.model.request import Readout, StateReadout, TokenRow, TokenSignals, View, union
from curate.model.signals import compute_signals
from curate.pool import Pool
from curate.registry import Registry
from curate.scorer import (
    FamilyScorer,
    LearnedTextScorer,
    PooledSignalScorer,
    PoolScorer,
    RatingScorer,
    Referenced,
    Scorer,
    SignalScorer,
    TextScorer,
)
from curate.stages.columns import nullable

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "compression_ratio": [{"part": "prompt"}, {"part": "all"}],
    "ches": [{"normalised": False}],
    "combine": [
        {
            "by": {"loss": {"order": "lowest"}, "score.el2n": {"weight": 2, "order": "highest"}},
            "rule": rule,
        }
        for rule in ("topsis", "z_score", "rank", "product")
    ],
    "confidence": [{"checkpoints": ["first", "second"]}],
    "fasttext_quality": [
        {"by": "loss", "fraction": 0.4, "dim": 8, "buckets": 100, "part": part, "learning_rate": 1.0}
        for part in ("response", "all")
    ],
    "donod": [{"learning_rate": 0.5, "nod_weight": 2.0}],
    "language": [{"languages": ["fr", "de"], "part": "prompt"}],
    "hard_loss_delta": [{"reference": "second"}],
    "hard_learnable": [{"top_k": 200}],
    "head_influence": [{"normalise": False}],
    "mona": [{"active": 4, "expansion": 2, "steps": 5, "training_tokens": 200}],
    "predictive_strength": [{"family": ["first", "second", "third"]}],
    "rds": [{"aggregate": "max"}, {"aggregate": "mean"}],
    "target_similarity": [{"compare": "nearest"}],
    "trim": [{"attention_layers": 1, "unseen_weight": 1.0}, {"attention_layers": 2}],
    "length": [
        {"unit": unit, "part": part}
        for unit in ("characters", "tokens")
        for part in ("response", "prompt", "all")
    ],
    "ngram_repetition": [{"unit": "characters", "n": 6, "part": "prompt"}, {"n": 2, "part": "all"}],
    "overlap": [{"n": 4}],
    "type_token_ratio": [{"window": None, "part": "all"}, {"window": 5, "part": "prompt"}],
}
"""Options beyond the defaults. A scorer with a field that has no default must be listed."""

PHRASES = ("the cat sat on the mat", "il dort", "ein alter Hund bellt", "one two, one two, three", "then")
"""What a token says to text scorers: words of several lengths and languages, and repetition."""

NAMES = Registry().names("scorers")
COARSE = {"predictive_strength"}
"""Whose values are few: one more than a family has pairs."""
DEAR = {"mona", "trim"}
"""Whose defaults take minutes, or a deeper model than the toy: they are held to the options above alone."""
DEFAULTS = {
    name: []
    if name in DEAR or any(f.is_required() for f in Registry().get("scorers", name).model_fields.values())
    else [{}]
    for name in NAMES
}
CASES = [
    pytest.param({name: fields}, id=f"{name}-{index}")
    for name in NAMES
    for index, fields in enumerate([*DEFAULTS[name], *SETTINGS.get(name, [])])
]
every_scorer = pytest.mark.parametrize("written", CASES)
every_name = pytest.mark.parametrize("name", NAMES)

Columns = Mapping[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def model() -> Any:
    return small_llama()


@pytest.fixture(scope="module")
def pool() -> list[TokenRow]:
    """30 rows, two of them without a target."""
    rows = preference_rows(30)
    for index in (4, 17):
        rows[index] = TokenRow(rows[index].input_ids, np.zeros_like(rows[index].supervised))
    return rows


def frame(rows: Sequence[TokenRow]) -> pl.DataFrame:
    """The columns that text scorers read, made from the tokens."""
    words = [[PHRASES[token % len(PHRASES)] for token in row.input_ids] for row in rows]
    marked = [list(zip(text, row.supervised, strict=True)) for text, row in zip(words, rows, strict=True)]
    return pl.DataFrame(
        {
            "prompt": [" ".join(word for word, target in row if not target) for row in marked],
            "response": [" ".join(word for word, target in row if target) for row in marked],
            "tokens": [len(row.input_ids) for row in rows],
            "supervised_tokens": [int(row.supervised.sum()) for row in rows],
        },
        schema={
            "prompt": pl.String,
            "response": pl.String,
            "tokens": pl.Int32,
            "supervised_tokens": pl.Int32,
        },
    )


def measure(scorer: Scorer, model: Any, rows: Sequence[TokenRow], batch_tokens: int = 300) -> Columns:
    """What the scorer's row stage stores: the score, or the parts of a pooled one."""
    if isinstance(scorer, TextScorer):
        return {scorer.column: scorer.score(frame(rows).select(sorted(scorer.needs())))}
    if isinstance(scorer, LearnedTextScorer):
        return {
            scorer.column: scorer.score(frame(rows).select(sorted(scorer.needs())), classifier_of(scorer))
        }
    if isinstance(scorer, PoolScorer):
        return pool_columns(rows)
    if isinstance(scorer, RatingScorer):
        return ratings(scorer, rater(model, batch_tokens=batch_tokens), [turns_of(row) for row in rows])
    if isinstance(scorer, FamilyScorer):
        wanted = union([(scorer.signals, scorer.views)])
        return {
            f"model_{index}": scorer.measure(
                compute_signals(other_model(index) if index else model, rows, wanted, batch_tokens)
            )
            for index in range(len(scorer.models()))
        }
    assert isinstance(scorer, SignalScorer | PooledSignalScorer)
    signals = passed(scorer, model, rows, batch_tokens)
    return (
        scorer.measure(signals)
        if isinstance(scorer, PooledSignalScorer)
        else {scorer.column: scorer.score(signals)}
    )


def passed(
    scorer: SignalScorer | PooledSignalScorer, model: Any, rows: Sequence[TokenRow], batch_tokens: int = 300
) -> TokenSignals:
    """The pass for one scorer, with what it compares rows with."""
    readouts = dict.fromkeys(scorer.views, readouts_of(scorer, model))
    return compute_signals(
        model, rows, union([(scorer.signals, scorer.views)]), batch_tokens, readouts=readouts
    )


_references: dict[str, Mapping[str, Any]] = {}


def readouts_of(scorer: SignalScorer | PooledSignalScorer, model: Any) -> Sequence[Readout]:
    if not isinstance(scorer, Referenced):
        return scorer.readouts({})
    key = json.dumps(scorer.identity(), sort_keys=True)
    if key not in _references:
        with TemporaryDirectory() as folder:
            examples = ToyExamples(model, token_rows(3, seed=7), token_rows(40, seed=8), Path(folder))
            _references[key] = made(scorer, examples)
    return scorer.readouts(_references[key])


@cache
def classifier_of(scorer: LearnedTextScorer) -> Any:
    """Trained on the texts of other rows, of a score that goes with one of their words."""
    texts = frame(token_rows(80, seed=9))
    uids = pl.Series([str(index) for index in range(texts.height)])
    counts = texts["response"].str.count_matches("dort")
    values = (counts > counts.median()).cast(pl.Float64)
    columns = {"uid": uids, "group": uids, "score.loss": values, "score.predictive_strength": values}
    table = texts.with_columns(**columns)
    return scorer.load(scorer.refer(ToyExamples(None, (), table=table)))


@cache
def other_model(index: int) -> Any:
    """The models of a family, beside the first."""
    return small_llama(tied=index == 1, bias=index == 2)


def pool_columns(rows: Sequence[TokenRow]) -> Columns:
    """What scorers of the whole pool read, made from each row's tokens."""
    table = np.random.default_rng(0).standard_normal((VOCABULARY, 8))
    vectors = np.array([table[row.input_ids].mean(axis=0) for row in rows]).reshape(-1, 8)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    targets = np.array([float(row.supervised.sum()) for row in rows])
    targets[targets == 0] = np.nan
    return {"embedding": vectors, "score.loss": vectors[:, 0] + 1 + 0 * targets, "score.el2n": 1 / targets}


def score(scorer: Scorer, measured: Columns) -> NDArray[np.float64]:
    count = len(next(iter(measured.values())))
    if isinstance(scorer, PooledSignalScorer):
        questions = [f"question {index // 2}" for index in range(count)]
        prompts = pl.DataFrame({"prompt": questions}, schema={"prompt": pl.String})
        return np.asarray(scorer.combine(measured, prompts)["score"], dtype=np.float64)
    if isinstance(scorer, FamilyScorer):
        return scorer.compare(np.column_stack(list(measured.values())))
    if isinstance(scorer, PoolScorer):
        columns = {name: nullable(name, values) for name, values in measured.items()}
        sources = pl.Series("source", [f"source {index % 12}" for index in range(count)], dtype=pl.String)
        target = np.eye(8, dtype=np.float32)[:2]
        uid = pl.Series("uid", map(str, range(count)), dtype=pl.String)
        frame = pl.DataFrame([*columns.values(), sources, uid])
        return scorer.score(Pool(frame, {}, 0), target if scorer.reads_target else None)
    return measured[scorer.column]


def make(written: dict[str, Any]) -> Scorer:
    scorer = read_method("scorers", written, Registry())
    assert isinstance(scorer, Scorer)
    return scorer


def assert_close(found: Columns, expected: Columns, tolerance: float = 1e-5) -> None:
    assert set(found) == set(expected)
    for name, values in expected.items():
        size = np.nanmax(np.abs(values), initial=0)
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance * size, err_msg=name)


@every_scorer
def test_finite_or_null(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    scorer = make(written)
    measured = measure(scorer, model, pool)
    for values in (*measured.values(), score(scorer, measured)):
        assert values.shape[0] == 30
        assert not np.isinf(values).any()
    assert score(scorer, measured).shape == (30,)
    assert score(scorer, measured).dtype == np.float64
    assert np.isfinite(score(scorer, measured)).sum() >= (5 if scorer.allows_null else 25)


@every_scorer
def test_a_score_tells_rows_apart(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    scorer = make(written)
    fewest = 3 if scorer.name in COARSE else 11
    assert len(np.unique(score(scorer, measure(scorer, model, pool)))) >= fewest


@every_scorer
def test_null_where_a_row_has_no_target(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    scorer = make(written)
    if scorer.models():
        assert np.isnan(score(scorer, measure(scorer, model, pool)))[[4, 17]].all()


@every_scorer
@pytest.mark.parametrize("batch_tokens", [1, 64, 10**6])
def test_any_batch_size(written: dict[str, Any], batch_tokens: int, model: Any, pool: list[TokenRow]) -> None:
    scorer = make(written)
    assert_close(measure(scorer, model, pool, batch_tokens), measure(scorer, model, pool))


@every_scorer
def test_any_order_of_rows(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    scorer, order = make(written), np.random.default_rng(0).permutation(30)
    straight = measure(scorer, model, pool)
    shuffled = measure(scorer, model, [pool[index] for index in order])
    assert_close(shuffled, {name: values[order] for name, values in straight.items()})


@every_scorer
@pytest.mark.parametrize("rows_per_shard", [1, 7])
def test_any_split_into_shards(
    written: dict[str, Any], rows_per_shard: int, model: Any, pool: list[TokenRow]
) -> None:
    scorer, whole = make(written), measure(make(written), model, pool)
    shards = [
        measure(scorer, model, pool[start : start + rows_per_shard])
        for start in range(0, len(pool), rows_per_shard)
    ]
    joined = {name: np.concatenate([shard[name] for shard in shards]) for name in whole}
    assert_close(joined, whole)
    assert_close({"score": score(scorer, joined)}, {"score": score(scorer, whole)}, 1e-3)


@every_scorer
def test_it_asks_for_all_that_it_reads(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    """Computed together with everything else, or by itself: the same."""
    scorer = make(written)
    if not isinstance(scorer, SignalScorer | PooledSignalScorer):
        assert measure(scorer, model, pool)
        return
    others = [make(case.values[0]) for case in CASES]  # type: ignore[arg-type]
    asked = [one for one in others if isinstance(one, SignalScorer | PooledSignalScorer) and one != scorer]
    wanted = union((one.signals, one.views) for one in [*asked, scorer])
    readouts: dict[View, list[Readout]] = {view: [] for view in wanted}
    for index, one in enumerate([*asked, scorer]):
        for view in one.views:
            for read in readouts_of(one, model):
                deep = isinstance(read, StateReadout) and read.attention_layers
                if one is scorer or not deep:  # one number of layers per pass
                    name = read.name if one is scorer else f"{read.name} of {index}"
                    readouts[view].append(replace(read, name=name))
    together = compute_signals(model, pool, wanted, 300, readouts=readouts)
    found = (
        scorer.measure(together)
        if isinstance(scorer, PooledSignalScorer)
        else {scorer.column: scorer.score(together)}
    )
    assert_close(found, measure(scorer, model, pool))


@every_scorer
def test_deterministic(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    scorer = make(written)
    first, second = (score(scorer, measure(scorer, model, pool)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@every_scorer
def test_no_row_at_all(written: dict[str, Any], model: Any) -> None:
    scorer = make(written)
    assert score(scorer, measure(scorer, model, [])).shape == (0,)


@every_scorer
def test_the_input_is_unchanged(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    scorer, before = make(written), copy.deepcopy(pool)
    text = frame(pool)
    if isinstance(scorer, TextScorer):
        scorer.score(text)
        assert text.equals(frame(before))
        return
    if isinstance(scorer, SignalScorer | PooledSignalScorer):
        signals = passed(scorer, model, pool)
        kept = copy.deepcopy(signals)
        _ = scorer.measure(signals) if isinstance(scorer, PooledSignalScorer) else scorer.score(signals)
        assert_unchanged(signals, kept)
    measured = measure(scorer, model, pool)
    copies = copy.deepcopy(dict(measured))
    score(scorer, measured)
    np.testing.assert_equal(dict(measured), copies)
    for row, original in zip(pool, before, strict=True):
        np.testing.assert_array_equal(row.input_ids, original.input_ids)
        np.testing.assert_array_equal(row.supervised, original.supervised)


def assert_unchanged(signals: TokenSignals, kept: TokenSignals) -> None:
    np.testing.assert_array_equal(signals.offsets, kept.offsets)
    np.testing.assert_equal(dict(signals.per_token), dict(kept.per_token))
    np.testing.assert_equal(dict(signals.per_example), dict(kept.per_example))
    np.testing.assert_equal(dict(signals.readings), dict(kept.readings))
    for view in signals.views:
        assert_unchanged(signals.view(view), kept.view(view))


@every_scorer
def test_pickles(written: dict[str, Any]) -> None:
    scorer = make(written)
    assert pickle.loads(pickle.dumps(scorer)) == scorer


@every_scorer
def test_written_and_read_again(written: dict[str, Any]) -> None:
    scorer = make(written)
    assert read_method("scorers", write_method(scorer), Registry()) == scorer
    assert scorer.identity()["method"] == scorer.name


@every_name
def test_the_contract_is_stated(name: str) -> None:
    cls = Registry().get("scorers", name)
    assert issubclass(cls, Scorer)
    assert cls.higher_is_better in (True, False, None)
    assert all(field.description for field in cls.model_fields.values())
    if issubclass(cls, PooledSignalScorer):
        assert cls.parts
    if issubclass(cls, SignalScorer | PooledSignalScorer):
        assert View.FULL in cls.views
        own = any(
            "readouts" in vars(one) for one in cls.__mro__ if one not in (SignalScorer, PooledSignalScorer)
        )
        assert cls.signals or own


@every_name
def test_the_docstring_is_complete(name: str) -> None:
    import importlib

    cls = Registry().get("scorers", name)
    module = importlib.import_module(cls.__module__)
    text = module.__doc__ or ""
    sections = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert sections[1:] == ["Formula", "Direction", "Cost", "Source", "Deviations"]
    assert cls.__doc__
    assert cls.__doc__ != Scorer.__doc__


@every_name
def test_the_file_is_short(name: str) -> None:
    import inspect

    assert len(inspect.getsourcelines(__import__(f"scorers.{name}", fromlist=["_"]))[0]) < 80
