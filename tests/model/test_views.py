"""What the model is given of a row under each view, and which of its tokens are predicted."""

import numpy as np
import pytest
from passes import row

from curate.model.request import TokenRow, View
from curate.model.views import Input, input_of

BOS = frozenset({1})


def marked(ids: list[int], supervised: str, rejected: TokenRow | None = None) -> TokenRow:
    """A row; supervised: "x" for a target, "." for none, token by token."""
    mask = np.array([mark == "x" for mark in supervised], dtype=bool)
    return TokenRow(np.array(ids, dtype=np.int32), mask, rejected=rejected)


def parts(one: Input) -> tuple[list[int], list[int], list[int]]:
    return one.ids.tolist(), one.before.tolist(), one.target_ids.tolist()


NOTHING: tuple[list[int], list[int], list[int]] = ([], [], [])


def test_full_ends_before_its_last_target() -> None:
    given = marked([5, 6, 7, 8, 9], "..xx.")
    assert parts(input_of(given, View.FULL, BOS, whole=False)) == ([5, 6, 7], [1, 2], [7, 8])


def test_the_whole_row_keeps_the_same_targets() -> None:
    given = marked([5, 6, 7, 8, 9], "..xx.")
    assert parts(input_of(given, View.FULL, BOS, whole=True)) == ([5, 6, 7, 8, 9], [1, 2], [7, 8])


def test_every_target_has_the_place_before_it() -> None:
    given = marked([5, 6, 7, 8, 9, 10], ".xx..x")
    assert parts(input_of(given, View.FULL, BOS, whole=False)) == ([5, 6, 7, 8, 9], [0, 1, 4], [6, 7, 10])


def test_a_first_token_is_no_target() -> None:
    assert parts(input_of(marked([5, 6], "xx"), View.FULL, BOS, whole=False)) == ([5], [0], [6])


@pytest.mark.parametrize("given", [marked([5, 6], ".."), marked([5], "x"), marked([], "")])
@pytest.mark.parametrize("whole", [False, True])
def test_a_row_without_a_target_gives_nothing(given: TokenRow, whole: bool) -> None:
    assert parts(input_of(given, View.FULL, BOS, whole)) == NOTHING


def test_the_prompt_predicts_all_of_its_tokens_but_the_first() -> None:
    given = marked([5, 6, 7, 8, 9], "...xx")
    assert parts(input_of(given, View.PROMPT_ONLY, BOS, whole=False)) == ([5, 6], [0, 1], [6, 7])


def test_the_whole_prompt_has_its_last_token_and_no_other() -> None:
    given = marked([5, 6, 7, 8, 9], "...xx")
    assert parts(input_of(given, View.PROMPT_ONLY, BOS, whole=True)) == ([5, 6, 7], [0, 1], [6, 7])


def test_a_prompt_ends_at_the_first_turn() -> None:
    given = marked([5, 6, 7, 8, 9], "..x.x")
    assert parts(input_of(given, View.PROMPT_ONLY, BOS, whole=True)) == ([5, 6], [0], [6])


def test_a_row_without_a_target_is_all_prompt() -> None:
    given = marked([5, 6, 7], "...")
    assert parts(input_of(given, View.PROMPT_ONLY, BOS, whole=False)) == ([5, 6], [0, 1], [6, 7])


@pytest.mark.parametrize("given", [row([], [5, 6]), row([5], [6, 7]), row([], [])])
def test_a_prompt_of_one_token_or_none_gives_nothing(given: TokenRow) -> None:
    assert parts(input_of(given, View.PROMPT_ONLY, BOS, whole=True)) == NOTHING


def test_rejected_is_the_other_answer() -> None:
    given = marked([5, 6, 7], "..x", rejected=marked([5, 6, 8, 9], "..xx"))
    assert parts(input_of(given, View.REJECTED, BOS, whole=False)) == ([5, 6, 8], [1, 2], [8, 9])


def test_the_whole_of_the_rejected_answer() -> None:
    given = marked([5, 6, 7], "..x", rejected=marked([5, 6, 8, 9], "..x."))
    assert parts(input_of(given, View.REJECTED, BOS, whole=True)) == ([5, 6, 8, 9], [1], [8])


def test_a_row_without_a_rejected_answer_gives_nothing() -> None:
    assert parts(input_of(row([5], [6, 7]), View.REJECTED, BOS, whole=True)) == NOTHING


def test_the_response_alone_is_its_turns_end_to_end() -> None:
    given = marked([5, 6, 7, 8, 9, 10], "..xx.x")
    assert parts(input_of(given, View.RESPONSE_ONLY, BOS, whole=False)) == ([7, 8], [0, 1], [8, 10])


def test_the_response_alone_keeps_a_bos_before_it() -> None:
    given = marked([1, 5, 6, 7, 8], "...xx")
    assert parts(input_of(given, View.RESPONSE_ONLY, BOS, whole=False)) == ([1, 7], [0, 1], [7, 8])


def test_the_whole_response_has_its_last_token() -> None:
    given = marked([1, 5, 6, 7, 8], "...xx")
    assert parts(input_of(given, View.RESPONSE_ONLY, BOS, whole=True)) == ([1, 7, 8], [0, 1], [7, 8])


def test_a_token_that_opens_the_row_and_is_no_bos_is_not_kept() -> None:
    given = marked([2, 5, 6, 7, 8], "...xx")
    assert parts(input_of(given, View.RESPONSE_ONLY, BOS, whole=False)) == ([7], [0], [8])


def test_any_of_several_bos_tokens_is_kept() -> None:
    given = marked([2, 5, 6, 7, 8], "...xx")
    assert parts(input_of(given, View.RESPONSE_ONLY, frozenset({1, 2}), whole=False)) == (
        [2, 7],
        [0, 1],
        [7, 8],
    )


def test_one_token_of_context_is_no_prompt_to_be_without() -> None:
    assert parts(input_of(row([1], [7, 8]), View.RESPONSE_ONLY, BOS, whole=False)) == NOTHING


def test_the_types_are_those_of_the_pass() -> None:
    found = input_of(row([5], [6, 7]), View.FULL, BOS, whole=False)
    assert (found.ids.dtype, found.before.dtype, found.target_ids.dtype) == (np.int32, np.int64, np.int64)


@pytest.mark.parametrize("view", list(View))
def test_lengths_that_differ_are_refused_under_every_view(view: View) -> None:
    bad = TokenRow(np.array([5, 6], dtype=np.int32), np.array([True]))
    with pytest.raises(ValueError, match="must have one length. Got 2 and 1"):
        input_of(bad, view, BOS, whole=False)


def test_a_rejected_answer_of_two_lengths_is_refused() -> None:
    bad = TokenRow(np.array([5, 6], dtype=np.int32), np.array([True]))
    with pytest.raises(ValueError, match="must have one length. Got 2 and 1"):
        input_of(marked([5, 6], ".x", rejected=bad), View.REJECTED, BOS, whole=False)
