"""Data ablation by merging as a whole: two sources that the target is like, and one of noise."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toys
from pools import outputs, write_jsonl

import curate
from curate.config import load_config, read_config
from curate.errors import ConfigError, DataError
from curate.pipeline import build, expanded
from curate.stages.mixture_search import SearchMixtures, TunePartitions
from curate.stages.train import Tuning
from curate.training import merging

ROOT = Path(__file__).parent.parent
WORDS = {"birds": ["robin", "heron", "swallow"], "tools": ["hammer", "chisel", "wrench"]}
SIZES = {"birds": 20, "noise": 20, "tools": 16}
TRAIN = {"adapter": {"lora": {"r": 4}}, "epochs": 6, "batch_rows": 8, "learning_rate": 0.01}


def rows(kind: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(f"{kind} {seed}")

    def text() -> str:
        if kind == "noise":
            return "".join(chr(draw.randint(161, 255)) for _ in range(18))
        return " ".join(draw.choice(WORDS[kind]) for _ in range(6))

    return [{"prompt": f"{kind} {seed} {number}", "completion": text()} for number in range(count)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture_search")
    for kind, count in SIZES.items():
        write_jsonl(folder / f"{kind}.jsonl", rows(kind, count))
    write_jsonl(folder / "dev.jsonl", [*rows("birds", 6, 1), *rows("tools", 6, 1)])
    toys.tiny_llama(folder / "model")
    return folder


def configuration(home: Path, search: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "search",
        "model": {"path": str(home / "model"), "dtype": "float32"},
        "sources": [{"name": kind, "path": str(home / f"{kind}.jsonl")} for kind in SIZES],
        "target": {"path": str(home / "dev.jsonl")},
        "pipeline": {"mixture_search": {"search": {"modular": {"on": "target", "train": TRAIN, **search}}}},
        "stages": [{"score": ["length"]}],
        **more,
    }


def go(home: Path, config: dict[str, Any], runs: Path | None = None) -> curate.Run:
    return curate.run(config, runs=runs or home / "runs", runner="local")


def notes(run: curate.Run, name: str) -> dict[str, Any]:
    (found,) = [stage["notes"] for stage in run.stages if stage["name"] == name]
    return dict(found)


def found_by(run: curate.Run) -> dict[str, Any]:
    return dict(json.loads((run.path / "mixture_search" / "search.json").read_bytes()))


@pytest.fixture(scope="module")
def run(home: Path) -> curate.Run:
    return go(home, configuration(home, {}))


def test_the_mixture_without_noise_is_the_best(run: curate.Run) -> None:
    ranking = found_by(run)["candidates"]
    assert ranking[0]["weights"] == {"birds": 0.5, "noise": 0.0, "tools": 0.5}
    assert ranking[-1]["weights"] == {"birds": 0.0, "noise": 1.0, "tools": 0.0}


def test_all_sets_are_ranked_by_loss(run: curate.Run) -> None:
    ranking = found_by(run)["candidates"]
    losses = [each["source_mean"] for each in ranking]
    assert len(ranking) == 7
    assert losses == sorted(losses)
    assert losses[0] < found_by(run)["before"]["source_mean"]


def test_the_best_is_drawn(run: curate.Run) -> None:
    drawn = run.selected.group_by("source").agg(pl.col("repeats").sum()).collect()
    assert dict(drawn.iter_rows()) == {"birds": 28, "noise": 0, "tools": 28}


def test_the_ranking_is_told_with_the_schedule(run: curate.Run) -> None:
    told = notes(run, "mix.modular")
    assert told["mixture"] == {"birds": 0.5, "noise": 0.0, "tools": 0.5}
    assert told["ranking"] == found_by(run)["candidates"]


def test_the_table_says_the_same(run: curate.Run) -> None:
    table = pl.read_parquet(run.path / "mixture_search" / "candidates.parquet")
    ranking = found_by(run)["candidates"]
    assert table["rank"].to_list() == list(range(1, 8))
    assert table["mean_loss"].to_list() == [each["source_mean"] for each in ranking]
    assert table["weight.noise"].to_list() == [each["weights"]["noise"] for each in ranking]
    assert table["loss.target"].to_list() == [each["sources"]["target"] for each in ranking]


def test_three_models_are_trained_on_equal_rows_for_seven_candidates(run: curate.Run) -> None:
    told = notes(run, "mix.partitions")
    assert told["trainings"] == 3
    assert [each["rows"] for each in told["partitions"].values()] == [6 * min(SIZES.values())] * 3
    assert notes(run, "mix.search")["candidates"] == 7


def test_the_second_run_computes_nothing(home: Path, run: curate.Run) -> None:
    again = go(home, configuration(home, {}))
    assert all(stage["cached"] for stage in again.stages)


def test_other_candidates_train_nothing_again(home: Path, run: curate.Run) -> None:
    given = [{"birds": 3, "tools": 1}, {"noise": 1}]
    again = go(home, configuration(home, {"candidates": given, "draws": 40}))
    cached = {stage["name"]: stage["cached"] for stage in again.stages}
    assert cached["mix.partitions"]
    assert not cached["mix.search"]
    drawn = again.selected.group_by("source").agg(pl.col("repeats").sum()).collect()
    assert dict(drawn.iter_rows()) == {"birds": 30, "noise": 0, "tools": 10}


def test_a_candidate_is_measured_the_same_whatever_stands_beside_it(home: Path, run: curate.Run) -> None:
    again = go(home, configuration(home, {"candidates": [{"birds": 1, "tools": 1}]}))
    assert found_by(again)["candidates"] == found_by(run)["candidates"][:1]


def test_held_out_rows_rank_per_source_without_the_target(home: Path) -> None:
    stages = [{"train": {**TRAIN, "max_steps": 1}}, {"evaluate": {"held_out": "20%", "baselines": []}}]
    short = {"on": "held_out", "candidates": ["leave_one_out"], "train": None}
    run = go(home, configuration(home, short, stages=stages))
    found = found_by(run)
    assert found["rows"] == 4 + 4 + 3
    assert all(list(each["sources"]) == ["birds", "noise", "tools"] for each in found["candidates"])
    assert "target" in run.evaluation["losses"]["selected"]


def test_a_budget_of_tokens_is_the_same_for_each(home: Path) -> None:
    short = {"budget": "180 tokens", "candidates": [{"birds": 1}], "train": {**TRAIN, "epochs": 1}}
    run = go(home, configuration(home, short))
    told = notes(run, "mix.partitions")["partitions"]
    assert all(abs(each["supervised_tokens"] - 180) <= 30 for each in told.values())


def test_a_budget_that_a_partition_does_not_have_is_refused(home: Path) -> None:
    with pytest.raises(DataError, match=r"18 rows are asked for. Found tools 16\."):
        go(home, configuration(home, {"budget": 18}))


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"max_candidates": 6}, "at most 6 .* Got 7 for 3 partitions"),
        ({"candidates": [{"birds": 1, "poems": 1}]}, "Got poems"),
    ],
    ids=str,
)
def test_what_cannot_be_searched_is_not_trained_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, search: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr(Tuning, "run", lambda *_: pytest.fail("trained"))
    fields = {**search, "train": {**TRAIN, "epochs": 2}}
    with pytest.raises(ConfigError, match=told):
        go(home, configuration(home, fields))


def test_a_finished_partition_is_not_trained_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: curate.Run
) -> None:
    config, train, begun = configuration(home, {}), Tuning.run, []

    def counted(tuning: Tuning, *arguments: Any) -> dict[str, Any]:
        begun.append(1)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(tuning, *arguments)

    monkeypatch.setattr(Tuning, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        go(home, config, tmp_path)
    again = go(home, config, tmp_path)
    assert len(begun) == 2 + 2
    assert outputs(again.path) == outputs(run.path)


def test_a_measured_candidate_is_not_measured_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: curate.Run
) -> None:
    config, merge, tried = configuration(home, {}), merging.merge, []

    def counted(folders: Any, weights: list[float], out: Path) -> None:
        tried.append(tuple(weights))
        if len(tried) == 5:
            raise KeyboardInterrupt
        merge(folders, weights, out)

    monkeypatch.setattr(merging, "merge", counted)
    with pytest.raises(KeyboardInterrupt):
        go(home, config, tmp_path)
    again = go(home, config, tmp_path)
    assert len(tried) == 7 + 1
    assert tried[4] == tried[5]
    assert found_by(again) == found_by(run)


@pytest.mark.slow
def test_killed_inside_each_partition_it_ends_with_the_same_bytes(
    home: Path, tmp_path: Path, run: curate.Run
) -> None:
    train = {**TRAIN, "checkpoint_every_steps": 4}
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(configuration(home, {"train": train})))
    runs = tmp_path / "runs"
    command = [sys.executable, str(ROOT / "tests" / "killed.py"), "mix.partitions", str(config), str(runs)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = []
    for _ in range(4):
        died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert died.returncode == -signal.SIGKILL, died.stderr
        work = next(runs.glob("store/.work-mix.partitions-*"))
        done.append(len(list(work.glob("finished/*/notes.json"))))
        left = list(work.glob("training/*/checkpoints/checkpoint-*/complete.json"))
        assert len(left) >= 1
    assert done[0] < done[-1]
    whole = go(home, configuration(home, {"train": train}))
    assert found_by(go(home, load_config(config).config.model_dump(mode="json"), runs)) == found_by(whole)


def built(search: Any, stages: list[Any], **more: Any) -> list[str]:
    config = {"name": "c", "model": "none", "sources": [{"name": "a", "path": "a.jsonl"}], "stages": stages}
    shape = {"pipeline": search} if search else {}
    return [stage.label for stage in build(read_config({**config, **shape, **more}).config)]


def test_the_stages_stand_before_the_mix() -> None:
    labels = built("mixture_search", [{"score": ["length"]}, {"train": {}}, {"evaluate": {"baselines": []}}])
    at = labels.index("mix.partitions")
    assert labels[at : at + 4] == ["mix.partitions", "mix.search", "mix.modular", "train"]


def test_the_mixer_needs_no_shape_of_its_own() -> None:
    stages = [{"mix": {"modular": {"on": "target"}}}, {"train": {}}]
    assert built(None, stages, target="t.jsonl") == built("mixture_search", stages, target="t.jsonl")


def test_the_partitions_are_tuned_as_the_list_trains_but_keep_no_checkpoints() -> None:
    stages: list[Any] = [{"train": {"epochs": 2, "save_at": [0.5]}}, {"evaluate": {"baselines": []}}]
    config = {"name": "c", "model": "none", "sources": [{"name": "a", "path": "a.jsonl"}], "stages": stages}
    found = build(read_config({**config, "pipeline": "mixture_search"}).config)
    (tuned,) = [stage for stage in found if isinstance(stage, TunePartitions)]
    assert tuned.tuning.spec.epochs == 2
    assert tuned.tuning.spec.save_at == ()
    assert any(isinstance(stage, SearchMixtures) for stage in found)


def test_without_a_train_stage_the_search_stands_at_the_end() -> None:
    config = {
        "name": "c",
        "model": "none",
        "target": "t.jsonl",
        "sources": [{"name": "a", "path": "a.jsonl"}],
        "stages": [{"score": ["length"]}],
        "pipeline": {"mixture_search": {"search": {"modular": {"on": "target", "train": {}}}}},
    }
    assert [entry.kind for entry in expanded(read_config(config).config).stages] == ["score", "mix"]


TUNED: list[Any] = [{"train": {}}, {"evaluate": {"baselines": []}}]
DORA: list[Any] = [{"train": {"adapter": {"lora": {"use_dora": True}}}}, TUNED[1]]


@pytest.mark.parametrize(
    ("shape", "stages", "more", "told"),
    [
        ("mixture_search", [{"train": {}}], {}, "Add an `evaluate` stage, or write `on: target`"),
        ({"mixture_search": {"search": {"modular": {"on": "target"}}}}, TUNED, {}, "Add `target:`"),
        ("mixture_search", TUNED, {"model": None}, "Add `model:`"),
        ("mixture_search", [{"score": ["length"]}], {}, "Give it `train`, or add a `train` stage"),
        ("mixture_search", DORA, {}, "Train without `use_dora`"),
        ("mixture_search", [{"mix": "equal"}, *TUNED], {}, "Got `mix: equal`; remove it"),
        (
            {"mixture_search": {"search": "modular"}},
            [{"mix": "modular"}, *TUNED],
            {},
            "Remove one of them",
        ),
        ({"mixture_search": {"search": "equal"}}, TUNED, {}, "search must be the mixer modular. Got equal"),
    ],
    ids=str,
)
def test_what_is_missing_or_contradicts_is_said_by_check(
    shape: Any, stages: list[Any], more: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        built(shape, stages, **more)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"budget": "10%"}, "budget must be rows"),
        ({"budget": "900 characters"}, "budget must be rows"),
        ({"candidates": [{"a": 0}]}, "weight above 0"),
        ({"candidates": []}, "candidates"),
        ({"candidates": ["pairs"]}, "candidates"),
    ],
    ids=str,
)
def test_what_the_mixer_cannot_take_is_said_by_check(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        built(None, [{"mix": {"modular": fields}}, *TUNED])
