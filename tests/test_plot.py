"""run.plot: the numbers in the charts are those of the run's tables; a run that lacks a stage is told which."""

import subprocess
import sys
from pathlib import Path

import charted
import polars as pl
import pytest
from pools import configuration, write_pool

import curate
from curate.errors import ConfigError, CurateError
from curate.plot import Plot

STAGES = [
    {"clean": ["exact_duplicates"]},
    {"score": ["length"]},
    {"select": {"threshold": {"by": "length", "min": 4}}},
    {"embed": {"model": "states"}},
    {"cluster": {"kmeans": {"k": 3}}},
    {"score": ["loss", "el2n"]},
    {"select": {"top": {"by": "el2n", "order": "highest", "budget": 24}}},
    {"mix": {"temperature": {"temperature": 2.0}}},
    {"train": {"adapter": {"lora": {"r": 1}}, "epochs": 1, "batch_rows": 8}},
    {"evaluate": {"held_out": "5%", "baselines": ["random"]}},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> curate.Run:
    """Every kind of stage, one broken line."""
    folder = tmp_path_factory.mktemp("plot")
    pool = write_pool(folder / "data", rows=100)
    with (pool / "chat.jsonl").open("a") as stream:
        stream.write("{broken\n")
    return curate.run(
        configuration(pool, STAGES, tiny_model, agreement_rows=0), runs=folder / "runs", runner="local"
    )


@pytest.fixture(scope="module")
def bare(run: curate.Run) -> curate.Run:
    """Without a model, scores, embeddings, mixture or training."""
    folder = run.path.parent.parent
    config = configuration(folder / "data", [{"clean": ["exact_duplicates"]}])
    return curate.run(config, runs=folder / "runs", runner="local")


def test_scores_are_those_of_the_kept_and_the_dropped(run: curate.Run) -> None:
    bars = charted.rows(run.plot.scores("el2n"), "bin")
    scores = run.scores.drop_nulls("score.el2n").collect()
    kept = scores.filter(pl.col("position").is_in(run.selected.collect()["position"].implode()))
    assert sum(bar["rows"] for bar in bars if bar["group"] == "kept") == kept.height
    assert sum(bar["rows"] for bar in bars if bar["group"] == "dropped") == scores.height - kept.height
    assert min(bar["low"] for bar in bars) == pytest.approx(scores["score.el2n"].min())


def test_all_scores_have_a_chart(run: curate.Run) -> None:
    found = charted.spec(run.plot.scores())["concat"]
    names = [name.removeprefix("score.") for name in run.health["scores"]]
    assert [chart["title"]["text"] for chart in found] == names
    assert not any("null" in chart["title"]["subtitle"] for chart in found)


def test_an_unknown_score_is_refused_with_the_nearest(run: curate.Run) -> None:
    with pytest.raises(ConfigError, match=r"unknown score `score\.eln`. Did you mean `score\.el2n`"):
        run.plot.scores("eln")


def test_correlations_are_those_of_the_health_report(run: curate.Run) -> None:
    cells = charted.rows(run.plot.correlation(), "rho")
    found = {(cell["first"], cell["second"]): cell["rho"] for cell in cells}
    health = run.health
    assert found["loss", "el2n"] == pytest.approx(
        health["rank_correlation"]["score.loss"]["score.el2n"], rel=1e-5
    )
    length = health["scores"]["score.loss"]["length_spearman"]
    assert found["loss", "length in supervised tokens"] == pytest.approx(length, rel=1e-5)


def test_a_run_from_before_the_health_report_is_reported_on_anew(run: curate.Run) -> None:
    before = charted.rows(run.plot.correlation(), "rho")
    report = run.path / "health.json"
    text = report.read_bytes()
    report.unlink()
    try:
        assert charted.rows(run.plot.correlation(), "rho") == before
    finally:
        report.write_bytes(text)


def mixture(run: curate.Run, unit: str = "rows") -> dict[tuple[str, str], float]:
    rows = charted.rows(run.plot.mixture(), "amount")
    return {(row["at"], row["source"]): row["amount"] for row in rows if row["unit"] == unit}


def test_the_mixture_counts_rows_from_read_to_trained(run: curate.Run) -> None:
    found = mixture(run)
    held_out = run.dropped.filter(pl.col("reason") == "held out").select("position")
    sources = run.rows.join(held_out, on="position", how="anti").collect()["source"]
    assert found["read", "chat"] == (sources == "chat").sum()
    assert found["scored", "pairs"] == (run.scores.collect()["source"] == "pairs").sum()
    selected = run.selected.collect()
    assert found["selected", "chat"] == (selected["source"] == "chat").sum()
    assert found["trained", "chat"] == selected.filter(source="chat")["repeats"].sum()


def test_the_mixture_counts_supervised_tokens_of_each_draw(run: curate.Run) -> None:
    found = mixture(run, "supervised tokens")
    selected = run.selected.filter(pl.col("source") == "pairs").collect()
    assert found["selected", "pairs"] == selected["supervised_tokens"].sum()
    assert found["trained", "pairs"] == (selected["supervised_tokens"] * selected["repeats"]).sum()


def test_tokens_of_pieces_are_those_inside(run: curate.Run, tiny_model: Path) -> None:
    fields = {"min_tokens": 16, "max_tokens": 64, "batch_tokens": 256, "cycles": 1}
    folder = run.path.parent.parent
    config = configuration(folder / "data", [{"mix": {"length_buckets": fields}}], tiny_model)
    pieces = curate.run(config, runs=folder / "runs", runner="local")
    (record,) = (stage for stage in pieces.stages if stage["name"] == "tokenize")
    marks = pl.read_parquet(pieces.shards(record)).select("position", "supervised")
    drawn = pieces.schedule.collect().join(marks, on="position")
    expected = sum(
        sum(row["supervised"][row["start"] : row["start"] + row["length"]])
        for row in drawn.iter_rows(named=True)
    )
    found = mixture(pieces, "supervised tokens")
    assert sum(amount for (at, _), amount in found.items() if at == "trained") == expected


def test_tokens_of_composed_examples_are_all_shared_out(run: curate.Run, tiny_model: Path) -> None:
    folder = run.path.parent.parent
    config = configuration(folder / "data", [{"mix": {"mosaic": {"max_rows": 3}}}], tiny_model)
    composed = curate.run(config, runs=folder / "runs", runner="local")
    (record,) = (stage for stage in composed.stages if stage["name"] == "tokenize")
    tokens = pl.read_parquet(composed.shards(record)).select("position", "supervised_tokens")
    whole = composed.schedule.drop_nulls("position").collect().join(tokens, on="position")
    made = pl.read_parquet(composed.path / "composed.parquet")["supervised"].list.sum().sum()
    found = mixture(composed, "supervised tokens")
    trained = sum(amount for (at, _), amount in found.items() if at == "trained")
    assert trained == pytest.approx(whole["supervised_tokens"].sum() + made, rel=1e-5)


def test_lengths_of_the_pool_and_of_the_selection(run: curate.Run) -> None:
    bars = charted.rows(run.plot.lengths(), "bin")
    assert sum(bar["rows"] for bar in bars if bar["group"] == "selected") == run.selected.collect().height
    held_out = run.dropped.filter(pl.col("reason") == "held out").collect().height
    assert sum(bar["rows"] for bar in bars if bar["group"] == "pool") == run.rows.collect().height - held_out


def test_without_a_model_lengths_are_characters_and_mixtures_rows(bare: curate.Run) -> None:
    chart = bare.plot.lengths()
    assert charted.spec(chart)["title"]["text"] == "Length in characters of the response"
    longest = max(bar["high"] for bar in charted.rows(chart, "bin"))
    assert longest == bare.rows.select(pl.col("response").str.len_chars().max()).collect().item() + 1
    assert {row["unit"] for row in charted.rows(bare.plot.mixture(), "unit")} == {"rows"}


def test_the_funnel_accounts_for_every_row(run: curate.Run) -> None:
    bars = charted.rows(run.plot.funnel(), "from", "to")
    of: dict[str, int] = {}
    for bar in bars:
        of[bar["kind"]] = of.get(bar["kind"], 0) + bar["rows"] * (bar["kind"] != "left")
    dropped = run.dropped.collect()
    assert of["quarantined"] == run.quarantine.collect().height == 1
    assert of["held out"] == (dropped["reason"] == "held out").sum()
    assert of["dropped"] + of["held out"] == dropped.height
    (trained,) = (bar["rows"] for bar in bars if (bar["stage"], bar["kind"]) == ("schedule", "left"))
    assert trained == run.schedule.collect()["position"].n_unique()


def test_the_reasons_of_a_stage_add_up_to_what_it_dropped(run: curate.Run) -> None:
    reasons = charted.rows(run.plot.funnel(), "reason")
    counts = dict(run.dropped.group_by("stage").agg(pl.len()).collect().iter_rows())
    for stage, count in counts.items():
        assert sum(each["rows"] for each in reasons if each["stage"] == stage) == count


def test_losses_are_those_of_the_evaluation(run: curate.Run) -> None:
    rows = charted.rows(run.plot.losses(), "loss")
    found = {(row["model"], row["source"]): row["loss"] for row in rows}
    for model, each in run.evaluation["losses"].items():
        assert found[model, "mean over sources"] == pytest.approx(each["source_mean"], rel=1e-5)
        assert found[model, "chat"] == pytest.approx(each["sources"]["chat"]["loss"], rel=1e-5)


def test_training_curves_are_of_the_selection_and_each_baseline(run: curate.Run) -> None:
    rows = charted.rows(run.plot.training(), "steps", "tokens")
    curve = pl.read_ndjson(run.path / "adapter" / "curve.jsonl")
    mine = [row for row in rows if row["model"] == "selected" and row["loss"] in _digits(curve["loss"])]
    assert [row["tokens"] for row in mine] == curve["supervised_tokens"].cum_sum().to_list()
    assert {row["model"] for row in rows} == {"selected", "random"}


def _digits(column: pl.Series) -> list[float]:
    return [float(f"{value:.6g}") for value in column]


def test_the_schedule_is_that_of_the_run(run: curate.Run) -> None:
    rows = charted.rows(run.plot.schedule(), "share")
    chat = sum(row["share"] * (row["last"] - row["first"]) for row in rows if row["name"] == "chat")
    selected = run.selected.filter(pl.col("source") == "chat").collect()
    assert chat == pytest.approx(selected["repeats"].sum(), rel=1e-4)


def test_cost_counts_a_pass_once(run: curate.Run) -> None:
    rows = {row["name"]: row for row in charted.rows(run.plot.cost(), "seconds", "how")}
    shared = [stage for stage in run.stages if stage["stage"] == "score.model"]
    assert len(shared) > 1
    assert rows["score.model"]["seconds"] == pytest.approx(
        max(stage["seconds"] for stage in shared), rel=1e-5
    )
    assert {row["how"] for row in rows.values()} == {"computed"}


def test_a_second_run_takes_from_the_store(run: curate.Run) -> None:
    again = run.select({"top": {"by": "loss", "order": "lowest", "budget": 10}})
    how = {row["name"]: row["how"] for row in charted.rows(again.plot.cost(), "seconds", "how")}
    assert (how["score.model"], how["select.top"]) == ("stored", "computed")


def test_the_map_has_each_embedded_row_at_one_place(run: curate.Run) -> None:
    rows = charted.rows(run.plot.map(), "prompt")
    (record,) = (stage for stage in run.stages if "embedding" in stage["adds"])
    assert len({row["id"] for row in rows}) == len(rows) == record["rows"]
    kept = set(run.selected.collect()["id"])
    assert {row["id"] for row in rows if row["kept"] == "kept"} == kept
    scores = dict(run.scores.select("id", "score.loss").collect().iter_rows())
    assert all(row["score_loss"] == float(f"{scores[row['id']]:.4g}") for row in rows if row["score_loss"])


def test_half_of_a_small_sample_is_kept_rows(run: curate.Run) -> None:
    rows = charted.rows(run.plot.map(sample=20), "prompt")
    assert [row["kept"] for row in rows] == ["dropped"] * 10 + ["kept"] * 10
    other = charted.rows(run.plot.map(sample=20, seed=1), "prompt")
    assert {row["id"] for row in rows} != {row["id"] for row in other}


def test_another_colour_computes_no_place_again(run: curate.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = charted.rows(run.plot.map(sample=30), "prompt")
    monkeypatch.setattr("curate.charts.map.coordinates", None)
    places = {row["id"]: (row["x"], row["y"]) for row in before}
    for colour in ("kept", "cluster", "loss", "score.loss"):
        again = charted.rows(run.plot.map(colour, sample=30), "prompt")
        assert {row["id"]: (row["x"], row["y"]) for row in again} == places


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"colour": "sauce"}, "unknown colour `sauce`. Did you mean `source`"),
        ({"colour": "score.los"}, "unknown colour `score.los`. Did you mean `score.loss`"),
        ({"sample": 0}, "sample: must be at least 1. Got 0"),
    ],
)
def test_wrong_arguments_of_the_map(run: curate.Run, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.plot.map(**arguments)


@pytest.mark.parametrize(
    ("chart", "message"),
    [
        ("scores", "no `score`"),
        ("correlation", "no `score`"),
        ("schedule", "no `mix`"),
        ("map", "no `embed`"),
        ("losses", "no `evaluate`"),
        ("training", "no `train`"),
        ("comparison", "no `compare`"),
    ],
)
def test_a_run_that_lacks_a_stage_says_which(bare: curate.Run, chart: str, message: str) -> None:
    with pytest.raises(CurateError, match=message):
        getattr(bare.plot, chart)()


@pytest.mark.parametrize("chart", ["mixture", "lengths", "funnel", "cost"])
def test_a_run_without_a_model_has_these(bare: curate.Run, chart: str) -> None:
    assert charted.rows(getattr(bare.plot, chart)())


def test_a_run_that_has_only_begun_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "running", "stages": []}')
    begun = curate.open(tmp_path)
    for chart in ("mixture", "lengths", "funnel", "cost", "map", "training"):
        with pytest.raises(CurateError, match="running"):
            getattr(begun.plot, chart)()


def test_charts_have_no_background_and_text_that_is_legible_on_any(bare: curate.Run) -> None:
    found = charted.spec(bare.plot.cost())
    assert found["background"] == "transparent"
    assert found["config"]["axis"]["labelColor"] == found["config"]["text"]["color"] == "#767676"


def test_each_chart_of_the_contract_is_there() -> None:
    methods = {name for name in vars(Plot) if not name.startswith("_")} - {"run"}
    assert methods == {
        "scores", "correlation", "mixture", "lengths", "schedule", "map", "funnel", "losses", "training", "cost",
        "comparison",
    }  # fmt: skip


def test_altair_is_imported_only_to_draw() -> None:
    code = "import curate.plot, curate.plotted, sys; print('altair' in sys.modules, 'sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
