"""The health report: closed forms, and each warning where it is due and where it is not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import configuration, write_jsonl, write_pool

import curate
from curate.config import read_config
from curate.errors import CurateError
from curate.health import Health, health, spearman
from curate.outputs import write_health
from curate.progress import Silent
from curate.start import start

ROWS = 200


def report(columns: dict[str, Any], **more: Any) -> Health:
    """The report of a table of these columns."""
    return health(pl.LazyFrame(columns, strict=False), **more)


def rules(found: Health) -> list[tuple[str, tuple[str, ...]]]:
    """What was warned of whom."""
    return [(warned.rule, warned.scores) for warned in found.warnings]


def shuffled(seed: int = 0, rows: int = ROWS) -> list[float]:
    """The numbers 0 to rows - 1, in some order."""
    return np.random.default_rng(seed).permutation(rows).astype(float).tolist()


def test_the_moments_of_zeros_and_one_one() -> None:
    score = report({"score.a": [0.0, 0.0, 0.0, 1.0]}).scores["score.a"]
    assert (score.mean, score.distinct, score.most_frequent_fraction) == (0.25, 2, 0.75)
    assert score.standard_deviation == pytest.approx(np.sqrt(3) / 4)
    assert score.skew == pytest.approx(2 / np.sqrt(3))


def test_the_quantiles_of_0_to_100_are_the_per_cents() -> None:
    score = report({"score.a": shuffled(rows=101)}).scores["score.a"]
    assert score.quantiles == {str(q): q for q in (0, 1, 5, 25, 50, 75, 95, 99, 100)}


def test_quantiles_lie_between_neighbours() -> None:
    assert report({"score.a": [1.0, 2.0]}).scores["score.a"].quantiles["25"] == 1.25


def test_nulls_and_nan_are_left_out_and_counted() -> None:
    score = report({"score.a": [1.0, None, 3.0, float("nan")]}).scores["score.a"]
    assert (score.rows, score.nulls, score.distinct, score.mean) == (4, 2, 2, 2.0)


def test_nulls_count_among_the_rows_that_the_score_was_asked_of() -> None:
    score = report({"score.a": [1.0, None, None, 4.0]}, rows={"score.a": 3}).scores["score.a"]
    assert (score.rows, score.nulls) == (3, 1)


def test_a_constant_has_neither_skew_nor_correlation() -> None:
    found = report({"score.a": [0.1] * 7, "score.b": shuffled(rows=7), "supervised_tokens": range(7)})
    score = found.scores["score.a"]
    assert (score.standard_deviation, score.skew) == (0.0, None)
    assert (score.length_pearson, score.length_spearman) == (None, None)
    assert found.rank_correlation["score.a"] == {"score.a": None, "score.b": None}


def test_a_score_without_any_value() -> None:
    score = report({"score.a": [None, None], "supervised_tokens": [1, 2]}).scores["score.a"]
    assert (score.nulls, score.distinct, score.mean, score.length_spearman) == (2, 0, None, None)
    assert set(score.quantiles.values()) == {None}


def test_the_length_correlations_of_a_power() -> None:
    lengths = np.arange(1, 11)
    score = report({"score.a": lengths**3.0, "supervised_tokens": lengths}).scores["score.a"]
    assert score.length_spearman == pytest.approx(1.0)
    assert score.length_pearson == pytest.approx(np.corrcoef(lengths**3, lengths)[0, 1])


def test_supervised_tokens_are_the_length_before_characters() -> None:
    columns = {"score.a": [1.0, 2.0], "characters": [2, 1], "supervised_tokens": [1, 2]}
    assert report(columns).length == "supervised_tokens"
    del columns["supervised_tokens"]
    assert report(columns).length == "characters"
    del columns["characters"]
    assert report(columns).length is None


def test_the_fraction_of_supervised_tokens_is_of_all_tokens() -> None:
    columns = {"score.a": [1.0, 2.0, 3.0], "tokens": [10, 30, None], "supervised_tokens": [10, 10, None]}
    assert report(columns).supervised_token_fraction == 0.5


def test_spearman_with_ties_by_hand() -> None:
    # Mean ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, squares 4.5 and 5.
    found = spearman({"a": pl.Series([1, 2, 2, 3]), "b": pl.Series([1, 2, 3, 4])})
    assert found["a"]["b"] == found["b"]["a"] == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_a_pair_is_ranked_over_the_rows_that_have_both() -> None:
    # Among all rows the ranks of `a` are 1, 2, 9, 10 where `b` is, which is no straight line.
    a = pl.Series([float(value) for value in range(10)])
    b = pl.Series([0.0, 1.0, *[None] * 6, 2.0, 3.0])
    assert spearman({"a": a, "b": b})["a"]["b"] == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 6))] * 2), min_size=2, max_size=30))
def test_spearman_is_pearson_of_mean_ranks(pairs: list[tuple[int | None, int | None]]) -> None:
    one, other = (pl.Series([pair[side] for pair in pairs], dtype=pl.Float64) for side in (0, 1))
    both = [pair for pair in pairs if None not in pair]
    ranks = [
        [sum(v < w for v in values) + (sum(v == w for v in values) + 1) / 2 for w in values]
        for values in ([pair[side] for pair in both] for side in (0, 1))
    ]
    found = spearman({"a": one, "b": other})["a"]["b"]
    if any(len(set(side)) < 2 for side in ranks):
        assert found is None
    else:
        assert found == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-9)


def test_sound_scores_are_not_warned_of() -> None:
    found = report({"score.a": shuffled(0), "score.b": shuffled(1), "supervised_tokens": shuffled(2)})
    assert found.warnings == ()


@pytest.mark.parametrize(("nulls", "expected"), [(2, []), (3, [("nulls", ("score.a",))])])
def test_more_than_one_per_cent_null(nulls: int, expected: list[Any]) -> None:
    assert rules(report({"score.a": [*[None] * nulls, *shuffled()[nulls:]]})) == expected


@pytest.mark.parametrize(("equal", "expected"), [(190, []), (191, [("constant", ("score.a",))])])
def test_more_than_95_per_cent_equal(equal: int, expected: list[Any]) -> None:
    assert rules(report({"score.a": [-1.0] * equal + list(range(ROWS - equal))})) == expected


@pytest.mark.parametrize(("values", "rows", "warned"), [(4, 51, True), (5, 51, False), (4, 50, False)])
def test_fewer_than_five_values_over_more_than_fifty_rows(values: int, rows: int, warned: bool) -> None:
    found = report({"score.a": [float(row % values) for row in range(rows)]})
    assert rules(found) == ([("constant", ("score.a",))] if warned else [])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_that_is_length(sign: int) -> None:
    lengths = np.arange(ROWS)
    found = report({"score.a": sign * lengths**2.0, "supervised_tokens": lengths})
    assert rules(found) == [("length", ("score.a",))]
    assert f"Spearman {sign:.3f} with supervised_tokens" in found.warnings[0].text


def test_a_score_that_is_half_length() -> None:
    lengths = np.array(shuffled(3))
    found = report({"score.a": lengths + np.array(shuffled(4)), "supervised_tokens": lengths})
    assert 0.5 < (found.scores["score.a"].length_spearman or 0) < 0.9
    assert found.warnings == ()


def test_few_rows_are_not_judged_by_correlation() -> None:
    columns = {name: range(50) for name in ("score.a", "score.b", "supervised_tokens")}
    assert report(columns).warnings == ()


@pytest.mark.parametrize(("sign", "how"), [(1, "the same order"), (-1, "opposite orders")])
def test_two_scores_that_are_one(sign: int, how: str) -> None:
    values = np.array(shuffled())
    found = report({"score.a": values, "score.b": np.exp(sign * values / ROWS), "score.c": shuffled(1)})
    assert rules(found) == [("alike", ("score.a", "score.b"))]
    assert how in found.warnings[0].text


def test_two_scores_that_are_nearly_one() -> None:
    values = np.array(shuffled())
    found = report({"score.a": values, "score.b": values + 10 * np.sin(7 * values)})
    assert 0.9 < (found.rank_correlation["score.a"]["score.b"] or 0) < 0.999
    assert found.warnings == ()


def test_a_part_is_compared_with_its_own_score_alone() -> None:
    columns = {name: shuffled() for name in ("score.a", "score.b.one", "supervised_tokens")}
    columns |= {name: shuffled(1) for name in ("score.b", "score.b.two")}
    pairs = [scores for rule, scores in rules(report(columns)) if rule == "alike"]
    assert pairs == [("score.b", "score.b.two")]


def test_a_part_is_not_warned_of_for_length() -> None:
    columns = {name: shuffled() for name in ("score.a", "score.b.one", "supervised_tokens")}
    assert rules(report(columns)) == [("length", ("score.a",))]


def test_the_nulls_of_a_part_are_told_of_its_score_alone() -> None:
    values = [None] * 3 + shuffled()
    assert rules(report({"score.a": values, "score.a.one": values})) == [
        ("nulls", ("score.a",)),
        ("alike", ("score.a", "score.a.one")),
    ]


def test_an_infinite_score_is_warned_of_and_stays_json() -> None:
    found = report({"score.a": [*shuffled(), float("inf")]})
    assert rules(found) == [("infinite", ("score.a",))]
    assert "Infinity" not in json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize(("rho", "expected"), [(0.94, [("agreement", ("score.a",))]), (0.95, []), (None, [])])
def test_agreement(rho: float | None, expected: list[Any]) -> None:
    found = report({"score.a": shuffled()}, agreement={"score.a": rho})
    assert found.scores["score.a"].agreement == rho
    assert rules(found) == expected


class Notes(Silent):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.texts.append(text)


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> tuple[curate.Run, list[str]]:
    """A run that scores words without a model, and what it told."""
    folder = tmp_path_factory.mktemp("health")
    pool = write_pool(folder / "data")
    write_jsonl(
        pool / "chat.jsonl", [{"prompt": "Say", "completion": "a" + "ha " * row} for row in range(1, 100)]
    )
    notes = Notes()
    loaded = read_config(configuration(pool, [{"score": ["length"]}]))
    run = start(loaded.config, folder / "runs", "local", notes)
    return run, notes.texts


def test_a_run_without_tokens_counts_characters(noted: tuple[curate.Run, list[str]]) -> None:
    run, _ = noted
    rows = run.rows.select("position", "response").join(run.scores, on="position").collect()
    lengths = rows["response"].str.len_chars().cast(pl.Float64)
    expected = np.corrcoef(rows["score.length"].to_numpy(), lengths.to_numpy())[0, 1]
    assert run.health["length"] == "characters"
    assert run.health["supervised_token_fraction"] is None
    assert run.health["scores"]["score.length"]["length_pearson"] == pytest.approx(expected)


def test_a_run_tells_its_warnings(noted: tuple[curate.Run, list[str]]) -> None:
    run, told = noted
    assert [warned["rule"] for warned in run.health["warnings"]] == ["length"]
    assert told == [f"warning: {warned['text']}" for warned in run.health["warnings"]]


def test_agreement_is_read_from_the_stage_that_measured_it(
    noted: tuple[curate.Run, list[str]], tmp_path: Path
) -> None:
    run, _ = noted
    run.scores.collect().write_parquet(tmp_path / "scores.parquet")
    measured = {
        "name": "score.agreement.bf16",
        "adds": ["artifact:health"],
        "rows": 0,
        "null_is_a_verdict": [],
    }
    notes = {"score.length": 0.5, "sampled": 64}
    told: list[str] = []
    write_health(tmp_path, run.store, [*run.stages, {**measured, "notes": notes}], told.append)
    assert json.loads((tmp_path / "health.json").read_bytes())["scores"]["score.length"]["agreement"] == 0.5
    assert any("agrees with itself only to Spearman 0.500" in text for text in told)


def test_a_run_without_scores_has_no_health(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data", 20)
    run = curate.run(
        configuration(pool, [{"clean": ["exact_duplicates"]}]), runs=tmp_path / "runs", runner="local"
    )
    with pytest.raises(
        CurateError, match=r"has no health\.json; the run is done\. Its configuration has no `score`"
    ):
        _ = run.health


def test_nulls_that_are_meant_are_no_warning() -> None:
    table = pl.LazyFrame({"score.a": [None, 1.0, 2.0], "score.b": [None, 1.0, 2.0]})
    assert [each.scores for each in health(table, sparse=["score.a"]).warnings] == [("score.b",)]
