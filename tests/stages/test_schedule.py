"""A schedule is stored and read back: whole rows, pieces, composed examples, optimizer steps."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from candidates import pool_of
from memory import Memory

from curate.errors import CurateError
from curate.mixer import Composed, Mixer, Schedule
from curate.settings import Resources
from curate.stage import Inputs
from curate.stages.mix import COMPOSED, SCHEDULE, Mix, draws_of, schedule_table
from curate.stages.schedule import Drawn, scheduled
from curate.stages.tokenize import Tokenize
from curate.training.packing import steps

LENGTHS = [4, 8, 6]
FRAME = pool_of(
    {
        "position": [10, 20, 30],
        "input_ids": [list(range(n)) for n in LENGTHS],
        "supervised": [[False] + [True] * (n - 1) for n in LENGTHS],
    }
).frame


def read(folder: Path, schedule: Schedule) -> Drawn:
    schedule_table(schedule, FRAME).write_parquet(folder / SCHEDULE)
    living: Any = Memory(FRAME)
    return scheduled(Inputs(living, {}, {}), folder)


def test_whole_rows_come_back_in_order(tmp_path: Path) -> None:
    drawn = read(tmp_path, Schedule(np.array([2, 0, 2, 1]), ["a"] * 4))
    lengths = [len(drawn.examples[each].input_ids) for each in drawn.draws]
    assert lengths == [6, 4, 6, 8]
    assert drawn.steps is None


def test_a_row_drawn_twice_is_one_example(tmp_path: Path) -> None:
    drawn = read(tmp_path, Schedule(np.array([2, 0, 2]), ["a"] * 3))
    assert len(drawn.examples) == 2


def test_a_piece_holds_its_tokens_and_its_first_is_no_target(tmp_path: Path) -> None:
    drawn = read(
        tmp_path,
        Schedule(np.array([1, 1]), ["a"] * 2, starts=np.array([0, 4]), lengths=np.array([4, 4])),
    )
    first, second = (drawn.examples[each] for each in drawn.draws)
    assert second.input_ids.tolist() == [4, 5, 6, 7]
    assert second.supervised.tolist() == [False, True, True, True]
    assert first.supervised.tolist() == [False, True, True, True]


def test_a_row_in_pieces_counts_once_for_a_baseline(tmp_path: Path) -> None:
    drawn = read(
        tmp_path,
        Schedule(np.array([1, 1]), ["a"] * 2, starts=np.array([0, 4]), lengths=np.array([4, 4])),
    )
    assert drawn.rows_behind(drawn.draws).tolist() == [1]


def test_a_row_whose_first_piece_is_not_drawn_counts_once_too(tmp_path: Path) -> None:
    drawn = read(
        tmp_path,
        Schedule(np.array([1, 1]), ["a"] * 2, starts=np.array([6, 4]), lengths=np.array([2, 2])),
    )
    assert drawn.rows_behind(drawn.draws).tolist() == [1]


def test_a_row_in_pieces_counts_where_its_first_piece_is_not_trained_on(tmp_path: Path) -> None:
    drawn = read(
        tmp_path,
        Schedule(np.array([0, 1, 1]), ["a"] * 3, starts=np.array([0, 4, 0]), lengths=np.array([4, 4, 4])),
    )
    assert sorted(drawn.rows_behind(drawn.draws[:2]).tolist()) == [0, 1]


def test_a_row_counts_as_often_as_the_most_drawn_of_its_pieces(tmp_path: Path) -> None:
    drawn = read(
        tmp_path,
        Schedule(np.array([1, 1, 1]), ["a"] * 3, starts=np.array([0, 4, 4]), lengths=np.array([4, 4, 4])),
    )
    assert drawn.rows_behind(drawn.draws).tolist() == [1, 1]


def test_a_whole_row_counts_each_time_it_is_drawn(tmp_path: Path) -> None:
    drawn = read(tmp_path, Schedule(np.array([2, 0, 2]), ["a"] * 3))
    assert sorted(drawn.rows_behind(drawn.draws).tolist()) == [0, 2, 2]


def test_steps_of_a_schedule_are_the_optimizers(tmp_path: Path) -> None:
    drawn = read(tmp_path, Schedule(np.array([0, 1, 2]), ["a"] * 3, steps=np.array([0, 0, 1])))
    assert [each.tolist() for each in steps(drawn.draws, 1.0, 1, None, drawn.steps)] == [[0, 1], [2]]


@pytest.mark.parametrize(("epochs", "expected"), [(2.0, 4), (1.5, 3), (0.1, 1)])
def test_epochs_of_a_schedule_with_steps_are_whole_steps(epochs: float, expected: int) -> None:
    assert len(steps(np.arange(3), epochs, 1, None, np.array([0, 0, 1]))) == expected


@pytest.mark.parametrize("wrong", [[1, 1, 2], [0, 2, 3], [0, 1, 0]])
def test_steps_that_leave_one_out_are_refused(wrong: list[int]) -> None:
    with pytest.raises(CurateError, match="steps must ascend from 0"):
        schedule_table(Schedule(np.arange(3), ["a"] * 3, steps=np.array(wrong)), FRAME)


def test_draws_outside_the_pool_are_refused() -> None:
    with pytest.raises(CurateError, match="must draw rows 0 to 2"):
        schedule_table(Schedule(np.array([3]), ["a"]), FRAME)


@pytest.mark.parametrize(("starts", "lengths"), [(np.ones(3, np.int64), None), (None, np.ones(3, np.int64))])
def test_half_a_piece_is_refused(starts: Any, lengths: Any) -> None:
    with pytest.raises(CurateError, match="starts and lengths, or neither"):
        schedule_table(Schedule(np.arange(3), ["a"] * 3, starts=starts, lengths=lengths), FRAME)


class Pairs(Mixer):
    """Composes the first two rows; the third stays as it is."""

    composes: ClassVar[bool] = True

    def mix(self, pool: Any) -> Schedule:
        """Two draws."""
        messages = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"})
        return Schedule(np.array([2, 3]), ["row", "pair"], composed=(Composed(messages, np.array([0, 1])),))


class Halves(Tokenize):
    """Stands for a tokenizer: five tokens, the last two supervised."""

    def identity(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def setup(self, artifacts: Any) -> Any:
        """Nothing."""
        return None

    def apply(self, rows: pl.DataFrame, state: Any, outputs: Any) -> pl.DataFrame:
        """The same for every row."""
        count = rows.height
        return pl.DataFrame(
            {
                "input_ids": pl.Series([[1, 2, 3, 4, 5]] * count, dtype=pl.List(pl.Int32)),
                "supervised": [[False, False, False, True, True]] * count,
                "drop_reason": pl.Series([None] * count, dtype=pl.String),
            }
        )


@pytest.fixture
def composed(tmp_path: Path) -> Path:
    nothing: Any = None
    tokenize = Halves("tokenize", None, Resources(), nothing, nothing)
    stage = Mix("mix.pairs", 0, Resources(), Pairs(), 0, (), tokenize)
    living: Any = Memory(FRAME)
    stage.write(Inputs(living, {}, {}), tmp_path, tmp_path, lambda *how_far: None)
    return tmp_path


def test_a_composed_example_is_trained_on_as_its_tokens(composed: Path) -> None:
    living: Any = Memory(FRAME)
    drawn = scheduled(Inputs(living, {}, {}), composed)
    assert [len(drawn.examples[each].input_ids) for each in drawn.draws] == [6, 5]
    assert drawn.members[int(drawn.draws[1])].tolist() == [0, 1]


def test_the_rows_inside_a_composed_example_are_known(composed: Path) -> None:
    made = pl.read_parquet(composed / COMPOSED)
    assert made["members"].to_list() == [[10, 20]]
    assert made["member_uids"].to_list() == [["uid-0", "uid-1"]]
    assert sorted(draws_of(composed).collect().rows()) == [(0, 30), (1, 10), (1, 20)]
