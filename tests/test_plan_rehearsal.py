"""What a probe tries of pool stages, trainings and evaluations, and the arithmetic of it. No wall clock is judged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pools import configuration, write_pool

from curate.budget import Budget
from curate.config import read_config
from curate.forecast import Forecast, PlannedOutput
from curate.plan import plan
from curate.runners.local import Local
from curate.sampled import WEIGHT, SampledRows, enlarged, total, weights
from curate.settings import ModelSpec
from curate.stage import Inputs
from curate.stages.models import ModelHandle
from curate.stages.train import Tuning
from curate.timing import Probing, Timing, grown, told_timing
from curate.training.spec import Train

TRAIN = {"adapter": {"lora": {"r": 2}}, "epochs": 2, "batch_rows": 8}
STAGES = [
    {"score": ["loss"]},
    {"select": {"top": {"by": "loss", "budget": 40, "order": "highest"}}},
    {"train": TRAIN},
    {"evaluate": {"held_out": "10%"}},
]


@pytest.fixture(scope="module")
def forecast(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Forecast:
    folder = tmp_path_factory.mktemp("forecast")
    pool = write_pool(folder / "data")
    config = configuration(pool, STAGES, tiny_model, agreement_rows=4)
    found = plan(read_config(config).config, folder / "store", Probing())
    assert [path.name for path in folder.iterdir()] == ["data"]
    return found


def lines(forecast: Forecast) -> dict[str, PlannedOutput]:
    return {line.name: line for line in forecast.lines}


# ---- a whole plan


def test_every_stage_is_predicted(forecast: Forecast) -> None:
    assert forecast.unknown == []
    for line in forecast.lines:
        known = line.estimate
        assert known.source_of_estimate == "probed", line.name
        assert known.seconds is not None and known.seconds > 0, line.name
        assert known.peak_memory_bytes is not None and known.peak_memory_bytes > 2**20, line.name
        assert known.disk_bytes is not None and known.disk_bytes > 0, line.name


def test_rows_and_tokens_of_a_training(forecast: Forecast) -> None:
    train, score = lines(forecast)["train"].estimate, lines(forecast)["score.loss"].estimate
    assert train.expected_rows == 40
    assert train.tokens is not None and score.tokens is not None and score.expected_rows is not None
    mean = score.tokens / score.expected_rows
    assert train.tokens / (2 * 40) == pytest.approx(mean, rel=0.5)
    assert train.scratch_bytes is not None and train.scratch_bytes > 0


def test_baselines_are_predicted_from_the_training(forecast: Forecast) -> None:
    found = lines(forecast)
    train, random = found["train"].estimate, found["train.random"].estimate
    assert random.load_seconds == train.load_seconds
    assert random.tokens == pytest.approx(train.tokens, rel=0.5)
    assert random == found["train.length_matched_random"].estimate


def test_an_evaluation_reads_the_held_out_rows(forecast: Forecast) -> None:
    found = lines(forecast)
    before, selected = found["evaluate.before"].estimate, found["evaluate.selected"].estimate
    assert before.tokens == selected.tokens
    assert before.seconds == selected.seconds
    score = found["score.loss"].estimate
    assert before.tokens is not None and score.tokens is not None
    assert before.tokens / score.tokens == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize(
    ("fields", "times"),
    [
        ({"epochs": 2, "batch_rows": 3}, 2.0),
        ({"epochs": 0.5, "batch_rows": 3}, 0.5),
        ({"max_steps": 1, "batch_rows": 3}, 0.5),  # of 2 steps
        ({"max_steps": 9, "batch_rows": 3}, 1.0),
        ({"max_steps": 2, "steps_per_epoch": 8}, 0.25),
    ],
)
def test_tokens_of_a_training_count_weights_epochs_and_steps(fields: dict[str, Any], times: float) -> None:
    tuning = Tuning(Train(**fields), ModelHandle(ModelSpec(path="none")), 0)
    rows = sample(tokens=[10, 20], supervised_tokens=[1, 2])
    tokens, supervised = tuning.expected(Inputs(SampledRows.of(rows), {}, {}))
    assert (tokens, supervised) == pytest.approx((times * 100, times * 10))


def test_what_cannot_be_tried_says_so(tmp_path: Path, tiny_model: Path) -> None:
    pool = write_pool(tmp_path / "data")
    stages = [{"embed": {"model": "states"}}, {"cluster": {"kmeans": {"k": 500}}}]
    config = read_config(configuration(pool, stages, tiny_model)).config
    found = lines(plan(config, tmp_path / "store", Probing(limit_seconds=0.1)))["cluster.kmeans"].estimate
    assert found.seconds is None
    assert found.why_unknown is not None and found.why_unknown.startswith("failed on a sample: ")


class Slow(Local):
    """Takes 5 s to start, 2 s for a pool of workers, 1 s for a call, a tenth for another, on its own clock."""

    def __init__(self) -> None:
        self.now, self.begun, self.called = 0.0, False, False

    def __call__(self) -> float:
        return self.now

    def map(self, *given: Any) -> Iterator[dict[str, Any]]:
        self.now += 2.0 if self.begun else 7.0
        self.begun, self.called = True, False
        return super().map(*given)

    def call(self, *given: Any) -> dict[str, Any]:
        self.now += 0.1 if self.called else 1.0
        self.called = True
        return super().call(*given)


def test_what_a_runner_takes_is_counted_where_it_is_spent(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data")
    top = {"select": {"top": {"by": "length", "budget": 40, "order": "highest"}}}
    stages = [{"score": ["length"]}, top, {"select": {"random": {"budget": 4}}}]
    runner = Slow()
    config = read_config(configuration(pool, stages)).config
    found = lines(plan(config, tmp_path / "store", Probing(clock=runner, runner=runner)))
    seconds = {name: line.estimate.seconds for name, line in found.items()}
    assert seconds == pytest.approx(
        {"ingest": 7.0, "score.length": 2.0, "select.top": 1.0, "select.random": 0.1}
    )


# ---- the arithmetic


def test_tellings_become_load_and_a_rate() -> None:
    timing = told_timing([(10.0, 100), (12.0, 200), (14.0, 300)], 20.0, 5)
    assert timing is not None
    assert timing.seconds_for(300) == pytest.approx(20.0)
    assert timing.seconds_for(1300) == pytest.approx(20.0 + 1000 * 0.02)


@pytest.mark.parametrize("told", [[], [(1.0, 5)], [(1.0, 0), (2.0, 0)]])
def test_too_few_tellings_tell_no_rate(told: list[tuple[float, int]]) -> None:
    assert told_timing(told, 3.0, 1) is None


@pytest.mark.parametrize(
    ("seconds", "half", "growth"),
    [
        (4.0, 2.0, 1.0),
        (4.0, 1.0, 2.0),
        (4.0, 0.5, 2.0),
        (4.0, 3.9, 1.0),
        (0.04, 0.01, 1.0),
        (8.0, 8 / 2**1.5, 1.5),
    ],
)
def test_growth_is_between_linear_and_square(seconds: float, half: float, growth: float) -> None:
    assert grown(seconds, half) == pytest.approx(growth)


def test_seconds_grow_as_told_and_workers_share_all_but_the_loading() -> None:
    timing = Timing(3.0, 2.0, 100, 100, 0, growth=2.0)
    assert timing.seconds_for(300) == pytest.approx(3.0 + 2.0 * 9)
    assert timing.seconds_for(300, workers=4) == pytest.approx(3.0 + 2.0 * 9 / 4)


def test_memory_grows_by_what_the_rows_added() -> None:
    assert Timing(0.0, 1.0, 10, 10, 1000, added_bytes=100).peak_memory_for(50) == 1400


@pytest.mark.parametrize(
    ("budget", "scaled"), [("500", "5"), ("2k tokens", "20 tokens"), ("10%", "10%"), ("3", "1")]
)
def test_budgets_shrink_in_proportion(budget: str, scaled: str) -> None:
    assert Budget.parse(budget).scaled(0.01) == Budget.parse(scaled)


# ---- sampled rows


def sample(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"position": [3, 7], "uid": ["aa", "bb"], WEIGHT: [2.0, 4.0], **columns})


def test_a_sample_is_read_like_a_pool() -> None:
    reader = SampledRows.of(sample(tokens=[5, 6]))
    assert reader.frame(["tokens"]).rows() == [(3, 5), (7, 6)]
    assert reader.take(["tokens"], np.array([1, 0, 1]))["tokens"].to_list() == [6, 5, 6]
    assert len(reader) == 2
    assert weights(reader).tolist() == [2.0, 4.0]


def test_repeated_rows_stand_for_as_many() -> None:
    embedding = pl.Series("embedding", [[1.0, 0.0], None], dtype=pl.Array(pl.Float32, 2))
    made = enlarged(sample(embedding=embedding), 5, np.random.default_rng(0))
    assert made.height == 5
    assert total(made) == pytest.approx(6.0)
    assert made["uid"].n_unique() == 5
    assert made["position"].to_list() == [0, 1, 2, 3, 4]
    assert np.allclose(np.linalg.norm(made["embedding"].to_numpy(), axis=1), 1.0, atol=1e-6)


def test_enough_rows_are_left_alone() -> None:
    rows = sample()
    assert enlarged(rows, 2, np.random.default_rng(0)).equals(rows)
