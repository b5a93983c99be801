"""The n-gram index against plain sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.numerics.ngram_index import (
    NgramIndex,
    Spread,
    make_index,
    ngram_hashes,
    plain_words,
    ranges,
)

TEXTS = st.lists(st.text("ab c.", max_size=24), max_size=6)


def naive(text: str, n: int) -> set[tuple[str, ...]]:
    words = plain_words(text)
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} - {()}


def indexed(texts: list[str], n: int) -> NgramIndex:
    return make_index(*ngram_hashes(texts, n), np.arange(len(texts)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't STOP; it\u2019s 3.14!", ["dont", "stop", "its", "3", "14"]),
        ("snake_case(x)+y", ["snake", "case", "x", "y"]),
        ("日本語テスト abc", [*"日本語テスト", "abc"]),
        ("สวัสดี", list("สวัสดี")),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("\uff21\uff22 \u00bd", ["ab", "1", "2"]),
        ("soft\u00adhyphen zero\u200dwidth", ["softhyphen", "zerowidth"]),
        ("line\nfeed\u2028other\u00a0space", ["line", "feed", "other", "space"]),
        ("\u2026!? \U0001f600 --", []),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert plain_words(text) == words


def test_letters_with_and_without_composition_are_the_same_words() -> None:
    assert plain_words("Cafe\u0301") == plain_words("caf\u00e9")


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_pairs_share_what_sets_of_ngrams_share(own: list[str], others: list[str], n: int) -> None:
    index = indexed(own, n)
    held = index.held(*ngram_hashes(others, n))
    nothing_common = np.zeros(len(index.hashes), dtype=np.bool_)
    found = {(a, b): c for a, b, c in zip(*index.shared(*held, nothing_common), strict=True)}
    wanted = {
        (a, b): len(naive(other, n) & naive(text, n))
        for a, other in enumerate(others)
        for b, text in enumerate(own)
    }
    assert found == {pair: count for pair, count in wanted.items() if count}


@given(TEXTS, TEXTS, st.integers(1, 3), st.integers(0, 7))
def test_common_ngrams_make_no_pair_and_count_in_those_there_are(
    own: list[str], others: list[str], n: int, every: int
) -> None:
    index = indexed(own, n)
    common = np.arange(len(index.hashes)) % (every + 1) == 0
    owner, ngrams = index.held(*ngram_hashes(others, n))
    rare = [set(ngrams[(owner == a) & ~common[ngrams]]) for a in range(len(others))]
    of = [set(index.ngrams[index.offsets[b] : index.offsets[b + 1]]) for b in range(len(own))]
    wanted = [
        (a, b, len(naive(others[a], n) & naive(own[b], n)))
        for a in range(len(others))
        for b in range(len(own))
        if rare[a] & of[b]
    ]
    assert [
        tuple(map(int, pair)) for pair in zip(*index.shared(owner, ngrams, common), strict=True)
    ] == wanted


@given(TEXTS, st.integers(1, 4))
def test_sizes_are_those_of_sets(texts: list[str], n: int) -> None:
    assert indexed(texts, n).sizes.tolist() == [len(naive(text, n)) for text in texts]


def test_different_prompts_are_counted_once_each() -> None:
    index = make_index(*ngram_hashes(["a b", "a b", "a b", "c d"], 2), np.array([7, 7, 9, 7]))
    (place,) = index.found(ngram_hashes(["a b"], 2)[0])
    assert index.prompts[place] == 2


def test_an_index_is_read_as_it_was_written(tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    index = indexed(["a b c", "b c d"], 2)
    index.save(tmp_path)
    again = NgramIndex.load(tmp_path)
    assert again.hashes.tolist() == index.hashes.tolist()
    assert again.ngrams.tolist() == index.ngrams.tolist()


HITS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=40)


@given(HITS, st.integers(1, 4), st.integers(1, 7))
def test_spread_is_that_of_sets_for_any_blocks(hits: list[tuple[int, int]], most: int, block: int) -> None:
    spread = Spread(4, most)
    for start in range(0, len(hits), block):
        part = np.array(hits[start : start + block], dtype=np.int64)
        spread.add(part[:, 0], part[:, 1])
    prompts = [{prompt for ngram, prompt in hits if ngram == each} for each in range(4)]
    assert spread.above.tolist() == [len(each) > most for each in prompts]
    assert spread.texts.tolist() == [sum(ngram == each for ngram, _ in hits) for each in range(4)]


def test_ranges_one_after_another() -> None:
    assert ranges(np.array([5, 0, 2]), np.array([2, 0, 3])).tolist() == [5, 6, 2, 3, 4]
