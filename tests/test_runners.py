"""Local and Ray, one worker and two, any batch size and any shard size: the same selection."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from pools import WHOLE, configuration, outputs, write_pool

import curate
from curate import tasks
from curate.config import read_config
from curate.errors import DataError
from curate.model import signals
from curate.progress import Silent
from curate.runners import ray as ray_runner
from curate.settings import Resources
from curate.start import start

SCORED = WHOLE[:8]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("pool") / "data", 300)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, pool: Path, tiny_model: Path) -> curate.Run:
    runs = tmp_path_factory.mktemp("reference")
    return curate.run(configuration(pool, SCORED, tiny_model), runs=runs, runner="local")


def with_resources(stages: list[Any], **resources: Any) -> list[Any]:
    return [{**stage, "resources": resources} for stage in stages]


def assert_same(run: curate.Run, reference: curate.Run) -> None:
    keys = ["position", "uid", "rank", "repeats"]
    assert_frame_equal(run.selected.select(keys).collect(), reference.selected.select(keys).collect())
    assert_frame_equal(run.scores.collect(), reference.scores.collect(), rel_tol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_gives_what_local_gives(
    tmp_path: Path, pool: Path, tiny_model: Path, reference: curate.Run, workers: int
) -> None:
    stages = with_resources(SCORED, workers=workers, cpus=1)
    run = curate.run(configuration(pool, stages, tiny_model), runs=tmp_path, runner="ray")
    assert not all(stage["cached"] for stage in run.stages)
    assert_same(run, reference)


def test_ray_computes_nothing_that_local_has_stored(reference: curate.Run) -> None:
    config = json.loads(json.dumps(reference.info["config"]))
    before = outputs(reference.path)
    run = curate.run(config, runs=reference.path.parent, runner="ray")
    assert all(stage["cached"] for stage in run.stages)
    assert "not started" in run.info["runner"]
    assert outputs(run.path) == before


def test_the_batch_size_does_not_matter(
    tmp_path: Path, pool: Path, tiny_model: Path, reference: curate.Run
) -> None:
    stages = with_resources(SCORED, batch_tokens=64)
    run = curate.run(configuration(pool, stages, tiny_model), runs=tmp_path, runner="local")
    assert_same(run, reference)


@pytest.mark.parametrize("rows", [32, 128])
def test_the_size_of_shards_does_not_matter(
    tmp_path: Path,
    pool: Path,
    tiny_model: Path,
    reference: curate.Run,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "MAX_SHARD_ROWS", rows)
    monkeypatch.setattr("curate.engine.shard_rows", lambda total, minimum: rows)
    run = curate.run(configuration(pool, SCORED, tiny_model), runs=tmp_path, runner="local")
    loss = next(stage for stage in run.stages if stage["name"] == "score.loss")
    assert len(run.shards(loss)) > 2
    assert_same(run, reference)


def write_scorer(folder: Path, name: str, body: str) -> Path:
    """A plug-in folder with one text scorer, whose `score` does `body`."""
    (folder / "scorers").mkdir(parents=True)
    (folder / "scorers" / f"{name}.py").write_text(
        "import os\nimport numpy as np\nimport polars as pl\nfrom curate.errors import DataError\n"
        f"from curate.scorer import TextScorer\n\n\nclass {name.title()}(TextScorer):\n"
        f"    higher_is_better = None\n\n    def score(self, rows: pl.DataFrame) -> np.ndarray:\n        {body}\n"
    )
    return folder


@pytest.mark.slow
def test_an_error_in_a_ray_worker_reads_as_it_would_here(tmp_path: Path, pool: Path) -> None:
    body = "raise DataError('row 7 is not to my taste. Remove it.')"
    methods = write_scorer(tmp_path / "methods", "failing", body)
    config = configuration(pool, [{"score": ["failing"]}], plugins=[str(methods)])
    with pytest.raises(DataError, match="^row 7 is not to my taste. Remove it.$"):
        curate.run(config, runs=tmp_path / "runs", runner="ray")
    assert pl.read_json(next((tmp_path / "runs").glob("*/run.json"))).height


class Notes(Silent):
    """Keeps what the user would be told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_a_batch_that_memory_cannot_hold_is_halved_and_said(
    tmp_path: Path, pool: Path, tiny_model: Path, reference: curate.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = signals.forward

    def small(model: Any, batch: Any, asked: Any) -> Any:
        if len(batch.lengths) > 4:
            raise torch.OutOfMemoryError("no room")
        return forward(model, batch, asked)

    monkeypatch.setattr(signals, "forward", small)
    notes = Notes()
    config = configuration(pool, SCORED, tiny_model)
    run = start(read_config(config).config, tmp_path, "local", notes)
    assert any("out of memory with a batch of" in text for text in notes.texts)
    assert_same(run, reference)


@pytest.mark.slow
def test_a_worker_that_dies_again_and_again_stops_the_run(tmp_path: Path, pool: Path) -> None:
    methods = write_scorer(tmp_path / "methods", "deadly", "os._exit(9)")
    config = configuration(pool, [{"score": ["deadly"]}], plugins=[str(methods)])
    with pytest.raises(curate.CurateError, match="^Ray lost a worker 3 times at the same shard"):
        curate.run(config, runs=tmp_path / "runs", runner="ray")


@pytest.mark.parametrize(
    ("nodes", "resources", "units", "expected"),
    [
        ([{"CPU": 2.0}], {}, 9, (2.0, 0.0, 1)),
        ([{"CPU": 64.0}], {}, 9, (16.0, 0.0, 4)),
        ([{"CPU": 8.0, "GPU": 2.0}], {}, 9, (1.0, 1.0, 2)),
        ([{"CPU": 8.0, "GPU": 2.0}], {"workers": 1}, 9, (1.0, 1.0, 1)),
        ([{"CPU": 32.0}, {"CPU": 8.0, "GPU": 1.0}], {}, 1, (8.0, 1.0, 1)),
        ([{"CPU": 32.0}, {"CPU": 8.0, "GPU": 1.0}], {"gpus": 0.0, "cpus": 4.0}, 99, (4.0, 0.0, 10)),
    ],
)
def test_a_worker_with_a_model_fits_on_a_node(
    nodes: list[dict[str, float]],
    resources: dict[str, float],
    units: int,
    expected: tuple[float, float, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_runner, "_nodes", lambda: nodes)
    assert ray_runner.Ray()._share(Resources(**resources), True, units) == expected


def test_a_worker_that_fits_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_runner, "_nodes", lambda: [{"CPU": 4.0}, {"CPU": 4.0}])
    with pytest.raises(
        curate.CurateError, match="8 CPUs and 0 GPUs on one node; .* 4 CPUs and 0 GPUs; 4 CPUs"
    ):
        ray_runner.Ray()._share(Resources(cpus=8), False, 3)
