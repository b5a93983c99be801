"""Scorers of every kind in one run: references, families, scores of the pool, agreement, health."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toys
from pools import configuration, write_jsonl, write_pool

import curate
from curate.errors import ConfigError

SMALL = {"active": 4, "expansion": 2, "steps": 5, "training_tokens": 500}
SCORERS: list[Any] = [
    *("loss", "bits_per_char", "margin", "entropy", "el2n", "grand", "head_influence", "rds", "fit"),
    {"hard_learnable": {"top_k": 100}},
    {"trim": {"attention_layers": 2}},
    {"mona": SMALL},
    "target_similarity",
    {"source_similarity": {"by": "cluster"}},
    {"combine": {"by": {"head_influence": {}, "loss": {"order": "lowest"}}}},
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("target") / "target.jsonl"
    write_jsonl(path, toys.toy_records(6, seed=99)["prompt_completion"])
    return path


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.tiny_llama(tmp_path_factory.mktemp("second"), seed=5)


def everything(second: Path) -> list[Any]:
    family = [
        {"hard_loss_delta": {"reference": str(second)}},
        {"confidence": {"checkpoints": [str(second), str(second)]}},
    ]
    stages: list[Any] = [
        {"embed": {"model": "states"}},
        {"cluster": {"kmeans": {"k": 4}}},
        {"score": [*SCORERS, *family]},
        {"select": {"top": {"by": "combine", "budget": 20}}},
    ]
    return stages


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, target: Path, second: Path) -> curate.Run:
    folder = tmp_path_factory.mktemp("scores")
    pool = write_pool(folder / "data", rows=80)
    config = configuration(pool, everything(second), tiny_model, target=str(target))
    return curate.run(config, runs=folder / "runs", runner="local")


def test_every_scorer_has_a_column_of_numbers(run: curate.Run) -> None:
    scores = run.scores.collect()
    names = [next(iter(each)) if isinstance(each, dict) else each for each in SCORERS]
    for name in [*names, "hard_loss_delta", "confidence"]:
        column = scores[f"score.{name}"]
        assert column.dtype == pl.Float64, name
        assert column.is_finite().mean() > 0.9, name


def test_rows_of_the_target_are_not_in_the_pool(run: curate.Run) -> None:
    assert "target" not in run.scores.collect()["source"].to_list()


def test_the_delta_of_two_models_is_the_difference_of_their_losses(run: curate.Run) -> None:
    scores = run.scores.collect()
    own = scores["score.hard_loss_delta.model_0"]
    np.testing.assert_allclose(own, scores["score.loss"], rtol=1e-6)
    delta = own - scores["score.hard_loss_delta.model_1"]
    np.testing.assert_allclose(scores["score.hard_loss_delta"], delta, rtol=1e-6)


def test_every_cluster_has_one_source_similarity(run: curate.Run) -> None:
    scores = run.scores.collect()
    assert (
        scores.group_by("cluster")
        .agg(pl.col("score.source_similarity").n_unique())["score.source_similarity"]
        .to_list()
        == [1] * scores["cluster"].n_unique()
    )


def test_the_autoencoder_is_left_for_users(run: curate.Run) -> None:
    assert (run.path / "references" / "mona" / "autoencoder" / "sae_weights.safetensors").is_file()


def test_a_trained_autoencoder_can_be_given(
    run: curate.Run, tiny_model: Path, target: Path, tmp_path: Path
) -> None:
    folder = str(run.path / "references" / "mona" / "autoencoder")
    pool = Path(run.info["config"]["sources"][0]["path"]).parent
    stages = [{"score": [{"mona": {**SMALL, "autoencoder": folder}}]}]
    again = curate.run(
        configuration(pool, stages, tiny_model, target=str(target)), runs=tmp_path, runner="local"
    )
    given, trained = again.scores.collect(), run.scores.collect()
    np.testing.assert_allclose(given["score.mona"], trained["score.mona"], rtol=1e-5)


def test_the_agreement_of_precisions_is_in_the_health_report(run: curate.Run) -> None:
    scores = run.health["scores"]
    assert scores["score.loss"]["agreement"] > 0.9
    assert scores["score.rds"]["agreement"] is None


def test_the_stage_says_how_rows_were_laid_out_and_how_fast(run: curate.Run) -> None:
    (notes,) = (stage["notes"] for stage in run.stages if stage["name"] == "score.loss")
    assert notes["layout"] == "padded, rows of like length together"
    assert notes["matrix_peak_fraction"] > 0
    assert 0 <= notes["padding_fraction"] < 1


def test_a_second_run_computes_nothing(run: curate.Run, tiny_model: Path, target: Path, second: Path) -> None:
    pool = Path(run.info["config"]["sources"][0]["path"]).parent
    again = curate.run(
        configuration(pool, everything(second), tiny_model, target=str(target)),
        runs=run.path.parent,
        runner="local",
    )
    assert all(stage["cached"] for stage in again.stages)


@pytest.mark.parametrize("scorer", ["head_influence", "rds", "target_similarity"])
def test_a_scorer_of_a_target_needs_one(scorer: str, tiny_model: Path, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data", rows=16)
    stages: list[Any] = [{"embed": {"model": "states"}}, {"score": [scorer]}]
    with pytest.raises(ConfigError, match=f"`{scorer}` compares rows with a target, and there is none"):
        curate.run(configuration(pool, stages, tiny_model), runs=tmp_path / "runs", runner="local")


def test_a_combined_score_needs_a_direction(tiny_model: Path, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data", rows=16)
    stages: list[Any] = [{"score": ["loss", {"combine": {"by": {"loss": {}}}}]}]
    with pytest.raises(ConfigError, match="`loss` does not state whether high or low is better"):
        curate.run(configuration(pool, stages, tiny_model), runs=tmp_path / "runs", runner="local")


def test_similarity_needs_embeddings(tiny_model: Path, target: Path, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data", rows=16)
    config = configuration(pool, [{"score": ["target_similarity"]}], tiny_model, target=str(target))
    with pytest.raises(ConfigError, match="an `embed` stage before it"):
        curate.run(config, runs=tmp_path / "runs", runner="local")


def test_preference_pairs_have_a_ches(tiny_model: Path, tmp_path: Path) -> None:
    chosen = toys.toy_rows(12, seed=1)
    for row, other in zip(chosen, toys.toy_rows(12, seed=2), strict=True):
        answer = {"role": "assistant", "content": other["messages"][-1]["content"]}
        row["chosen"], row["rejected"] = row["messages"], [*row["messages"][:-1], answer]
        del row["messages"]
    write_jsonl(tmp_path / "chat.jsonl", chosen)
    config = configuration(tmp_path, [{"score": ["ches"]}], tiny_model)
    config["sources"] = config["sources"][:1]
    run = curate.run(config, runs=tmp_path / "runs", runner="local")
    assert run.scores.collect()["score.ches"].null_count() == 0


def test_rows_without_a_rejected_answer_stop_ches(tiny_model: Path, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data", rows=16)
    with pytest.raises(curate.DataError, match=r"`score.ches`|score.ches is null"):
        curate.run(configuration(pool, [{"score": ["ches"]}], tiny_model), runs=tmp_path, runner="local")


def test_the_same_scores_by_an_adapter_merged_in(tiny_model: Path, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data", rows=40)
    tune = {"train": {"adapter": {"lora": {"r": 2}}, "epochs": 1, "batch_rows": 8, "learning_rate": 0.1}}
    trained = curate.run(configuration(pool, [tune], tiny_model), runs=tmp_path / "runs", runner="local")
    tuned = {"path": str(tiny_model), "adapter": str(trained.path / "adapter"), "dtype": "float32"}
    stages = [{"score": ["loss", {"hard_loss_delta": {"reference": tuned}}]}]
    run = curate.run(configuration(pool, stages, tiny_model), runs=tmp_path / "runs", runner="local")
    assert run.scores.collect()["score.hard_loss_delta"].abs().max() > 1e-3
    identity = json.loads((run.path / "run.json").read_text())
    assert identity["status"] == "done"
