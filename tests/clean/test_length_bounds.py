import polars as pl
import pytest

from curate.clean.length_bounds import LengthBounds


def judge(method: LengthBounds, prompt: str, response: str) -> str | None:
    return method.judge(pl.DataFrame({"prompt": [prompt], "response": [response]}))[0]


@pytest.mark.parametrize(
    ("bounds", "response", "reason"),
    [
        ({"min_words": 8}, "only three words", "response has 3 words, at least 8 asked"),
        ({"min_words": 3}, "only three words", None),
        ({"max_words": 3}, "only three words", None),
        ({"max_words": 2}, "only three words", "response has 3 words, at most 2 asked"),
        ({"min_words": 2}, " one\n", "response has 1 word, at least 2 asked"),
        ({"min_characters": 3}, "\u00e9\U0001f600", "response has 2 characters, at least 3 asked"),
        ({"max_characters": 2}, "\u00e9\U0001f600", None),
        ({"max_characters": 0}, "x", "response has 1 character, at most 0 asked"),
        ({"min_words": 2, "min_characters": 9}, "x", "response has 1 word, at least 2 asked"),
        ({"min_words": 1, "min_characters": 9}, "x", "response has 1 character, at least 9 asked"),
        ({"min_words": 2}, "one\u3000two", None),
    ],
)
def test_bounds(bounds: dict[str, int], response: str, reason: str | None) -> None:
    assert judge(LengthBounds(**bounds), "", response) == reason


def test_the_prompt_may_be_measured() -> None:
    found = judge(LengthBounds(of="prompt", min_words=2), "hello", "a long enough answer")
    assert found == "prompt has 1 word, at least 2 asked"


def test_a_row_is_prompt_and_response_together() -> None:
    assert judge(LengthBounds(of="row", max_characters=3), "p", "r") is None
    assert (
        judge(LengthBounds(of="row", max_characters=2), "p", "r") == "row has 3 characters, at most 2 asked"
    )
    assert judge(LengthBounds(of="row", max_characters=2), "", "rr") is None


def test_rows_are_judged_in_order() -> None:
    rows = pl.DataFrame({"prompt": ["", "", ""], "response": ["x", "x y", ""]})
    assert [reason is None for reason in LengthBounds(min_words=1, max_words=1).judge(rows)] == [
        True,
        False,
        False,
    ]


def test_no_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one of min_words"):
        LengthBounds()


def test_bounds_that_nothing_satisfies_are_refused() -> None:
    with pytest.raises(ValueError, match="min_words must be at most max_words. Got 3 and 2"):
        LengthBounds(min_words=3, max_words=2)
