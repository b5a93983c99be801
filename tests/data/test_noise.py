import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.data.noise import COPIES, NOISES, NoisyRow, corrupt, edited, gibberish, repeated, truncated
from curate.errors import ConfigError, DataError

SENTENCES = [f"Answer {n} names the {n * 7}th river of the country, and its length." for n in range(200)]
KEYS = [f"row-{n}" for n in range(200)]


def spoil(rate: float = 0.3, seed: int = 0, **options: object) -> list[NoisyRow]:
    return corrupt(KEYS, SENTENCES, rate, seed, **options)  # type: ignore[arg-type]


def of_kind(kind: str, **options: object) -> list[tuple[int, NoisyRow]]:
    return [(i, row) for i, row in enumerate(spoil(**options)) if row.corruption == kind]  # type: ignore[arg-type]


@given(rate=st.floats(0, 0.9), seed=st.integers(0, 2**40))
@settings(max_examples=30, deadline=None)
def test_rate_is_exact(rate, seed):
    rows = corrupt(KEYS, SENTENCES, rate, seed, ("gibberish", "truncated", "duplicate"))
    assert sum(row.corruption != "none" for row in rows) == round(rate * 200)


def test_kinds_share_evenly_and_the_first_get_the_rest():
    counts = Counter(row.corruption for row in spoil(rate=0.31))
    assert counts == {
        "none": 138, "shuffled": 11, "gibberish": 11, "truncated": 10,
        "repeated": 10, "duplicate": 10, "near_duplicate": 10,
    }  # fmt: skip


def test_rows_called_clean_are_untouched():
    rows = spoil()
    assert all(
        (row.origin, row.response) == (i, SENTENCES[i])
        for i, row in enumerate(rows)
        if row.corruption == "none"
    )


def test_only_copies_come_from_another_row():
    assert all((row.origin == i) != (row.corruption in COPIES) for i, row in enumerate(spoil()))


@given(
    responses=st.lists(
        st.sampled_from(["yes", "no", "perhaps", "why not", "later"]), min_size=30, max_size=60
    ),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=50, deadline=None)
def test_shuffled_is_never_the_same_response(responses, seed):
    keys = [str(n) for n in range(len(responses))]
    try:
        rows = corrupt(keys, responses, 0.8, seed, ("shuffled",))
    except DataError as error:
        assert "are equal" in str(error)
        return
    shuffled = [(responses[i], row.response) for i, row in enumerate(rows) if row.corruption == "shuffled"]
    assert all(before != after for before, after in shuffled)
    assert Counter(before for before, _ in shuffled) == Counter(after for _, after in shuffled)


def test_shuffled_raises_when_no_exchange_changes_every_response():
    with pytest.raises(DataError, match="4 responses must be exchanged .* but 4 of them are equal"):
        corrupt(list("abcdefgh"), ["same"] * 8, 0.5, 0, ("shuffled",))


def test_exactly_half_equal_responses_can_still_be_exchanged():
    rows = corrupt(list("abcde"), ["a", "b", "b", "c", "c"], 0.8, 0, ("shuffled",))
    assert [row.response for row in rows] == ["a", "c", "c", "b", "b"]


@given(st.text(min_size=1).filter(lambda text: any(sign.isalnum() for sign in text)), st.integers())
@settings(deadline=None)
def test_gibberish_changes_letters_and_keeps_the_layout(response, seed):
    text = gibberish(response, random.Random(seed))
    assert text != response
    assert [s for s in text if not s.isalnum()] == [s for s in response if not s.isalnum()]


@given(st.integers())
@settings(deadline=None)
def test_truncated_cuts_early_and_inside_a_word(seed):
    response = "The quick brown fox jumps over the lazy dog."
    text = truncated(response, random.Random(seed))
    assert response.startswith(text)
    assert 0.2 <= len(text) / len(response) <= 0.61
    assert response[len(text) - 1].isalnum() and response[len(text)].isalnum()


@given(st.text(min_size=1).filter(str.strip), st.integers())
@settings(deadline=None)
def test_repeated_says_its_opening_at_least_twice(response, seed):
    text = repeated(response, random.Random(seed))
    opening = response.split()[0]
    assert text != response
    assert text.startswith(opening) and text.split().count(opening) >= 2


@pytest.mark.parametrize("seed", range(8))
def test_repeated_changes_a_response_that_repeats_itself_already(seed):
    assert repeated("ha ha ha ha", random.Random(seed)) != "ha ha ha ha"


def test_repeated_keeps_about_the_length():
    lengths = [len(row.response) / len(SENTENCES[i]) for i, row in of_kind("repeated")]
    assert min(lengths) > 0.5 and max(lengths) <= 1.1


@given(st.text(min_size=1).filter(str.strip), st.integers())
@settings(deadline=None)
def test_near_duplicate_differs_by_one_edit(response, seed):
    text = edited(response, random.Random(seed))
    assert text != response
    assert abs(len(text.split()) - len(response.split())) <= 1


def test_copies_repeat_an_earlier_clean_row():
    rows = spoil(rate=0.6)
    copies = [(i, row) for i, row in enumerate(rows) if row.corruption in COPIES]
    assert all(row.origin < i and rows[row.origin].corruption == "none" for i, row in copies)


def test_exact_duplicates_are_exact_and_near_ones_are_not():
    assert all(row.response == SENTENCES[row.origin] for _, row in of_kind("duplicate"))
    assert all(row.response != SENTENCES[row.origin] for _, row in of_kind("near_duplicate"))


def test_no_spoiled_row_but_an_exact_copy_keeps_a_clean_response():
    clean = set(SENTENCES)
    rewritten = [row for row in spoil() if row.corruption in {"gibberish", "truncated", "repeated"}]
    assert not clean & {row.response for row in rewritten}


def test_same_seed_same_noise_other_seed_other_noise():
    assert spoil(seed=1) == spoil(seed=1)
    first, second = (
        {i for i, row in enumerate(spoil(seed=seed)) if row.corruption != "none"} for seed in (1, 2)
    )
    assert first != second


def test_which_rows_are_spoiled_does_not_depend_on_their_order():
    order = [0, *random.Random(0).sample(range(1, 200), 199)]
    rows = corrupt([KEYS[i] for i in order], [SENTENCES[i] for i in order], 0.3, 5)
    again = {KEYS[i]: row.corruption for i, row in zip(order, rows, strict=True)}
    assert again == {key: row.corruption for key, row in zip(KEYS, spoil(seed=5), strict=True)}


def test_rows_too_short_to_truncate_are_left_alone():
    responses = ["long enough to be cut"] + ["a b c"] * 30 + ["long enough to be cut"] * 10
    rows = corrupt([str(n) for n in range(41)], responses, 0.2, 3, ("truncated",))
    assert {i for i, row in enumerate(rows) if row.corruption == "truncated"} <= set(range(31, 41))


@pytest.mark.parametrize(
    ("keys", "responses", "rate", "kinds", "error", "message"),
    [
        (["a", "b"], ["x", "y"], 1.5, NOISES, ConfigError, r"`rate` must be within \[0, 1\]. Got 1.5"),
        (["a", "b"], ["x", "y"], 0.5, (), ConfigError, "must be different ones"),
        (["a", "b"], ["x", "y"], 0.5, ("shuffled", "shuffled"), ConfigError, "must be different ones"),
        (["a", "b"], ["x", "y"], 0.5, ("typos",), ConfigError, r"Got \['typos'\]"),
        (["a"], ["x", "y"], 0.5, NOISES, DataError, "1 keys for 2 responses"),
        (["a", "a"], ["x", "y"], 0.5, NOISES, DataError, "`a` is not"),
        (["a", "b"], ["x", " \n"], 0.5, NOISES, DataError, "That of `b` is"),
        (["a", "b"], ["x", "y"], 0.5, ("truncated",), DataError, "only 0 of the 1"),
        (["a", "b"], ["x", "y"], 1.0, ("duplicate",), DataError, "2 rows must become `duplicate`"),
    ],
)
def test_what_cannot_be_done_is_said(keys, responses, rate, kinds, error, message):
    with pytest.raises(error, match=message):
        corrupt(keys, responses, rate, 0, kinds)


def test_no_rows_and_no_noise_are_fine():
    assert corrupt([], [], 0.3, 0) == []
    assert all(row.corruption == "none" for row in spoil(rate=0.0))
