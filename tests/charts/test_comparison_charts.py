"""Comparison: losses with intervals, and against all that was scored and trained on."""

from typing import Any

import charted

from curate.charts import style
from curate.charts.comparison import comparison


def summary(
    method: str, kind: str, budget: str, loss: float, interval: Any, model: str = "m"
) -> dict[str, Any]:
    return {
        "model": model, "budget": budget, "method": method, "kind": kind, "seeds": [0, 1], "loss": loss,
        "interval": interval, "scoring_seconds": 3.0, "training_seconds": 4.0,
        "differences": {} if method == "random" else {"random": {"mean": loss - 2.0}},
    }  # fmt: skip


SUMMARIES = [
    summary("random", "baseline", "1000 tokens", 2.0, [1.9, 2.1]),
    summary("top", "method", "1000 tokens", 1.5, None),
    summary("top, lengths", "matched", "1000 tokens", 1.75, [1.7, 1.8]),
]


def test_loss_interval_and_difference_of_each_method() -> None:
    rows = charted.rows(comparison(SUMMARIES, [10, 20, 30], "nats"), "loss")
    found = {(row["method"], row["loss"], row["low"], row["high"], row["against"]) for row in rows}
    assert found == {
        ("random", 2.0, 1.9, 2.1, None),
        ("top", 1.5, None, None, -0.5),
        ("top, lengths", 1.75, 1.7, 1.8, -0.25),
    }


def test_compute_leaves_out_the_subsets_whose_methods_pay() -> None:
    chart = comparison(SUMMARIES, [10, 20, 30], "nats")
    data = charted.spec(chart)["datasets"].values()
    assert sorted(tuple((row["method"], row["tokens"]) for row in some) for some in data) == [
        (("random", 10), ("top", 20)),
        (("random", 10), ("top", 20), ("top, lengths", 30)),
    ]


def test_budgets_and_models_are_panels() -> None:
    more = [summary("random", "baseline", "2000 tokens", 2.0, None, model) for model in ("m", "n")]
    rows = charted.rows(comparison([*SUMMARIES, *more], [10, 20, 30, 40, 50], "nats"), "panel")
    assert {row["panel"] for row in rows} == {"m, 1000 tokens", "m, 2000 tokens", "n, 2000 tokens"}


def test_methods_have_different_colours() -> None:
    many = [summary(name, "method", "b", 1.0, None) for name in ("full", "random", "a", "b", "c")]
    (lower,) = (
        each for each in charted.spec(comparison(many, [1] * 5, "nats"))["vconcat"] if "layer" in each
    )
    colours = lower["layer"][0]["encoding"]["color"]["scale"]["range"]
    assert len(set(colours)) == 5


def test_where_colours_come_again_shapes_differ() -> None:
    colours, shapes = style.palette([str(number) for number in range(20)])
    assert len(set(zip(colours["range"], shapes["range"], strict=True))) == 20
