"""Probe and plan: what is sampled, what is counted, and the arithmetic of seconds. No wall clock is judged."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toys
from pools import configuration as configured
from pools import write_jsonl, write_pool
from typer.testing import CliRunner

import curate
from curate.cli import app
from curate.config import read_config
from curate.data.ingest import read_shard
from curate.data.sample import rows_at
from curate.data.sources import open_source
from curate.drawing import positions_of
from curate.engine import plan as plan_stage
from curate.forecast import Forecast, PlannedOutput, duration
from curate.plan import plan
from curate.probe import Probe
from curate.settings import Resources, SourceSpec
from curate.stage import Artifacts, RowStage
from curate.store import Manifest
from curate.timing import Probing, spread, time_stage
from curate.view import Located, View
from curate.workload import Step, record_counts

SCORES = [{"score": ["loss", "el2n"]}]


def configuration(pool: Path, stages: list[Any], model: Path, **more: Any) -> dict[str, Any]:
    """As `pools.configuration`, without the stage that scores some rows twice."""
    return configured(pool, stages, model, agreement_rows=0, **more)


class Clock:
    """Stands still but for what is added."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Slow(RowStage):
    """Takes 3 s to set up, and so many seconds a call and a token on its clock. Counts the rows of each call."""

    clock: Clock
    per_call: float = 0.0
    per_token: float = 0.01
    wants: frozenset[str] = frozenset({"tokens"})
    calls: list[int] = field(default_factory=list)

    @property
    def uses_model(self) -> bool:
        return True

    @property
    def needs(self) -> frozenset[str]:
        return self.wants

    @property
    def adds(self) -> frozenset[str]:
        return frozenset({"score.slow"})

    def identity(self) -> dict[str, Any]:
        return {"slow": 1}

    def setup(self, artifacts: Artifacts) -> None:
        self.clock.now += 3.0

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        self.calls.append(rows.height)
        tokens = int(rows["tokens"].sum()) if "tokens" in rows.columns else rows.height
        self.clock.now += self.per_call + self.per_token * tokens
        return pl.DataFrame({"score.slow": np.zeros(rows.height)})


def slow(**fields: Any) -> Slow:
    return Slow("slow", None, Resources(), Clock(), **fields)


def timed(stage: Slow, lengths: list[int], most: int = 4096, limit: float = 25.0) -> Any:
    rows = pl.DataFrame({"position": range(len(lengths)), "tokens": sorted(lengths)})
    rows = rows.select("position", *sorted(stage.needs))
    generator = np.random.default_rng(0)
    return time_stage(stage, rows, frozenset({"slow"}), {}, most, generator, limit, stage.clock)[0]


def lines_of(config: dict[str, Any], store: Path, probing: Probing | None = None) -> dict[str, PlannedOutput]:
    return {line.name: line for line in plan(read_config(config).config, store, probing).lines}


def probe_of(config: dict[str, Any], store: Path, rows: int = 2000) -> Probe:
    from curate.engine import after
    from curate.pipeline import build

    loaded = read_config(config).config
    steps: list[Step] = []
    view = View()
    for stage in build(loaded):
        steps.append(Step(plan_stage(store, stage, view), view))
        view = after(steps[-1].planned, view)
    return Probe(steps, record_counts(steps[0]), loaded.seed, Probing(rows=rows), store.parent / "tried")


def skewed(folder: Path, model: Path, **tokens: Any) -> dict[str, Any]:
    """3,000 short rows in one file; 150 that are 30 times as long in another."""
    generator = random.Random(0)
    folder.mkdir()

    def some(n: int, words: int) -> list[dict[str, str]]:
        answers = [toys.toy_text(generator, generator.randint(1, words)) for _ in range(n)]
        return [{"prompt": "Say something.", "completion": answer} for answer in answers]

    write_jsonl(folder / "chat.jsonl", some(3000, 9))
    write_jsonl(folder / "pairs.jsonl", some(150, 270))
    return configuration(folder, SCORES, model, **({"tokens": tokens} if tokens else {}))


def true_tokens(probe: Probe) -> tuple[int, int]:
    """Rows that can be encoded, and their tokens, of the whole pool."""
    whole = Probe(
        probe.steps, probe.counts, probe.seed, Probing(rows=sum(probe.counts)), probe.folder.with_name("all")
    )
    sample = whole.sample(len(probe.steps) - 1)
    return sample.rows.height, int(sample.rows["tokens"].sum())


# ---- the sample


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_are_those_of_the_ordinals(tmp_path: Path, kind: str) -> None:
    records = [{"prompt": f"Say {index}.", "completion": str(index)} for index in range(300)]
    path = tmp_path / f"x.{kind}"
    if kind == "parquet":
        pl.DataFrame(records).write_parquet(path)
    else:
        write_jsonl(path, records)
    spec = SourceSpec(name="x", path=str(path), format="prompt_completion")
    (file,) = open_source(spec)
    (chunk,) = file.chunks(1000)
    ordinals = np.array([0, 1, 63, 64, 200, 299])
    assert rows_at(file, spec, 2, ordinals, ()).equals(read_shard(chunk, spec, 2)[0][ordinals])


def test_a_record_that_cannot_be_read_is_missing_and_moves_no_other(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": "Say.", "completion": str(index)}) for index in range(5)]
    lines[1], lines[3] = "{broken", ""
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n")
    spec = SourceSpec(name="x", path=str(tmp_path / "x.jsonl"), format="prompt_completion")
    (file,) = open_source(spec)
    found = rows_at(file, spec, 0, np.array([1, 2, 3]), ())
    assert found.select("position", "response").rows() == [(2, "2"), (3, "4")]


def test_places_become_positions_over_all_files() -> None:
    found = positions_of([2, 0, 3], np.arange(5))
    assert found.tolist() == [0, 1, (2 << 40), (2 << 40) | 1, (2 << 40) | 2]


def test_spread_takes_every_number_as_often() -> None:
    generator = np.random.default_rng(0)
    drawn = np.concatenate([spread(10, 4, generator) for _ in range(5000)])
    assert np.allclose(np.bincount(drawn, minlength=10) / 5000, 0.4, atol=0.03)


def test_spread_takes_one_of_each_stratum() -> None:
    places = spread(1000, 10, np.random.default_rng(1))
    assert (places // 100).tolist() == list(range(10))


def test_the_sample_is_the_same_again(tmp_path: Path, tiny_model: Path) -> None:
    config = skewed(tmp_path / "data", tiny_model)
    first, second = (probe_of(config, tmp_path / "store", rows=50).sample(2) for _ in range(2))
    assert first.rows.equals(second.rows)


# ---- what a stage will read


def test_tokens_of_a_skewed_pool_are_estimated(tmp_path: Path, tiny_model: Path) -> None:
    probe = probe_of(skewed(tmp_path / "data", tiny_model), tmp_path / "store", rows=1500)
    work = probe.sample(2).work
    _, tokens = true_tokens(probe)
    assert work.tokens == pytest.approx(tokens, rel=0.1)
    assert not work.at_most


def test_rows_that_will_be_quarantined_are_left_out(tmp_path: Path, tiny_model: Path) -> None:
    probe = probe_of(skewed(tmp_path / "data", tiny_model, max_tokens=80), tmp_path / "store", rows=1500)
    work = probe.sample(2).work
    rows, tokens = true_tokens(probe)
    assert rows < 3100
    assert work.rows == pytest.approx(rows, rel=0.02)
    assert work.tokens == pytest.approx(tokens, rel=0.1)


def test_records_that_cannot_be_read_are_left_out(tmp_path: Path, tiny_model: Path) -> None:
    config = skewed(tmp_path / "data", tiny_model)
    with (tmp_path / "data" / "pairs.jsonl").open("a") as stream:
        stream.write("{broken\n" * 600)
    probe = probe_of(config, tmp_path / "store", rows=1500)
    assert sum(probe.counts) == 3750
    assert probe.sample(2).work.rows == pytest.approx(3150, rel=0.02)


def test_a_filter_is_tried_on_the_sample(tmp_path: Path, tiny_model: Path) -> None:
    config = skewed(tmp_path / "data", tiny_model)
    config["stages"] = [{"clean": [{"length_bounds": {"max_characters": 40}}]}, *SCORES]
    probe = probe_of(config, tmp_path / "store", rows=1500)
    work = probe.sample(3).work
    rows, _ = true_tokens(probe)
    assert 0 < rows < 3000
    assert work.rows == pytest.approx(rows, rel=0.1)
    assert not work.at_most


DUPLICATES = {"clean": ["exact_duplicates"]}


@pytest.mark.parametrize(
    ("before", "rows"),
    [
        ({"select": {"random": {"budget": 40}}}, 40),
        ({"select": {"random": {"budget": "300 tokens"}}}, None),
        ({"select": {"threshold": {"by": "length", "min": 9}}}, None),
        (DUPLICATES, 201),
    ],
)
def test_stages_that_compare_rows_are_tried_on_the_sample(
    tmp_path: Path, tiny_model: Path, before: dict[str, Any], rows: int | None
) -> None:
    write_pool(tmp_path / "data")
    config = configuration(tmp_path / "data", [{"score": ["length"]}, before, *SCORES], tiny_model)
    probe = probe_of(config, tmp_path / "store")
    work = probe.sample(len(probe.steps) - 1).work
    if rows is None:
        config["stages"] = config["stages"][:2]
        run = curate.run(config, runs=tmp_path / "runs", runner="local")
        rows = run.selected.collect().height
        assert 0 < rows < 202
    assert work.rows == rows
    assert not work.at_most


def test_of_duplicates_a_sample_holds_too_few(tmp_path: Path, tiny_model: Path) -> None:
    write_pool(tmp_path / "data")
    config = configuration(tmp_path / "data", [DUPLICATES, *SCORES], tiny_model)
    probe = probe_of(config, tmp_path / "store", rows=150)
    work = probe.sample(len(probe.steps) - 1).work
    assert work.at_most
    assert work.rows == pytest.approx(202, rel=0.05)


def test_what_is_stored_is_exact_and_the_sample_is_of_its_survivors(tmp_path: Path, tiny_model: Path) -> None:
    write_pool(tmp_path / "data")
    stages = [{"score": ["length"]}, {"select": {"top": {"by": "length", "budget": 40, "order": "highest"}}}]
    run = curate.run(
        configuration(tmp_path / "data", stages, tiny_model), runs=tmp_path / "runs", runner="local"
    )
    config = configuration(tmp_path / "data", [*stages, *SCORES], tiny_model)
    probe = probe_of(config, tmp_path / "runs" / "store", rows=25)
    sample = probe.sample(len(probe.steps) - 1)
    selected = run.selected.collect()
    assert sample.work.rows == 40
    assert (40, sample.work.tokens) == true_tokens(probe)
    assert sample.rows.height == 25
    assert set(sample.rows["uid"]) <= set(selected["uid"])


# ---- the arithmetic of seconds


def test_seconds_are_load_and_a_ratio_of_tokens() -> None:
    timing = timed(slow(per_token=0.01), [5] * 50 + [50] * 14)
    assert timing.load_seconds == pytest.approx(3.0)
    assert timing.seconds / timing.units == pytest.approx(0.01)
    assert timing.seconds_for(5000) == pytest.approx(3.0 + 50.0)


def test_rows_count_where_no_tokens_are_read() -> None:
    timing = timed(slow(per_token=0.5, wants=frozenset()), [9] * 200, most=64)
    assert timing.units == timing.rows
    assert timing.seconds_for(1000) == pytest.approx(503.0)


def test_timing_grows_until_it_tells_enough() -> None:
    stage = slow(per_token=0.01)
    timed(stage, [10] * 2000)
    assert stage.calls == [1, 4, 16, 64]


def test_no_more_rows_than_a_shard_has() -> None:
    stage = slow(per_token=1e-6)
    timed(stage, [10] * 2000, most=128)
    assert stage.calls[:5] == [1, 4, 16, 64, 128]
    assert max(stage.calls) == 128


def test_timing_takes_what_fits_the_limit() -> None:
    stage = slow(per_token=0.04)
    begun = stage.clock.now
    timed(stage, [10] * 2000, limit=25.0)
    assert stage.clock.now - begun - 3.0 <= 25.0
    assert stage.calls[:3] == [1, 4, 16]
    assert 16 < stage.calls[3] < 64


def test_a_slow_model_is_timed_on_the_first_rows_alone() -> None:
    stage = slow(per_token=2.0)
    timing = timed(stage, [10] * 2000, limit=25.0)
    assert stage.calls == [1, 4]
    assert timing.seconds_for(40) == pytest.approx(83.0)


def test_the_warm_up_does_not_count() -> None:
    class Cold(Slow):
        def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
            self.clock.now += 0.0 if self.calls else 7.0
            return super().apply(rows, state, outputs)

    timing = timed(Cold("slow", None, Resources(), Clock()), [10] * 8)
    assert timing.seconds / timing.units == pytest.approx(0.01)


def test_timed_rows_are_spread_over_the_lengths() -> None:
    lengths = list(range(1, 1001))
    timing = timed(slow(per_token=1e-4), lengths, most=64)
    assert timing.units / timing.rows == pytest.approx(500, rel=0.02)


# ---- the plan


def test_a_pass_is_probed_and_counted_once(tmp_path: Path, tiny_model: Path) -> None:
    write_pool(tmp_path / "data")
    config = read_config(configuration(tmp_path / "data", SCORES, tiny_model)).config
    forecast = plan(config, tmp_path / "store", Probing(limit_seconds=0.1))
    lines = {line.name: line for line in forecast.lines}
    loss, el2n = lines["score.loss"].estimate, lines["score.el2n"].estimate
    assert loss == replace(el2n, disk_bytes=loss.disk_bytes)
    assert loss.source_of_estimate == "probed"
    assert loss.seconds is not None and loss.load_seconds is not None and loss.seconds > loss.load_seconds
    others = [lines[name].estimate.seconds or 0.0 for name in ("ingest", "tokenize")]
    assert forecast.seconds == pytest.approx(loss.seconds + sum(others))
    assert forecast.unknown == []


def test_two_passes_count_twice(tmp_path: Path, tiny_model: Path) -> None:
    write_pool(tmp_path / "data")
    config = configuration(tmp_path / "data", [*SCORES, {"score": ["entropy"]}], tiny_model)
    lines = lines_of(config, tmp_path / "store", Probing(limit_seconds=0.1))
    names = ("ingest", "tokenize", "score.loss", "score.entropy")
    parts = [lines[name].estimate.seconds or 0.0 for name in names]
    assert min(parts) > 0.0
    assert Forecast(list(lines.values())).seconds == pytest.approx(sum(parts))


def test_a_scorer_that_needs_a_reference_leaves_the_others_their_estimate(
    tmp_path: Path, tiny_model: Path
) -> None:
    write_pool(tmp_path / "data")
    write_jsonl(tmp_path / "dev.jsonl", toys.toy_rows(4, seed=9))
    stages = [{"score": ["loss", "head_influence"]}]
    config = configuration(
        tmp_path / "data", stages, tiny_model, target={"path": str(tmp_path / "dev.jsonl")}
    )
    lines = lines_of(config, tmp_path / "store", Probing(limit_seconds=0.1))
    assert lines["score.loss"].estimate.source_of_estimate == "probed"
    assert lines["score.head_influence"].estimate.source_of_estimate == "unknown"
    assert "reference" in (lines["score.head_influence"].estimate.why_unknown or "")


def test_a_probe_writes_nothing(tmp_path: Path, tiny_model: Path) -> None:
    write_pool(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    lines_of(
        configuration(tmp_path / "data", SCORES, tiny_model), tmp_path / "store", Probing(limit_seconds=0.1)
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_probe_nothing_is_made_up(tmp_path: Path, tiny_model: Path) -> None:
    write_pool(tmp_path / "data")
    lines = lines_of(configuration(tmp_path / "data", SCORES, tiny_model), tmp_path / "store")
    assert {line.estimate.source_of_estimate for line in lines.values()} == {"unknown"}
    forecast = Forecast(list(lines.values()))
    assert (forecast.seconds, forecast.unknown) == (0.0, list(lines))
    assert {line.estimate.disk_bytes for line in lines.values()} == {None}


@dataclass(frozen=True)
class Second(Slow):
    """As `Slow`, with a second output that needs more."""

    further: str = "artifact:reference"

    @property
    def needs(self) -> frozenset[str]:
        return self.wants | {self.further}

    @property
    def adds(self) -> frozenset[str]:
        return frozenset({"score.slow", "score.second"})

    @property
    def outputs(self) -> Mapping[str, frozenset[str]]:
        return {"slow": frozenset({"score.slow"}), "second": frozenset({"score.second"})}

    def output_needs(self, output: str) -> frozenset[str]:
        return self.wants | ({self.further} if output == "second" else set())


def with_last(probe: Probe, store: Path, stage: Slow) -> Probe:
    """The probe of the same plan with another last stage, before which a reference and clusters are to be made."""
    before = probe.steps[-1].view
    absent = Located(store / "nowhere", "0")
    columns = {**before.columns, "cluster": absent}
    view = View(before.rows, columns, {"reference": absent}, before.named_rows)
    steps = [*probe.steps[:-1], Step(plan_stage(store, stage, view), view)]
    return Probe(steps, probe.counts, 0, Probing(clock=stage.clock), probe.folder, frozenset({2}))


@pytest.mark.parametrize(("need", "named"), [("artifact:reference", "reference"), ("cluster", "cluster")])
def test_what_only_the_run_makes_is_an_obstacle(
    tmp_path: Path, tiny_model: Path, need: str, named: str
) -> None:
    write_pool(tmp_path / "data")
    probe = probe_of(configuration(tmp_path / "data", SCORES, tiny_model), tmp_path / "store")
    stage = slow(wants=frozenset({"tokens", need}))
    probe = with_last(probe, tmp_path / "store", stage)
    probe.finish()
    assert f"`{named}`" in probe.obstacles[2, "slow"]
    assert 2 not in probe.timings
    assert stage.calls == []


def test_an_obstacle_of_one_output_is_none_of_the_others(tmp_path: Path, tiny_model: Path) -> None:
    write_pool(tmp_path / "data")
    probe = probe_of(configuration(tmp_path / "data", SCORES, tiny_model), tmp_path / "store")
    probe = with_last(probe, tmp_path / "store", Second("slow", None, Resources(), Clock()))
    probe.finish()
    assert list(probe.obstacles) == [(2, "second")]
    assert list(probe.timings) == [0, 1, 2]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with a pool, scored, in `data` and `runs`."""
    folder = tmp_path_factory.mktemp("ran")
    write_pool(folder / "data")
    curate.run(configuration(folder / "data", SCORES, tiny_model), runs=folder / "runs", runner="local")
    return folder


def manifest_of(store: Path, output: str) -> Manifest:
    (path,) = store.glob(f"{output}-*/manifest.json")
    return Manifest.read(path)


def scaled(manifest: Manifest, times: float) -> float:
    """Seconds on so many times the work: that of the shards grows, the loading before it does not."""
    work = sum(shard.stats["seconds"] for shard in manifest.shards)
    assert 0 < work < manifest.seconds
    return manifest.seconds + (times - 1) * work


def test_earlier_seconds_are_scaled_by_tokens(ran: Path, tmp_path: Path, tiny_model: Path) -> None:
    config = skewed(tmp_path / "data", tiny_model)
    estimate = lines_of(config, ran / "runs" / "store", Probing())["score.loss"].estimate
    manifest = manifest_of(ran / "runs" / "store", "score.loss")
    assert estimate.source_of_estimate == "measured before"
    assert estimate.tokens is not None and manifest.tokens > 0
    assert estimate.seconds == pytest.approx(scaled(manifest, estimate.tokens / manifest.tokens))


def test_earlier_seconds_are_scaled_by_rows_where_tokens_are_not_known(
    ran: Path, tmp_path: Path, tiny_model: Path
) -> None:
    config = skewed(tmp_path / "data", tiny_model)
    estimate = lines_of(config, ran / "runs" / "store")["score.loss"].estimate
    manifest = manifest_of(ran / "runs" / "store", "score.loss")
    assert estimate.tokens is None
    assert estimate.seconds == pytest.approx(scaled(manifest, 3150 / manifest.rows))


def test_earlier_seconds_behind_a_threshold_are_an_upper_bound(ran: Path, tiny_model: Path) -> None:
    select = {"select": {"threshold": {"by": "length", "min": 3}}}
    config = configuration(ran / "data", [{"score": ["length"]}, select, *SCORES], tiny_model)
    line = lines_of(config, ran / "runs" / "store")["score.loss"]
    manifest = manifest_of(ran / "runs" / "store", "score.loss")
    assert line.rows is None
    assert line.estimate.at_most
    assert line.estimate.seconds == pytest.approx(manifest.seconds)


def test_another_model_tells_nothing(ran: Path, tmp_path: Path) -> None:
    other = toys.tiny_llama(tmp_path / "other", seed=1)
    lines = lines_of(configuration(ran / "data", SCORES, other), ran / "runs" / "store")
    assert lines["score.loss"].estimate.source_of_estimate == "unknown"


def test_what_is_stored_costs_nothing(ran: Path, tiny_model: Path) -> None:
    lines = lines_of(configuration(ran / "data", SCORES, tiny_model), ran / "runs" / "store", Probing())
    assert all(line.cached for line in lines.values())
    forecast = Forecast(list(lines.values()))
    assert (forecast.seconds, forecast.unknown, forecast.disk_bytes) == (0.0, [], 0)
    assert lines["score.loss"].estimate.tokens == manifest_of(ran / "runs" / "store", "score.loss").tokens


def test_rows_behind_a_threshold_are_estimated(tmp_path: Path, tiny_model: Path) -> None:
    write_pool(tmp_path / "data")
    select = {"select": {"threshold": {"by": "length", "min": 9}}}
    config = configuration(tmp_path / "data", [{"score": ["length"]}, select, *SCORES], tiny_model)
    line = lines_of(config, tmp_path / "store", Probing(limit_seconds=0.1))["score.loss"]
    assert line.rows is None
    assert line.estimate.expected_rows is not None and 0 < line.estimate.expected_rows < 202
    assert line.estimate.seconds is not None


# ---- the command


def write_config(folder: Path, model: Path) -> Path:
    write_pool(folder / "data")
    path = folder / "run.yaml"
    path.write_text(json.dumps(configuration(folder / "data", SCORES, model)))
    return path


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_probes(tmp_path: Path, tiny_model: Path) -> None:
    told = command(write_config(tmp_path, tiny_model), "--runs", tmp_path / "runs", "--runner", "local")
    assert " probe" in told
    assert "of memory at most at once" in told
    assert "KiB on disk" in " ".join(told.split())
    assert "same pass" in told


def test_no_probe_leaves_it_out(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(probe: Probe) -> None:
        raise AssertionError

    monkeypatch.setattr(Probe, "finish", refuse)
    config = write_config(tmp_path, tiny_model)
    forecast = json.loads(command(config, "--runs", tmp_path / "runs", "--no-probe", "--json"))
    told: list[Mapping[str, Any]] = forecast["stages"]
    assert {line["source_of_estimate"] for line in told} == {"unknown"}
    assert {
        "name",
        "fingerprint",
        "cached",
        "rows",
        "left",
        "seconds",
        "peak_memory_bytes",
        "needs",
        "adds",
    } <= (told[0].keys())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (75.0, "75 s"),
        (725.0, "12 min"),
        (30_000.0, "8 h 20 min"),
        (3600.0 * 76, "3 d 4 h"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
