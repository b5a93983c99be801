"""Hashed n-grams: words, their runs, and buckets."""

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.numerics import hashed_ngrams
from curate.numerics.hashed_ngrams import bucket_counts, bucket_sums, ngram_hashes

MANY = 1 << 40
"""So many buckets that hashes do not collide."""


def counted(texts: list[str], n: int) -> tuple[int, list[int]]:
    """The number of distinct n-grams, and how often each occurs, ascending, by hashes."""
    hashes = np.concatenate([found for found, _ in ngram_hashes(texts, n)])
    distinct, counts = np.unique(hashes, return_counts=True)
    return len(distinct), sorted(counts.tolist())


def plain(texts: list[str], n: int) -> tuple[int, list[int]]:
    """The same by a regular expression and a dictionary."""
    counts: dict[tuple[str, ...], int] = {}
    for text in texts:
        words = re.findall(r"(?:\w|[^\x00-\x7f])+|[!-/:-@\[-^`{-~\x00-\x08\x0e-\x1b\x7f]+", text.lower())
        for size in range(1, n + 1):
            for place in range(len(words) - size + 1):
                run = tuple(words[place : place + size])
                counts[run] = counts.get(run, 0) + 1
    return len(counts), sorted(counts.values())


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(alphabet="aAbé_1 .,\n\t!-", max_size=20), max_size=8), n=st.integers(1, 3))
def test_equals_a_dictionary_of_runs(texts: list[str], n: int) -> None:
    assert counted(texts, n) == plain(texts, n)


def test_case_does_not_count_and_order_does() -> None:
    (words, _), (pairs, _) = ngram_hashes(["One two", "one TWO", "two one"], 2)
    assert words.tolist() == [words[0], words[1]] * 2 + [words[1], words[0]]
    assert pairs[0] == pairs[1] != pairs[2]


def test_punctuation_is_a_word_of_its_own() -> None:
    assert counted(["don't"], 1)[0] == 3


def test_runs_do_not_cross_texts() -> None:
    (_, _), (pairs, owners) = ngram_hashes(["a b", "c d e"], 2)
    assert (len(pairs), owners.tolist()) == (3, [0, 1, 1])


def test_the_hash_is_the_same_for_ever() -> None:
    """Selections of old runs hang on it."""
    (words, _), (pairs, _) = ngram_hashes(["hello world"], 2)
    assert [int(each) for each in (*words, *pairs)] == [
        3370726889380771467,
        5533125022900265939,
        10249681786480089555,
    ]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_do_not_change_counts_and_sums(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a b c", "", "a a", " , ", "b c d e f"]
    weights = np.random.default_rng(0).normal(size=50)
    counts, (sums, sizes) = bucket_counts(texts, 2, 50), bucket_sums(texts, 2, weights)
    monkeypatch.setattr(hashed_ngrams, "_BLOCK_BYTES", block)
    assert bucket_counts(texts, 2, 50).tolist() == counts.tolist()
    again = bucket_sums(texts, 2, weights)
    assert again[0].tolist() == sums.tolist()
    assert again[1].tolist() == sizes.tolist() == [5, 0, 3, 1, 9]


@pytest.mark.parametrize("text", ["abcd efgh ", "数据选择 方法 "])
def test_memory_is_of_a_block_in_bytes_however_many_a_character_takes(text: str) -> None:
    texts = [text * 100] * (3_000_000 // len(text * 100))
    tracemalloc.start()
    bucket_counts(texts, 2, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128 * 2**20


def test_sums_are_of_the_counts() -> None:
    texts, weights = ["a b a", "c", ""], np.arange(20.0)
    sums, _ = bucket_sums(texts, 2, weights)
    for text, value in zip(texts, sums, strict=True):
        assert value == bucket_counts([text], 2, 20) @ weights


def test_no_text() -> None:
    assert bucket_counts([], 2, 4).tolist() == [0, 0, 0, 0]
    assert bucket_sums([], 2, np.zeros(4))[0].tolist() == []
