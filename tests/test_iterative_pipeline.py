"""The pipeline `iterative` on a toy pool with a tiny model: two rounds, from one end to the other."""

import json
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pools import configuration, outputs, write_pool
from processes import finish, finished, killed, of_shards

import curate
from curate.config import dump_config, read_config
from curate.errors import ConfigError
from curate.pipeline import build
from curate.plan import plan
from pipelines._rounds import WEIGHTS

BUDGET = 30
SELECT = {"select": {"kmeans_quality": {"by": "loss", "order": "highest", "budget": BUDGET}}}
TRAIN = {"train": {"adapter": {"lora": {"r": 2}}, "batch_rows": 4, "checkpoint_every_steps": 2}}
STAGES = [
    {"clean": ["exact_duplicates"]},
    {"embed": {"model": "states"}},
    {"cluster": {"kmeans": {"k": 4}}},
    {"score": ["loss"]},
    SELECT,
    TRAIN,
]
ROUND = ["draw", "train", "answers", "reward", "weights"]


def shape(**fields: Any) -> dict[str, Any]:
    return {"pipeline": {"iterative": {"rounds": 2, "max_new_tokens": 5, **fields}}, "agreement_rows": 0}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("iterative") / "data", rows=160).parent


def go(home: Path, model: Path, stages: list[Any] = STAGES, **fields: Any) -> curate.Run:
    """All runs share one store."""
    config = configuration(home / "data", stages, model, **shape(**fields))
    return curate.run(config, runs=home / "runs", runner="local")


def stage(run: curate.Run, name: str) -> dict[str, Any]:
    (found,) = [each for each in run.stages if each["name"] == name]
    return dict(found)


@pytest.fixture(scope="module")
def run(home: Path, tiny_model: Path) -> curate.Run:
    return go(home, tiny_model)


def weights(run: curate.Run, number: int) -> pl.DataFrame:
    return pl.read_parquet(run.store / stage(run, f"round{number}.weights")["folder"] / "files" / WEIGHTS)


def test_the_budget_is_kept_in_two_halves(run: curate.Run) -> None:
    kept = run.selected.collect().sort("rank")
    assert kept["rank"].to_list() == list(range(BUDGET))
    first = kept["reason"].str.starts_with("round 1 of 2").to_list()
    assert first == [True] * 15 + [False] * 15


def test_the_first_half_is_alike_from_every_cluster(run: curate.Run) -> None:
    kept = run.selected.collect().sort("rank").head(15)
    assert sorted(kept["cluster"].value_counts()["count"].to_list()) == [3, 4, 4, 4]


def test_the_second_half_follows_the_weights(run: curate.Run) -> None:
    """Largest remainder: each cluster is within a row of its share, for none is exhausted."""
    moved = weights(run, 1)
    assert moved["weight"].sum() == pytest.approx(1)
    assert (moved["weight"] - moved["before"]).abs().max() > 1e-6  # type: ignore[operator]
    kept = run.selected.collect().sort("rank").tail(15)
    for name, weight in moved.select("cluster", "weight").iter_rows():
        assert abs(kept.filter(pl.col("cluster") == int(name)).height - 15 * weight) < 1


def test_all_others_are_told_why_not(run: curate.Run) -> None:
    gone = run.dropped.collect().filter(pl.col("stage") == "select.kmeans_quality")
    assert gone["reason"].str.contains("not drawn in 2 rounds, cluster").all()
    assert gone.height == stage(run, "select.kmeans_quality")["rows"] - BUDGET


def test_a_round_tunes_and_answers_what_it_drew(run: curate.Run) -> None:
    assert stage(run, "round1.train")["notes"]["rows"] == 15
    assert stage(run, "round1.answers")["notes"]["answers"] == 15
    assert stage(run, "round1.weights")["notes"]["scored_rows"] == 15
    assert stage(run, "train")["notes"]["rows"] == BUDGET


def test_the_run_keeps_the_last_model_alone(run: curate.Run) -> None:
    assert (run.path / "adapter" / "adapter_model.safetensors").exists()
    assert not list(run.path.glob("round*"))


def test_the_row_is_told_all_of_it(run: curate.Run) -> None:
    last = run.selected.collect().sort("rank")["id"][-1]
    assert "round 2 of 2, cluster" in (run.why(last).verdicts[-1].reason or "")


def test_the_second_run_computes_nothing(home: Path, run: curate.Run, tiny_model: Path) -> None:
    before = outputs(run.path)
    again = go(home, tiny_model)
    assert all(each["cached"] for each in again.stages)
    assert outputs(again.path) == before


def test_another_judge_answers_nothing_again(home: Path, run: curate.Run, tiny_model: Path) -> None:
    other = go(home, tiny_model, judge="base")
    cached = {each["name"]: each["cached"] for each in other.stages}
    assert cached["round1.train"]
    assert cached["round1.answers"]
    assert not cached["round1.reward"]


def test_a_rater_in_the_place_of_perplexities(
    home: Path, run: curate.Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ratings of 1 to 6 differ by at most 5. The prompt is short, for the toy tokenizer knows letters alone."""
    monkeypatch.setattr("scorers._deita.QUALITY", "{instruction} {response}")
    rated = go(home, tiny_model, rater="deita_quality")
    assert stage(rated, "round1.answers")["cached"]
    reward = pl.read_parquet(rated.shards(stage(rated, "round1.reward")))["round1.reward"]
    assert reward.drop_nulls().abs().max() <= 5  # type: ignore[operator]
    assert 0 < reward.count() <= 15
    assert weights(rated, 1)["score"].to_list() != weights(run, 1)["score"].to_list()


def config_of(stages: list[Any], **fields: Any) -> Any:
    return read_config(configuration(Path("data"), stages, Path("model"), **shape(**fields))).config


def test_check_plan_and_run_see_the_same_stages(home: Path, run: curate.Run, tiny_model: Path) -> None:
    config = read_config(configuration(home / "data", STAGES, tiny_model, **shape())).config
    names = [each["name"] for each in run.stages]
    lines = plan(config, home / "runs" / "store").lines
    assert [line.name for line in lines] == names
    assert all(line.cached for line in lines)
    rounds = [f"round1.{part}" for part in ROUND]
    assert names[-8:] == [*rounds, "round2.draw", "select.kmeans_quality", "train"]


def test_three_rounds_learn_twice() -> None:
    labels = [stage.label for stage in build(config_of(STAGES, rounds=3))]
    rounds = [f"round{number}.{part}" for number in (1, 2) for part in ROUND]
    assert labels[-13:] == [*rounds, "round3.draw", "select.kmeans_quality", "train"]


def test_all_prompts_so_far_are_answered_where_asked() -> None:
    stages = {stage.label: stage for stage in build(config_of(STAGES, rounds=3, answer="chosen"))}
    assert {"round1.drawn", "round2.drawn"} <= stages["round2.answers"].needs
    stages = {stage.label: stage for stage in build(config_of(STAGES, rounds=3))}
    assert "round1.drawn" not in stages["round2.answers"].needs


def test_a_stop_before_the_training_still_makes_the_rounds() -> None:
    config = read_config(configuration(Path("data"), STAGES, Path("model"), stop_after=5, **shape())).config
    assert build(config)[-1].label == "select.kmeans_quality"
    config = read_config(configuration(Path("data"), STAGES, Path("model"), stop_after=4, **shape())).config
    assert build(config)[-1].label.startswith("score.")


def test_a_select_before_it_stays() -> None:
    first = {"select": {"threshold": {"by": "loss", "min": 0.1}}}
    labels = [stage.label for stage in build(config_of([*STAGES[:4], first, SELECT, TRAIN]))]
    assert labels.count("select.threshold") == 1
    assert labels.index("select.threshold") < labels.index("round1.draw")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (STAGES[:5], "^pipeline: iterative: needs a `train` item"),
        ([*STAGES[:4], TRAIN], "^pipeline: iterative: needs a `select: kmeans_quality` item"),
        (
            [*STAGES[:4], {"select": {"top": {"by": "loss", "order": "highest", "budget": 5}}}, TRAIN],
            r"^stages\[4\]: iterative: the last `select` must be kmeans_quality in its default variant. Got top\.",
        ),
        (
            [
                *STAGES[:4],
                {"select": {"kmeans_quality": {**SELECT["select"]["kmeans_quality"], "variant": "code"}}},
                TRAIN,
            ],
            "Got kmeans_quality, variant code",
        ),
        (
            [*STAGES[:4], {**SELECT, "constraints": {"max_per": {"source": "40%"}}}, TRAIN],
            "keep no `constraints`",
        ),
        ([STAGES[3], SELECT, TRAIN], "needs `cluster`, which nothing before it adds. Add a `cluster` stage"),
    ],
)
def test_a_list_that_cannot_be_made_in_rounds(stages: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(config_of(stages))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": 1}, "greater than or equal to 2"),
        ({"rater": "length"}, "must be a scorer that asks a rater, as deita_quality. Got length"),
        ({"rater": "deita_quality", "judge": "base"}, "with a `rater` none are"),
        ({"max_new_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(STAGES, **fields)


def test_the_configuration_can_be_read_again() -> None:
    for fields in ({}, {"rater": "deita_quality"}):
        config = config_of(STAGES, **fields)
        assert read_config(dump_config(config)).config == config


@pytest.mark.slow
def test_killed_between_and_inside_rounds_a_run_ends_as_one_never_killed(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Answers are in shards of 64 rows of the pool, a training has checkpoints."""
    pool = write_pool(tmp_path / "data", 160)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(configuration(pool, STAGES, tiny_model, **shape())))
    whole = finish(config, tmp_path / "whole")

    runs = tmp_path / "killed"
    store = runs / "store"
    before: dict[str, int] = {}
    for label in ("round1.train", "round1.answers", "round2.draw"):
        died = killed(label, config, runs)
        assert died.returncode == -signal.SIGKILL, f"{label}: {died.returncode}\n{died.stderr}"
        assert not list(store.glob(f"{label}-*/manifest.json")), label
        now = finished(store)
        assert of_shards(before).items() <= now.items(), f"a finished shard was computed again before {label}"
        assert not label.endswith("train") or now.keys() > of_shards(now).keys(), "no checkpoint was left"
        shards = [name for name in now if name.startswith(label)]
        assert not label.endswith("answers") or len(shards) == 1, "no shard was left, or all were"
        before = now
    again = finish(config, runs)
    assert of_shards(before).items() <= finished(store).items()
    assert outputs(again) == outputs(whole)
