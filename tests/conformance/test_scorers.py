"""What holds for every scorer that the registry finds, with its default options and any listed here."""

import copy
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from passes import small_llama, token_rows

from curate.methods import read_method, write_method
from curate.model.request import TokenRow, TokenSignals, View, union
from curate.model.signals import compute_signals
from curate.registry import Registry
from curate.scorer import PooledSignalScorer, Scorer, SignalScorer, TextScorer

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "compression_ratio": [{"part": "prompt"}, {"part": "all"}],
    "donod": [{"learning_rate": 0.5, "nod_weight": 2.0}],
    "language": [{"languages": ["fr", "de"], "part": "prompt"}],
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
CASES = [
    pytest.param({name: fields}, id=f"{name}-{index}")
    for name in NAMES
    for index, fields in enumerate([{}, *SETTINGS.get(name, [])])
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
    rows = token_rows(30)
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
    assert isinstance(scorer, SignalScorer | PooledSignalScorer)
    signals = compute_signals(model, rows, union([(scorer.signals, scorer.views)]), batch_tokens)
    return (
        scorer.measure(signals)
        if isinstance(scorer, PooledSignalScorer)
        else {scorer.column: scorer.score(signals)}
    )


def score(scorer: Scorer, measured: Columns) -> NDArray[np.float64]:
    if isinstance(scorer, PooledSignalScorer):
        return scorer.combine(measured)
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
        assert values.shape == (30,)
        assert values.dtype == np.float64
        assert not np.isinf(values).any()
    assert np.isfinite(score(scorer, measured)).sum() >= 25


@every_scorer
def test_a_score_tells_rows_apart(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    scorer = make(written)
    assert len(np.unique(score(scorer, measure(scorer, model, pool)))) > 10


@every_scorer
def test_null_where_a_row_has_no_target(written: dict[str, Any], model: Any, pool: list[TokenRow]) -> None:
    scorer = make(written)
    if not isinstance(scorer, TextScorer):
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
    if isinstance(scorer, TextScorer):
        assert measure(scorer, model, pool)
        return
    assert isinstance(scorer, SignalScorer | PooledSignalScorer)
    others = [make({name: {}}) for name in NAMES]
    asked = [(one.signals, one.views) for one in others if isinstance(one, SignalScorer | PooledSignalScorer)]
    together = compute_signals(model, pool, union(asked), 300)
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
    assert isinstance(scorer, SignalScorer | PooledSignalScorer)
    signals = compute_signals(model, pool, union([(scorer.signals, scorer.views)]), 300)
    kept = copy.deepcopy(signals)
    if isinstance(scorer, PooledSignalScorer):
        parts = scorer.measure(signals)
        copies = copy.deepcopy(parts)
        scorer.combine(parts)
        np.testing.assert_equal(dict(parts), dict(copies))
    else:
        scorer.score(signals)
    assert_unchanged(signals, kept)
    for row, original in zip(pool, before, strict=True):
        np.testing.assert_array_equal(row.input_ids, original.input_ids)
        np.testing.assert_array_equal(row.supervised, original.supervised)


def assert_unchanged(signals: TokenSignals, kept: TokenSignals) -> None:
    np.testing.assert_array_equal(signals.offsets, kept.offsets)
    np.testing.assert_equal(dict(signals.per_token), dict(kept.per_token))
    np.testing.assert_equal(dict(signals.per_example), dict(kept.per_example))
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
        assert cls.signals


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
