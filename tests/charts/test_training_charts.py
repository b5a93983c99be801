"""Schedule, losses, training curves and cost, from known numbers."""

import charted
import polars as pl
import pytest

from curate.charts.training import cost, losses, schedule, thinned, training
from curate.schedule_view import Phase, ScheduleView, Stretch


def view(*sources: dict[str, float], phases: list[dict[str, float]] | None = None) -> ScheduleView:
    of = phases or [{"all": 1.0}] * len(sources)
    names = list(dict.fromkeys(name for each in of for name in each))
    stretches = [Stretch(10 * n, 10, None, of[n], each) for n, each in enumerate(sources)]
    return ScheduleView(
        10 * len(sources), None, None, None, [Phase(name, 1, None, 0, 0, None, None, None, None) for name in names],
        stretches,
    )  # fmt: skip


def test_a_band_for_each_source_with_zeros_where_it_is_not_drawn() -> None:
    rows = charted.rows(schedule(view({"web": 1.0}, {"web": 0.25, "math": 0.75})), "share")
    assert [(row["name"], row["first"], row["last"], row["share"]) for row in rows] == [
        ("web", 0, 10, 1.0), ("math", 0, 10, 0.0), ("web", 10, 20, 0.25), ("math", 10, 20, 0.75),
    ]  # fmt: skip


def test_phases_have_bands_of_their_own_unless_they_are_the_sources() -> None:
    one, two = {"web": 1.0}, {"math": 1.0}
    assert len(charted.spec(schedule(view(one, two)))["vconcat"]) == 1
    assert len(charted.spec(schedule(view(one, two, phases=[one, two])))["vconcat"]) == 1
    assert len(charted.spec(schedule(view(one, two, phases=[{"first": 1.0}, {"last": 1.0}])))["vconcat"]) == 2


def test_control_characters_in_the_name_of_a_band_are_pictures_of_them() -> None:
    chart = schedule(view({"a\x1b": 1.0}))
    assert [row["name"] for row in charted.rows(chart, "share")] == ["a␛"]
    assert "\\u001b" not in chart.to_json()


def test_the_smallest_of_many_sources_share_a_band() -> None:
    many = {f"s{n:02}": (2.0 if n < 8 else 1.0) / 48 for n in range(40)}
    rows = charted.rows(schedule(view(many)), "share")
    assert len(rows) == 9
    assert {row["name"]: row["share"] for row in rows}["others (32)"] == pytest.approx(32 / 48, rel=1e-5)


def evaluated(mean: float, **sources: float) -> dict:
    of = {name: {"loss": loss, "rows": 5, "supervised_tokens": 50} for name, loss in sources.items()}
    return {"source_mean": mean, "rows": 5 * len(sources), "sources": of}


def test_losses_of_each_model_and_source_and_the_mean() -> None:
    found = {"before": evaluated(2.0, a=1.0, b=3.0), "selected": evaluated(1.5, a=1.0, b=2.0)}
    rows = charted.rows(losses(found, "nats"), "loss")
    assert {(row["model"], row["source"]): row["loss"] for row in rows} == {
        ("before", "mean over sources"): 2.0, ("before", "a"): 1.0, ("before", "b"): 3.0,
        ("selected", "mean over sources"): 1.5, ("selected", "a"): 1.0, ("selected", "b"): 2.0,
    }  # fmt: skip


def test_the_target_stands_beside_the_mean() -> None:
    found = {"before": evaluated(2.0, a=2.0) | {"target": {"loss": 9.0, "rows": 3, "supervised_tokens": 9}}}
    rows = charted.rows(losses(found, "nats"), "loss")
    assert [row["loss"] for row in rows if row["source"] == "target examples"] == [9.0]


def test_an_interval_is_drawn_where_there_is_one() -> None:
    found = {"before": evaluated(2.0, a=2.0) | {"interval": [1.5, 2.5]}}
    assert "layer" in charted.spec(losses(found, "nats"))
    assert "layer" not in charted.spec(losses({"before": evaluated(2.0, a=2.0)}, "nats"))


def test_of_hundreds_of_sources_the_largest_are_shown_and_that_is_said() -> None:
    many = {"before": evaluated(2.0, **{f"s{n:03}": 1.0 for n in range(300)})}
    chart = losses(many, "nats")
    assert len(charted.rows(chart, "loss")) == 21
    assert "the 20 largest of 300 sources" in charted.spec(chart)["title"]["subtitle"]


def curve(*points: tuple[float, int]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"step": n + 1, "loss": loss, "supervised_tokens": tokens}
            for n, (loss, tokens) in enumerate(points)
        ]
    )


def test_thinned_points_are_means_over_their_tokens() -> None:
    found = thinned(curve((1.0, 1), (4.0, 2), (5.0, 10), (7.0, 10)), points=2)
    assert found.select("step", "tokens", "loss", "steps").rows() == [(2, 3, 3.0, 2), (4, 23, 6.0, 2)]


def test_a_short_curve_is_not_thinned() -> None:
    assert thinned(curve((1.0, 5), (2.0, 5)))["loss"].to_list() == [1.0, 2.0]


def test_a_curve_of_a_hundred_thousand_steps_is_small() -> None:
    found = curve(*[(1.0, 1)] * 100_000)
    assert thinned(found).height == 200
    assert charted.size(training({"selected": found}, {})) < 40_000


def test_held_out_losses_lie_before_the_first_step_and_at_the_last_token() -> None:
    curves = {"selected": curve((3.0, 10), (2.0, 20)), "random": curve((3.0, 12))}
    chart = training(curves, {"before": 4.0, "selected": 2.5, "random": 2.75})
    ends = [row for row in charted.rows(chart, "model", "loss") if row["loss"] in (4.0, 2.5, 2.75)]
    assert [(row["model"], row["tokens"], row["loss"]) for row in ends] == [
        ("before", 0, 4.0), ("selected", 30, 2.5), ("random", 12, 2.75),
    ]  # fmt: skip


def test_a_training_that_nothing_was_held_out_for() -> None:
    rows = charted.rows(training({"selected": curve((3.0, 10))}, {}), "loss")
    assert [(row["model"], row["tokens"], row["loss"]) for row in rows] == [("selected", 10, 3.0)]


def test_cost_tells_what_was_computed_from_what_was_stored() -> None:
    stages = [
        {"name": "ingest", "outputs": "ingest", "cached": True, "seconds": 2.0, "rows": 5, "tokens": 0},
        {"name": "train", "outputs": "train", "cached": False, "seconds": 30.5, "rows": 0, "tokens": 1234},
    ]
    chart = cost(stages)
    assert [(row["how"], row["text"]) for row in charted.rows(chart, "how")] == [
        ("stored", "2.0 s (stored)"),
        ("computed", "30.5 s, 1,234 tokens"),
    ]
    assert (
        charted.spec(chart)["title"]["subtitle"] == "30.5 s computed in this run, 2.0 s taken from the store"
    )
