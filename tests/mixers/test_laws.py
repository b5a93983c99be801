"""The mixer `laws`: its table of runs, its optimum, its bounds, its notes, its fingerprint."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import pool_of

from curate.errors import ConfigError, DataError
from curate.mixers._mixture_runs import read_runs
from curate.mixers.laws import Laws

RUNS = Path(__file__).parent / "mixture_runs.csv"
"""Eight runs of the exponential law: loss.reply 1.2 + exp(-1.6 chat - .5 code + .2 math), loss.proof
0.9 + exp(.3 chat - .6 code - 2.2 math)."""

POOL = pool_of({"source": ["chat"] * 60 + ["code"] * 20 + ["math"] * 20})
FAST: dict[str, Any] = {"runs": RUNS, "law": "exponential", "starts": 1, "resamples": 0, "extrapolate": True}


def losses_at(mixture: np.ndarray) -> np.ndarray:
    """The true losses of mixtures [n, 3]: reply, proof."""
    slopes = np.array([[-1.6, -0.5, 0.2], [0.3, -0.6, -2.2]])
    return np.array([1.2, 0.9]) + np.exp(mixture @ slopes.T)


def table(folder: Path, **columns: Any) -> Path:
    """The runs as a Parquet file, with columns replaced or, by None, removed."""
    frame = pl.read_csv(RUNS)
    kept = [name for name in frame.columns if columns.get(name, ...) is not None]
    given = [pl.Series(name, values) for name, values in columns.items() if values is not None]
    path = folder / "runs.parquet"
    frame.select(kept).with_columns(given).write_parquet(path)
    return path


def test_the_draws_follow_the_best_of_all_mixtures() -> None:
    schedule = Laws(**FAST, draws=1000).mix(POOL)
    steps = np.linspace(0, 1, 101)
    grid = np.array([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-9])
    best = grid[losses_at(grid).mean(axis=1).argmin()]
    counts = Counter(schedule.phases)
    assert [counts[name] / 1000 for name in ("chat", "code", "math")] == pytest.approx(best, abs=0.011)


def test_phases_are_the_groups_of_the_draws() -> None:
    schedule = Laws(**FAST).mix(POOL)
    assert POOL.frame["source"].gather(schedule.draws).to_list() == list(schedule.phases)


def test_the_order_of_the_columns_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    frame = pl.read_csv(RUNS)
    frame.select(sorted(frame.columns, reverse=True)).write_csv(path)
    here, there = Laws(**FAST).mix(POOL), Laws(**{**FAST, "runs": path}).mix(POOL)
    assert here.draws.tolist() == there.draws.tolist()


def test_one_target_alone_takes_what_helps_it() -> None:
    schedule = Laws(**FAST, losses={"proof": 1}).mix(POOL)
    assert set(schedule.phases) == {"math"}


def test_weights_of_targets_need_not_sum_to_1() -> None:
    one, other = (Laws(**FAST, losses={"reply": w, "proof": 3 * w}).mix(POOL) for w in (1, 5))
    assert one.notes["mixture"] == pytest.approx(other.notes["mixture"])
    assert one.notes["targets"]["proof"]["weight"] == 0.75


def test_an_unknown_target_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"`losses` must weigh targets of .* \(reply, proof\).* Got prof: 1"):
        Laws(**FAST, losses={"prof": 1})


def test_no_group_falls_below_the_least_weight() -> None:
    counts = Counter(Laws(**FAST, losses={"proof": 1}, min_weight=0.1).mix(POOL).phases)
    assert counts == {"chat": 10, "code": 10, "math": 80}


def test_no_row_repeats_more_than_allowed() -> None:
    schedule = Laws(**FAST, losses={"proof": 1}, max_repeats=2).mix(POOL)
    assert max(Counter(schedule.draws.tolist()).values()) == 2
    assert Counter(schedule.phases)["math"] == 40


def test_repeats_that_leave_no_room_are_an_error() -> None:
    with pytest.raises(
        DataError, match=r"must leave a mixture. Got chat 0 to 0.4, code 0 to 0.133, math 0 to 0.133"
    ):
        Laws(**FAST, max_repeats=2, draws=300).mix(POOL)


def test_repeats_are_of_rows_not_of_tokens() -> None:
    with pytest.raises(ValueError, match="`draws` must be rows or a share"):
        Laws(**FAST, max_repeats=2, draws="500 tokens")


def test_notes_say_the_law_its_optimum_and_its_errors() -> None:
    notes = Laws(**{**FAST, "resamples": 20}).mix(POOL).notes
    mixture = np.array([list(notes["mixture"].values())])
    assert list(notes["mixture"]) == ["chat", "code", "math"]
    assert notes["predicted_loss"] == pytest.approx(losses_at(mixture).mean(), abs=1e-5)
    proportional, equal = np.array([[0.6, 0.2, 0.2]]), np.full((1, 3), 1 / 3)
    assert notes["predicted_loss_proportional"] == pytest.approx(losses_at(proportional).mean(), abs=1e-5)
    assert notes["predicted_loss_equal"] == pytest.approx(losses_at(equal).mean(), abs=1e-5)
    assert notes["targets"]["reply"]["parameters"]["c"] == pytest.approx(1.2, abs=1e-4)
    assert notes["targets"]["reply"]["leave_one_out_error"] < 1e-5
    low, high = notes["intervals"]["loss"]
    assert low <= notes["predicted_loss"] <= high
    assert json.loads(json.dumps(notes))["intervals"]["level"] == 0.9


def test_an_extrapolation_names_its_groups() -> None:
    assert "math" in Laws(**FAST, losses={"proof": 1}).mix(POOL).notes["outside_tried"]


def test_weights_stay_within_those_tried_unless_told() -> None:
    """All of proof's gain is math's; the runs tried 10.3 to 75.2 % of it, 0.7 to 50.9 % of chat, 5.8 % of code."""
    notes = Laws(**{**FAST, "extrapolate": False}, losses={"proof": 1}).mix(POOL).notes
    assert notes["mixture"] == pytest.approx({"chat": 0.007, "code": 0.241, "math": 0.752}, abs=1e-9)
    assert notes["outside_tried"] == []


def test_a_size_is_that_of_the_largest_run_unless_given(tmp_path: Path) -> None:
    path = table(tmp_path, tokens=[1e6] * 8)
    assert Laws(**{**FAST, "runs": path}).mix(POOL).notes["at"] == {"parameters": None, "tokens": 1e6}
    assert Laws(**{**FAST, "runs": path}, at_tokens=1e9).mix(POOL).notes["at"]["tokens"] == 1e9


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    copy = Path(shutil.copy(RUNS, tmp_path / "copy.csv"))
    moved = Laws(**{**FAST, "runs": copy})
    assert moved.identity() == Laws(**FAST).identity()
    copy.write_text(copy.read_text().replace("r0,", "renamed,"))
    assert moved.identity() != Laws(**FAST).identity()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_formats_read_alike(tmp_path: Path, suffix: str) -> None:
    frame, path = pl.read_csv(RUNS), tmp_path / f"runs.{suffix}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[suffix](path)
    found = read_runs(path)
    assert found.groups == ("chat", "code", "math")
    assert found.losses["proof"].tolist() == frame["loss.proof"].to_list()


def test_rounded_weights_are_divided_by_their_sum(tmp_path: Path) -> None:
    chat = pl.read_csv(RUNS)["chat"].to_numpy().copy()
    chat[2] += 0.0009
    assert read_runs(table(tmp_path, chat=chat)).mixtures.sum(axis=1) == pytest.approx(np.ones(8), abs=1e-12)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"chat": [0.5] * 8}, "row 1: the weights (chat, code, math) must sum to 1 within 0.001. Got 1.1"),
        ({"loss.reply": [1.0, 2, 0, 1, 2, 3, 4, 5]}, "row 3: `loss.reply` must be above 0. Got 0"),
        ({"tokens": ["1", "many", *"123456"]}, "row 2: `tokens` must be a number. Got 'many'."),
        ({"math": [None, *[0.1] * 7]}, "row 1: `math` must be a number. Got None."),
        ({"loss.reply": None, "loss.proof": None}, "Got losses none and groups chat, code, math."),
        ({"loss": [1.0] * 8}, "Got losses loss.reply, loss.proof, loss and groups chat, code, math."),
        ({"chat": None, "code": None}, "Got losses loss.reply, loss.proof and groups math."),
    ],
)
def test_a_table_that_cannot_be_used_says_where(tmp_path: Path, columns: Any, message: str) -> None:
    path = table(tmp_path, **columns)
    with pytest.raises(DataError, match=re.escape(f"{path}") + ".*" + re.escape(message)):
        read_runs(path)


def test_a_negative_weight_says_where(tmp_path: Path) -> None:
    frame = pl.read_csv(RUNS)
    code = [-0.1, *frame["code"].to_list()[1:]]
    with pytest.raises(DataError, match=r"row 1: the weight of `code` must be at least 0. Got -0\.1"):
        read_runs(table(tmp_path, code=code))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("runs.txt", "a", "must be a .csv, .jsonl or .parquet file"),
        ("runs.csv", "a,b,loss\n", "must hold runs, one a row"),
        ("runs.parquet", "a", "runs cannot be read"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_runs(tmp_path / name)


def test_a_file_that_is_missing_is_found_before_any_work() -> None:
    with pytest.raises(ValueError, match="nowhere.csv: runs cannot be read"):
        Laws(runs=Path("nowhere.csv"))


def test_too_few_runs_are_found_before_any_work(tmp_path: Path) -> None:
    pl.read_csv(RUNS).head(7).write_csv(tmp_path / "runs.csv")
    with pytest.raises(ValueError, match="needs at least 8 different runs. Got 7"):
        Laws(runs=tmp_path / "runs.csv", law="additive")


def test_groups_that_differ_are_all_listed(tmp_path: Path) -> None:
    pool = pool_of({"source": ["chat", "code", "prose", "law"]})
    with pytest.raises(
        ConfigError,
        match=r"\(chat, code, law, prose\).* no column for: law, prose; columns that are no group of them: math",
    ):
        Laws(**FAST).mix(pool)


def test_groups_of_another_column() -> None:
    pool = pool_of({"meta.kind": ["chat", "code", "math"] * 10})
    schedule = Laws(**FAST, by="meta.kind", losses={"proof": 1}).mix(pool)
    assert set(schedule.draws.tolist()) == set(range(2, 30, 3))
