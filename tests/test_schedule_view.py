"""What is trained when: counted on a small run, as numbers and as a chart."""

import io
import json
from pathlib import Path

import polars as pl
import pytest
from pools import configuration, write_pool
from rich.console import Console

import curate
from curate.cli import main
from curate.errors import CurateError
from curate.schedule_view import Phase, ScheduleView, Stretch, view_schedule
from curate.show import print_schedule

PHASES = {
    "phases": [{"fraction": 0.75}, {"fraction": 0.25, "weights": {"chat": 0, "pairs": 1}, "name": "last"}]
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> curate.Run:
    """40 draws in two phases, 8 a step, for two steps of training."""
    folder = tmp_path_factory.mktemp("schedule")
    pool = write_pool(folder / "data", rows=48)
    stages = [
        {"mix": {"phases": {**PHASES, "draws": 40}}},
        {"train": {"adapter": {"lora": {"r": 1}}, "batch_rows": 8, "max_steps": 2, "epochs": 2}},
    ]
    return curate.run(configuration(pool, stages, tiny_model), runs=folder / "runs", runner="local")


@pytest.fixture(scope="module")
def composed(run: curate.Run, tiny_model: Path) -> curate.Run:
    """Composed examples, without a training."""
    folder = run.path.parent.parent
    stages = [{"mix": {"mosaic": {"max_rows": 3}}}]
    return curate.run(
        configuration(folder / "data", stages, tiny_model), runs=folder / "runs", runner="local"
    )


def tokens_of(run: curate.Run) -> pl.DataFrame:
    """The tokens of each draw of whole rows."""
    (record,) = (stage for stage in run.stages if stage["name"] == "tokenize")
    rows = pl.scan_parquet(run.shards(record)).select("position", "tokens")
    return run.schedule.join(rows, on="position", how="left", maintain_order="left").collect()


def test_the_boundary_in_draws_and_optimizer_steps(run: curate.Run) -> None:
    first, last = view_schedule(run, 10).phases
    assert (first.name, first.first_draw, first.last_draw) == ("phase 1 of 2", 0, 29)
    assert (first.first_step, first.last_step) == (0, 3)
    assert (last.name, last.first_draw, last.last_draw) == ("last", 30, 39)
    assert (last.first_step, last.last_step) == (3, 4)


def test_the_whole(run: curate.Run) -> None:
    view = view_schedule(run, 10)
    assert (view.draws, view.steps, view.epochs) == (40, 5, 2.0)
    assert view.tokens == tokens_of(run)["tokens"].sum()


def test_tokens_of_each_phase(run: curate.Run) -> None:
    table = tokens_of(run)
    for phase in view_schedule(run, 10).phases:
        mine = table.filter(pl.col("phase") == phase.name)["tokens"]
        assert (phase.draws, phase.tokens) == (len(mine), mine.sum())
        assert (phase.shortest, phase.longest) == (mine.min(), mine.max())


def test_stretches_are_of_equal_time_and_follow_each_other(run: curate.Run) -> None:
    stretches = view_schedule(run, 10).stretches
    assert [(each.first_draw, each.draws) for each in stretches] == [(start, 4) for start in range(0, 40, 4)]
    table = tokens_of(run)["tokens"]
    assert [each.tokens for each in stretches] == [
        table[start : start + 4].sum() for start in range(0, 40, 4)
    ]


def test_shares_of_phases_and_sources(run: curate.Run) -> None:
    """The boundary, after 30 draws, halves the eighth of ten stretches."""
    stretches = view_schedule(run, 10).stretches
    assert stretches[7].phases == {"last": 0.5, "phase 1 of 2": 0.5}
    assert all(each.phases == {"phase 1 of 2": 1.0} for each in stretches[:7])
    assert all(each.sources == {"pairs": 1.0} for each in stretches[8:])
    chat = sum(each.sources.get("chat", 0.0) for each in stretches) * 4
    sources = run.schedule.join(run.rows.select("position", "source"), on="position").collect()["source"]
    assert chat == pytest.approx((sources == "chat").sum())


def test_there_are_no_more_stretches_than_draws(run: curate.Run) -> None:
    assert len(view_schedule(run, 1000).stretches) == 40


def test_composed_examples_count_their_tokens_and_the_sources_of_the_rows_inside(
    composed: curate.Run,
) -> None:
    view = view_schedule(composed, 1)
    made = pl.read_parquet(composed.path / "composed.parquet")
    named = {phase.name: phase for phase in view.phases}
    inside = [name for name in ("format", "permute", "mask") if name in named]
    assert sum(named[name].draws for name in inside) == made.height
    assert sum(named[name].tokens or 0 for name in inside) == made["input_ids"].list.len().sum()
    sources = dict(composed.rows.select("position", "source").collect().iter_rows())
    drawn = composed.schedule.filter(pl.col("composed").is_null()).collect()["position"]
    chat = [float(sources[position] == "chat") for position in drawn]
    chat += [sum(sources[p] == "chat" for p in some) / len(some) for some in made["members"].to_list()]
    assert view.stretches[0].sources["chat"] == pytest.approx(sum(chat) / len(chat))


def test_without_a_training_no_steps_are_known(composed: curate.Run) -> None:
    view = view_schedule(composed, 1)
    assert (view.steps, view.epochs, view.phases[0].first_step) == (None, None, None)


def test_the_time_of_pieces_is_that_of_their_steps(run: curate.Run, tmp_path: Path, tiny_model: Path) -> None:
    """Steps of 16 pieces of 16 tokens take as long as those of 4 of 64."""
    data = run.path.parent.parent / "data"
    fields = {"min_tokens": 16, "max_tokens": 64, "batch_tokens": 256, "cycles": 1}
    config = configuration(data, [{"mix": {"length_buckets": fields}}], tiny_model)
    pieces = curate.run(config, runs=tmp_path / "runs", runner="local")
    steps = pieces.schedule.select(pl.col("step").max() + 1).collect().item()
    stretches = view_schedule(pieces, steps).stretches
    assert [each.tokens for each in stretches] == [256] * steps
    assert all(len(each.phases) == 1 for each in stretches)


def test_a_run_without_a_schedule_says_so(run: curate.Run, tmp_path: Path) -> None:
    data = run.path.parent.parent / "data"
    plain = curate.run(configuration(data, [{"score": ["length"]}]), runs=tmp_path, runner="local")
    with pytest.raises(CurateError, match="no `mix`"):
        view_schedule(plain, 10)


def drawn(view: ScheduleView, width: int = 40) -> list[str]:
    """The lines that are printed, without colours."""
    stream = io.StringIO()
    print_schedule(view, Console(file=stream, width=width))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def view_of(*phases: dict[str, float]) -> ScheduleView:
    names = list(dict.fromkeys(name for each in phases for name in each))
    return ScheduleView(
        40,
        800,
        5,
        1.0,
        [Phase(name, 20, 400, 0, 19, 0, 2, 5, 50) for name in names],
        [Stretch(0, 10, 200, each, {"web": 1.0}) for each in phases],
    )


def test_the_chart_stacks_the_shares() -> None:
    """Four stretches: A alone twice, then half and half, then B alone."""
    lines = drawn(view_of({"one": 1.0}, {"one": 1.0}, {"one": 0.5, "two": 0.5}, {"two": 1.0}))
    start = lines.index("phases, by their share of the time") + 1
    assert [line[6:] for line in lines[start : start + 8]] == ["AABB"] * 4 + ["AAAB"] * 4
    assert lines[start + 8].split() == ["step", "0", "step", "4"]


def test_the_table_names_each_phase_by_its_letter() -> None:
    lines = drawn(view_of({"one": 1.0}, {"two": 1.0}), width=100)
    (row,) = (line for line in lines if " two " in line)
    assert row.split() == ["B", "two", "20", "400", "0-19", "0-2", "5-50"]


def test_the_smallest_of_many_share_a_sign() -> None:
    shares = {f"round {n:02}": (2.0 if n % 2 else 1.0) / 18 for n in range(12)}
    lines = drawn(view_of(shares, shares), width=100)
    letters = {line.split()[1:3][-1]: line.split()[0] for line in lines if line.split()[1:2] == ["round"]}
    assert [name for name, letter in letters.items() if letter == "·"] == ["06", "08", "10"]


def test_one_chart_is_enough_where_phases_are_the_sources() -> None:
    lines = drawn(view_of({"web": 1.0}))
    assert sum("share of the time" in line for line in lines) == 1


def test_one_source_needs_no_chart() -> None:
    lines = drawn(view_of({"one": 1.0}, {"two": 1.0}))
    assert [line for line in lines if "share of the time" in line] == ["phases, by their share of the time"]


def test_several_sources_have_a_chart_and_a_legend() -> None:
    view = view_of({"one": 1.0}, {"two": 1.0})
    mixed = [Stretch(0, 10, 200, each.phases, {"chat": 0.75, "math": 0.25}) for each in view.stretches]
    lines = drawn(ScheduleView(40, None, None, None, view.phases, mixed))
    start = lines.index("sources, by their share of the time") + 1
    assert [line[6:] for line in lines[start : start + 8]] == ["BB"] * 2 + ["AA"] * 6
    assert "A chat  B math" in lines
    assert lines[start + 8].split() == ["draw", "0", "draw", "39"]


def shown(run: curate.Run, *more: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["show", run.name, "--runs", str(run.path.parent), *more])
    assert ended.value.code == 0


def test_show_prints_the_chart(run: curate.Run, capsys: pytest.CaptureFixture[str]) -> None:
    shown(run, "--schedule")
    text = capsys.readouterr().out
    assert "an epoch of 40 draws" in text
    assert "5 optimizer steps; trained for 2 epochs" in text.replace("\n", " ")


def test_show_gives_tenths_as_json(run: curate.Run, capsys: pytest.CaptureFixture[str]) -> None:
    shown(run, "--schedule", "--json")
    assert json.loads(capsys.readouterr().out) == view_schedule(run, 10).as_dict()


def test_show_takes_one_of_its_options(run: curate.Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["show", run.name, "--runs", str(run.path.parent), "--schedule", "--health"])
    assert ended.value.code == 2
    assert "--row, --health and --schedule exclude each other" in capsys.readouterr().err
