"""A whole run with a schedule that repeats rows, cut by `max_steps`, and with target examples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from pools import configuration, write_jsonl, write_pool
from rich.console import Console

import curate
from curate.commands import print_losses

STAGES = [
    {"score": ["length"]},
    {"select": {"top": {"by": "length", "budget": 30, "order": "highest"}}},
    {"mix": {"equal": {"draws": 90}}},
    {"train": {"adapter": {"lora": {"r": 2}}, "epochs": 2, "max_steps": 5, "batch_rows": 8}},
    {"evaluate": {"held_out": "10%"}},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> curate.Run:
    folder = tmp_path_factory.mktemp("target")
    pool = write_pool(folder / "data")
    write_jsonl(pool / "dev.jsonl", toys.toy_rows(12, seed=9))
    config = configuration(pool, STAGES, tiny_model, target={"path": str(pool / "dev.jsonl")})
    return curate.run(config, runs=folder / "runs", runner="local")


def test_the_baselines_train_on_as_many_tokens(run: curate.Run) -> None:
    notes = {stage["name"]: stage["notes"] for stage in run.stages if stage["name"].startswith("train")}
    assert notes["train"]["rows"] == 40
    tokens = [each["supervised_tokens"] for each in notes.values()]
    assert len(tokens) == 3
    assert max(tokens) - min(tokens) < max(run.selected.collect()["supervised_tokens"])


def test_the_target_is_reported_apart(run: curate.Run) -> None:
    for model in run.evaluation["losses"].values():
        assert list(model["sources"]) == ["chat", "pairs"]
        assert model["source_mean"] == np.mean([each["loss"] for each in model["sources"].values()])
        assert model["rows"] == run.evaluation["held_out_rows"] == 20
        assert model["target"]["rows"] == 12
        assert model["target"]["loss"] > 0


def test_the_target_is_printed_below_the_mean(run: curate.Run) -> None:
    console = Console(width=120)
    with console.capture() as printed:
        print_losses(run, console)
    lines = printed.get().splitlines()
    targets = [f"{model['target']['loss']:.4f}" for model in run.evaluation["losses"].values()]
    assert lines[-2].split()[:3] == ["mean", "over", "sources"]
    assert lines[-1].split() == ["target", *targets]


def test_a_source_of_that_name_is_an_ordinary_one(run: curate.Run, tmp_path: Path, tiny_model: Path) -> None:
    config: Any = json.loads(json.dumps(run.info["config"])) | {"target": None}
    config["sources"][0]["name"] = "target"
    config["stages"][-1] = {"evaluate": {"held_out": "10%", "baselines": []}}
    other = curate.run(config, runs=tmp_path, runner="local")
    for model in other.evaluation["losses"].values():
        assert list(model["sources"]) == ["pairs", "target"]
        assert "target" not in model
