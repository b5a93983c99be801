"""The baselines of an evaluation train on as many tokens as the selection, whatever its schedule."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import pool_of
from memory import Memory

from curate.methods import read_component
from curate.mixer import Mixer
from curate.mixers.equal import Equal
from curate.mixers.phases import Phase, Phases
from curate.mixers.temperature import Temperature
from curate.registry import Registry
from curate.settings import ModelSpec, Resources
from curate.stage import Inputs
from curate.stages.evaluate import Baseline, TuneBaseline
from curate.stages.mix import SCHEDULE, schedule_table
from curate.stages.models import ModelHandle
from curate.stages.train import TrainSelection, Tuning
from curate.training.packing import steps
from curate.training.spec import Train

ROWS = 400
MIXES: dict[str, Mixer | None] = {
    "none": None,
    "equal": Equal(),
    "temperature": Temperature(temperature=3, draws="90000 tokens"),
    "phases": Phases(
        phases=(Phase(fraction=0.5), Phase(fraction=0.5, weights={"chat": 1, "code": 8, "math": 1})),
        draws=900,
    ),
}


@pytest.fixture
def pool() -> pl.DataFrame:
    """400 rows of three sources, one of them small, of 1 to 1,500 supervised tokens."""
    rng = np.random.default_rng(0)
    tokens = np.ceil(rng.lognormal(4, 1, ROWS)).astype(np.int32)
    return pool_of(
        {
            "source": rng.choice(["chat", "code", "math"], ROWS, p=[0.6, 0.05, 0.35]),
            "supervised_tokens": tokens,
            "input_ids": [[0] * (1 + n) for n in tokens],
            "supervised": [[False] + [True] * n for n in tokens],
        }
    ).frame


def tune(
    pool: pl.DataFrame,
    baseline: Baseline | None,
    mixer: Mixer | None,
    fields: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float = 0.5,
) -> list[np.ndarray]:
    """The supervised tokens of each row of each optimizer step, of the selection or a baseline of it."""
    spec = read_component(Train, {"batch_rows": 8, **fields}, Registry())
    assert isinstance(spec, Train)
    selected = pool.sort("supervised_tokens", descending=True)[: round(share * pool.height)].sort("position")
    if mixer is not None:
        schedule = mixer.mix(pool_of(selected.to_dict(as_series=False)))
        schedule_table(schedule, selected).write_parquet(folder / SCHEDULE)
    found: list[np.ndarray] = []

    def run(
        tuning: Tuning, rows: Any, draws: Any, out: Any, work: Any, tell: Any, step_of: Any = None
    ) -> dict[str, Any]:
        lengths = np.array([row.supervised.sum() for row in rows])
        spec = tuning.spec
        order = steps(draws, spec.epochs, spec.batch_rows, spec.max_steps, step_of)
        found.extend(lengths[step] for step in order)
        return {}

    monkeypatch.setattr(Tuning, "run", run)
    living: Any = Memory(selected)
    whole: Any = Memory(pool)
    inputs = Inputs(living, {} if mixer is None else {"schedule": folder}, {"pool": whole})
    tuning = Tuning(spec, ModelHandle(ModelSpec(path="none")), 3)
    stage: Any = TrainSelection("train", 0, Resources(), tuning, mixer is not None)
    if baseline is not None:
        stage = TuneBaseline("baseline", 0, Resources(), baseline, tuning, mixer is not None)
    stage.write(inputs, folder, folder, lambda *how_far: None)
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_steps": 3},
        {"max_steps": 60, "epochs": 4},
        {"epochs": 0.3},
        {"epochs": 1.7},
        {"epochs": 3},
        {"steps_per_epoch": 20, "epochs": 1.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("baseline", ["random", "length_matched_random"])
def test_as_many_tokens_as_the_selection_to_within_a_row(
    pool: pl.DataFrame,
    baseline: Baseline,
    mix: str,
    fields: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    selection = np.concatenate(tune(pool, None, MIXES[mix], fields, tmp_path, monkeypatch))
    found = np.concatenate(tune(pool, baseline, MIXES[mix], fields, tmp_path, monkeypatch))
    assert abs(int(found.sum()) - int(selection.sum())) < found.max()
    if baseline == "length_matched_random":
        np.testing.assert_allclose(
            np.quantile(found, [0.1, 0.5, 0.9]), np.quantile(selection, [0.1, 0.5, 0.9]), rtol=0.2
        )
    drawn = pl.read_parquet(tmp_path / "rows.parquet")["position"]
    assert pool["supervised_tokens"].gather(drawn.to_numpy()).to_list() == found.tolist()


@pytest.mark.parametrize("baseline", ["random", "length_matched_random"])
def test_equal_steps_are_equal_in_number_and_tokens(
    pool: pl.DataFrame, baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"steps_per_epoch": 20, "epochs": 1.5}
    selection = [each.sum() for each in tune(pool, None, None, fields, tmp_path, monkeypatch)]
    found = [each.sum() for each in tune(pool, baseline, None, fields, tmp_path, monkeypatch)]
    assert len(found) == len(selection) == 30
    assert np.std(found) < np.mean(found) / 2


@pytest.mark.parametrize("baseline", ["random", "length_matched_random"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_baseline_of_a_schedule_without_repeats_repeats_no_row(
    pool: pl.DataFrame, baseline: Baseline, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(pool, baseline, None, {}, tmp_path, monkeypatch, share)
    drawn = pl.read_parquet(tmp_path / "rows.parquet")["position"]
    assert drawn.is_unique().all()
    assert share < 1 or len(drawn) == ROWS


@pytest.mark.parametrize("baseline", ["random", "length_matched_random"])
def test_a_baseline_goes_through_its_rows_as_often_as_the_selection(
    pool: pl.DataFrame, baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(pool, baseline, None, {"epochs": 3}, tmp_path, monkeypatch)
    drawn = pl.read_parquet(tmp_path / "rows.parquet")["position"].to_numpy()
    rows = len(np.unique(drawn))
    np.testing.assert_array_equal(drawn[:rows], drawn[rows : 2 * rows])
    assert abs(len(drawn) - 3 * rows) < 10


def test_the_rows_of_a_repeated_set_are_repeated(
    pool: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The selection draws each row of `code` 9 times or so; the baseline has as many rows, drawn as often."""
    mixer = Equal()
    selection = tune(pool, None, mixer, {}, tmp_path, monkeypatch)
    scheduled = pl.read_parquet(tmp_path / SCHEDULE)["position"]
    tune(pool, "length_matched_random", mixer, {}, tmp_path, monkeypatch)
    drawn = pl.read_parquet(tmp_path / "rows.parquet")["position"]
    assert len(drawn) == pytest.approx(sum(map(len, selection)), abs=3)
    assert drawn.n_unique() == pytest.approx(scheduled.n_unique(), rel=0.2)
    times = [series.value_counts()["count"].max() for series in (scheduled, drawn)]
    assert times[1] == pytest.approx(times[0], abs=2)
