from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.clean.exact_duplicates import ExactDuplicates
from curate.cleaner import Duplicates, FrameColumns


def frame(pairs: Sequence[tuple[str, str]], **columns: Sequence[object]) -> pl.DataFrame:
    """Rows of (prompt, response); equal pairs have equal uids."""
    uids = [f"{hash(pair) % 2**64:032x}" for pair in pairs]
    schema = {"prompt": pl.String, "response": pl.String, "uid": pl.String}
    texts = [[prompt for prompt, _ in pairs], [response for _, response in pairs], uids]
    return pl.DataFrame(dict(zip(schema, texts, strict=True)), schema=schema).hstack(pl.DataFrame(columns))


def run(method: ExactDuplicates, rows: pl.DataFrame) -> Duplicates:
    return method.group(FrameColumns(rows.hstack(method.sign(rows))))


PAIRS = st.lists(st.tuples(st.sampled_from(["", "p", "q"]), st.sampled_from(["r", "R", "rr"])), max_size=12)


@given(pairs=PAIRS)
def test_the_first_of_equal_rows_survives(pairs: list[tuple[str, str]]) -> None:
    survivor = run(ExactDuplicates(), frame(pairs)).survivor
    assert survivor.tolist() == [pairs.index(pair) for pair in pairs]


@given(pairs=PAIRS)
def test_dropping_twice_drops_nothing_more(pairs: list[tuple[str, str]]) -> None:
    rows = frame(pairs)
    method = ExactDuplicates(of="response", keep="longest")
    kept = rows[np.unique(run(method, rows).survivor)]
    assert np.isnan(run(method, kept).similarity).all()


def test_equal_prompts_keep_the_longest_row() -> None:
    rows = frame([("p", "r"), ("p", "rrr"), ("q", "r"), ("p", "rr")])
    assert run(ExactDuplicates(of="prompt", keep="longest"), rows).survivor.tolist() == [1, 1, 2, 1]


def test_equal_responses_are_found() -> None:
    rows = frame([("p", "r"), ("q", "r"), ("p", "R")])
    assert run(ExactDuplicates(of="response"), rows).survivor.tolist() == [0, 0, 2]


def test_rows_without_a_prompt_are_not_duplicates_of_each_other() -> None:
    rows = frame([("", "r"), ("", "s"), ("", "t")])
    assert run(ExactDuplicates(of="prompt"), rows).survivor.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("keep", "expected"), [("loss", 1), ("-loss", 0)])
def test_a_score_decides_who_survives(keep: str, expected: int) -> None:
    rows = frame([("p", "r"), ("p", "r")], **{"score.loss": [1.0, 2.0]})
    assert run(ExactDuplicates(keep=keep), rows).survivor.tolist() == [expected] * 2


def test_unicode_forms_are_different_texts() -> None:
    rows = frame([("", "\u00e9"), ("", "e\u0301")])
    assert run(ExactDuplicates(of="response"), rows).survivor.tolist() == [0, 1]


def test_dropped_rows_are_wholly_alike() -> None:
    similarity = run(ExactDuplicates(), frame([("p", "r"), ("p", "r")])).similarity
    assert np.array_equal(similarity, [np.nan, 1.0], equal_nan=True)


def test_the_reason_names_what_is_equal_and_to_whom() -> None:
    assert ExactDuplicates(of="prompt").reason("chat:3", 1.0) == "the same prompt as chat:3"


def test_an_unreadable_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="keep"):
        ExactDuplicates(keep="the longest")
