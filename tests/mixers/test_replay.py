"""Replay: what a schedule draws, by content; edited files; what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import pool_of, shuffled, uids

from curate.errors import ConfigError, DataError
from curate.mixer import Composed, Schedule
from curate.mixers.length_buckets import LengthBuckets
from curate.mixers.mosaic import Mosaic
from curate.mixers.replay import Replay
from curate.pool import Pool
from curate.stages.mix import schedule_table

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
POOL = pool_of(
    {
        "uid": list("abcdef"),
        "tokens": [8, 16, 24, 8, 40, 8],
        "supervised": [[False] * 4 + [True] * (n - 4) for n in (8, 16, 24, 8, 40, 8)],
        "messages": [json.dumps(TURNS)] * 6,
        "tools": [None] * 6,
    }
)


def save(schedule: Schedule, folder: Path, pool: Pool = POOL) -> Path:
    """As the mix stage does."""
    schedule_table(schedule, pool.frame).write_parquet(folder / "schedule.parquet")
    if schedule.composed:
        names = pool.frame["uid"]
        pl.DataFrame(
            {
                "messages": [json.dumps(list(each.messages)) for each in schedule.composed],
                "member_uids": [names.gather(each.members).to_list() for each in schedule.composed],
            }
        ).write_parquet(folder / "composed.parquet")
    return folder


def written(folder: Path, text: str) -> Replay:
    (folder / "edited.csv").write_text(text)
    return Replay(schedule=folder / "edited.csv")


def same(first: Schedule, second: Schedule) -> bool:
    """Whether two schedules train on the same."""
    arrays = all(
        (one is None) == (other is None) and (one is None or np.array_equal(one, other))
        for one, other in zip(
            (first.draws, first.starts, first.lengths, first.steps),
            (second.draws, second.starts, second.lengths, second.steps),
            strict=True,
        )
    )
    return arrays and list(first.phases) == list(second.phases)


def test_draws_and_phases_come_back(tmp_path: Path) -> None:
    given = Schedule(np.array([3, 1, 3, 0]), ["x", "x", "y", "y"])
    assert same(Replay(schedule=save(given, tmp_path)).mix(POOL), given)


def test_pieces_and_steps_come_back(tmp_path: Path) -> None:
    given = LengthBuckets(min_tokens=8, max_tokens=16, batch_tokens=16).mix(POOL)
    assert given.steps is not None
    assert same(Replay(schedule=save(given, tmp_path)).mix(POOL), given)


def test_composed_examples_come_back(tmp_path: Path) -> None:
    given = Mosaic(max_tokens=4000).mix(POOL)
    found = Replay(schedule=save(given, tmp_path)).mix(POOL)
    assert same(found, given)
    assert len(given.composed) > 0
    for one, other in zip(found.composed, given.composed, strict=True):
        assert list(one.messages) == list(other.messages)
        assert one.members.tolist() == other.members.tolist()


def test_composed_examples_that_are_not_drawn_any_more_are_left_out(tmp_path: Path) -> None:
    made = tuple(Composed((*TURNS, {"role": "system", "content": str(n)}), np.array([n])) for n in range(3))
    folder = save(Schedule(np.array([6, 7, 8]), ["x"] * 3, composed=made), tmp_path)
    table = pl.read_parquet(folder / "schedule.parquet").filter(pl.col("composed") != 1)
    table.write_parquet(folder / "schedule.parquet")
    found = Replay(schedule=folder).mix(POOL)
    assert found.draws.tolist() == [6, 7]
    assert [each.messages[2]["content"] for each in found.composed] == ["0", "2"]


def test_rows_are_found_by_content_wherever_they_stand(tmp_path: Path) -> None:
    given = Schedule(np.array([3, 1, 3, 0]), ["x"] * 4)
    other = shuffled(POOL)
    assert uids(other, Replay(schedule=save(given, tmp_path)).mix(other).draws) == list("dbda")


def test_any_row_of_the_content_will_do(tmp_path: Path) -> None:
    pool = pool_of({"uid": ["a", "b", "b"], "tokens": [1, 2, 2]})
    assert written(tmp_path, "uid,phase\nb,x\nb,x\n").mix(pool).draws.tolist() == [1, 1]


def test_a_spreadsheet_can_be_edited(tmp_path: Path) -> None:
    """Lines out of order, a position that is wrong, numbers as pandas writes them beside empty cells."""
    text = "draw,position,uid,phase,start,length,step\n7,99,c,late,8.0,16.0,0\n3,,a,early,,,1\n"
    found = written(tmp_path, text).mix(POOL)
    assert found.draws.tolist() == [2, 0]
    assert found.phases == ["late", "early"]
    assert (found.starts.tolist(), found.lengths.tolist(), found.steps.tolist()) == ([8, 0], [16, 8], [0, 1])


def test_the_trainer_cuts_where_no_step_is_given(tmp_path: Path) -> None:
    assert written(tmp_path, "uid,phase,step\na,x,\nb,x,\n").mix(POOL).steps is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uid,stage\na,x\n", "phase is missing; there are uid, stage"),
        ("uid,phase\n", "at least one draw"),
        ("uid,phase\na,x\nb,\n", "every draw must have a phase. Draw 1"),
        ("uid,phase\na,x\n,x\n", "every draw must have a uid. Draw 1"),
        ("uid,phase\na,x\nz,x\nz,x\n", "draws 1 rows that are not among the selected ones: z"),
        (
            "uid,phase\n" + "".join(f"u{n},x\n" for n in range(7)),
            "draws 7 rows .*: u0, u1, u2, u3, u4 and 2 more",
        ),
        ("uid,phase,step\na,x,0\nb,x,\n", "for all draws or for none. 1 have none"),
        ("uid,phase,step\na,x,1\n", "count up from 0.* Draw 0 has 1"),
        ("uid,phase,step\na,x,0\nb,x,2\n", "Draw 1 has 2 after 0"),
        ("uid,phase,step\na,x,0\nb,x,1\nc,x,0\n", "Draw 2 has 0 after 1"),
        ("uid,phase,step\na,x,first\n", "`step` must be empty or a whole number of at least 0. Got 'first'"),
        ("uid,phase,start,length\na,x,4,8\n", "lie within the row, of 8 tokens. Draw 0 has 4 and 8"),
        ("uid,phase,start,length\na,x,4,\n", "must both be given"),
        (
            "uid,phase,start,length\na,x,,\nc,x,0,4\n",
            "Draw 1, tokens 0 to 4, has none",
        ),
        ("uid,phase,composed\n,x,0\n", "composed.parquet does not exist"),
    ],
)
def test_a_file_that_is_no_schedule_of_the_rows_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        written(tmp_path, text).mix(POOL)


def test_a_piece_of_a_composed_example_is_refused(tmp_path: Path) -> None:
    save(Schedule(np.array([6]), ["x"], composed=(Composed(TURNS, np.array([0])),)), tmp_path)
    with pytest.raises(DataError, match="trained on whole. Draw 1 has a `length`"):
        written(tmp_path, "uid,phase,composed,start,length\na,x,,,\n,x,0,0,4\n").mix(POOL)


def test_composed_examples_stand_beside_pieces(tmp_path: Path) -> None:
    save(Schedule(np.array([6]), ["x"], composed=(Composed(TURNS, np.array([0])),)), tmp_path)
    found = written(tmp_path, "uid,phase,composed,start,length\nc,x,,8,16\n,x,0,,\n").mix(POOL)
    again = Replay(schedule=save(found, tmp_path)).mix(POOL)
    assert same(again, found)
    assert found.draws.tolist() == [2, 6]


def test_a_composed_example_that_is_not_there_is_refused(tmp_path: Path) -> None:
    save(Schedule(np.array([6]), ["x"], composed=(Composed(TURNS, np.array([0])),)), tmp_path)
    with pytest.raises(DataError, match="of 2 examples. It has 1"):
        written(tmp_path, "uid,phase,composed\n,x,1\n").mix(POOL)


@pytest.mark.parametrize(
    ("name", "message"), [("none.csv", "does not exist"), ("a.json", "a .parquet or .csv file")]
)
def test_a_file_that_cannot_be_one_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ConfigError, match=message):
        Replay(schedule=tmp_path / name).identity()


def test_the_content_counts_for_the_fingerprint_and_the_place_does_not(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    here, there = (written(folder, "uid,phase\na,x\n") for folder in (tmp_path, tmp_path / "other"))
    before: dict[str, Any] = here.identity()
    assert before == there.identity()
    assert written(tmp_path, "uid,phase\nb,x\n").identity() != before


def test_composed_examples_count_for_the_fingerprint(tmp_path: Path) -> None:
    mixer = Replay(
        schedule=save(Schedule(np.array([6]), ["x"], composed=(Composed(TURNS, np.array([0])),)), tmp_path)
    )
    before = mixer.identity()
    save(Schedule(np.array([6]), ["x"], composed=(Composed(TURNS, np.array([1])),)), tmp_path)
    assert mixer.identity() != before
