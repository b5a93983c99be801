"""Pieces, steps and composed examples from the mixer to the trained model: whole runs of a tiny Llama."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pools import configuration, write_pool

import curate

TRAIN = {"train": {"adapter": {"lora": {"r": 2}}, "batch_tokens": 600}}
EVALUATE = {"evaluate": {"held_out": "10%", "baselines": ["random"]}}


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Callable[..., curate.Run]:
    """Run stages on 60 rows."""
    folder = tmp_path_factory.mktemp("mixers")
    pool = write_pool(folder / "data", rows=60)

    def run(*stages: dict[str, Any]) -> curate.Run:
        return curate.run(configuration(pool, list(stages), tiny_model), runs=folder / "runs", runner="local")

    return run


@pytest.fixture(scope="module")
def buckets(go: Callable[..., curate.Run]) -> curate.Run:
    """Pieces of 32 to 128 tokens, 256 a step."""
    fields = {"min_tokens": 32, "max_tokens": 128, "batch_tokens": 256, "cycles": 2}
    return go({"mix": {"length_buckets": fields}}, TRAIN, EVALUATE)


@pytest.fixture(scope="module")
def mosaic(go: Callable[..., curate.Run]) -> curate.Run:
    """Examples of up to four rows."""
    train = {"train": {**TRAIN["train"], "batch_rows": 4}}
    return go({"mix": {"mosaic": {"max_rows": 4}}}, train, EVALUATE)


def stage(run: curate.Run, name: str) -> Any:
    """The record of a stage."""
    (found,) = (each for each in run.stages if each["name"] == name)
    return found


def curve(run: curate.Run) -> list[dict[str, Any]]:
    """What each optimizer step of the training saw."""
    return [json.loads(line) for line in (run.path / "adapter" / "curve.jsonl").read_text().splitlines()]


def test_the_steps_of_a_schedule_are_those_of_the_training(buckets: curate.Run) -> None:
    per_step = buckets.schedule.group_by("step").agg(pl.len()).sort("step").collect()["len"].to_list()
    assert len(curve(buckets)) == len(per_step) == stage(buckets, "mix.length_buckets")["notes"]["steps"]
    assert len(set(per_step)) > 1


def test_every_step_of_pieces_has_the_same_number_of_tokens(buckets: curate.Run) -> None:
    tokens = buckets.schedule.group_by("step").agg(pl.col("length").sum()).collect()["length"]
    assert tokens.unique().to_list() == [256]


def test_the_training_sees_the_tokens_of_the_pieces(buckets: curate.Run) -> None:
    steps = stage(buckets, "mix.length_buckets")["notes"]["steps"]
    assert stage(buckets, "train")["tokens"] == 256 * steps


def test_tokens_in_are_tokens_out_and_dropped(buckets: curate.Run) -> None:
    notes = stage(buckets, "mix.length_buckets")["notes"]
    selected = buckets.rows.select("position").join(buckets.selected.select("position"), on="position")
    tokenised = pl.scan_parquet(buckets.shards(stage(buckets, "tokenize"))).select("position", "tokens")
    assert notes["tokens"] == selected.join(tokenised, on="position").collect()["tokens"].sum()
    assert notes["tokens"] == notes["tokens_scheduled"] + sum(notes["tokens_dropped"].values())


def test_composed_examples_are_trained_on(mosaic: curate.Run) -> None:
    composed = pl.read_parquet(mosaic.path / "composed.parquet")
    notes = stage(mosaic, "mix.mosaic")["notes"]
    assert notes["composed"] == composed.height > 5
    rows = {position for inside in composed["members"] for position in inside}
    assert len(rows) == notes["rows_composed"]
    assert len(curve(mosaic)) == -(-notes["draws"] // 4)
    assert len(curve(mosaic)) < mosaic.selected.collect().height / 4


def test_only_the_answers_of_a_composed_example_are_targets(mosaic: curate.Run) -> None:
    from curate.model.load import load_tokenizer, resolve

    composed = pl.read_parquet(mosaic.path / "composed.parquet").row(0, named=True)
    tokenizer = load_tokenizer(resolve(mosaic.info["config"]["model"]["path"]))
    targets = np.array(composed["input_ids"])[np.array(composed["supervised"])]
    assert tokenizer.decode(targets) == json.loads(composed["messages"])[1]["content"] + "<|im_end|>"


@pytest.mark.parametrize("which", ["buckets", "mosaic"])
def test_baselines_train_on_as_many_tokens(which: str, request: pytest.FixtureRequest) -> None:
    run: curate.Run = request.getfixturevalue(which)
    tokens = {
        each["name"]: each["notes"]["supervised_tokens"]
        for each in run.stages
        if each["name"].startswith("train")
    }
    longest = max(pl.scan_parquet(run.shards(stage(run, "tokenize"))).collect()["supervised_tokens"])
    assert len(tokens) == 2
    assert max(tokens.values()) - min(tokens.values()) <= longest


def test_the_story_of_a_row_names_the_draw_of_its_example(mosaic: curate.Run) -> None:
    drawn = mosaic.schedule.filter(pl.col("composed") == 0).collect()["draw"].to_list()
    inside = pl.read_parquet(mosaic.path / "composed.parquet")["members"][0].to_list()
    rows = mosaic.selected.filter(pl.col("position").is_in(inside)).collect()
    assert rows.height == len(inside)
    for row in rows.iter_rows(named=True):
        assert list(mosaic.why(row["uid"]).schedule.draws) == drawn
        assert row["repeats"] == 1


def test_a_run_is_replayed(go: Callable[..., curate.Run], mosaic: curate.Run) -> None:
    """Also among rows that were held out before."""
    train = {"train": {**TRAIN["train"], "batch_rows": 4}}
    again = go({"mix": {"replay": {"schedule": str(mosaic.path)}}}, train)
    columns = ["draw", "uid", "phase", "composed"]
    assert again.schedule.select(columns).collect().equals(mosaic.schedule.select(columns).collect())
    assert [each["loss"] for each in curve(again)] == [each["loss"] for each in curve(mosaic)]
