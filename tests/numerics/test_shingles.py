import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.numerics import shingles
from curate.numerics.shingles import Unit, normalise, shingle_hashes

TEXTS = st.lists(st.text(alphabet="ab \n\u00e9\u4e2d\U0001f600", max_size=24), max_size=8)
UNITS = st.sampled_from(["word", "character"])


def plain_shingles(text: str, ngram: int, unit: Unit) -> list[str]:
    normal = normalise(text)
    units = normal.split(" ") if unit == "word" else list(normal)
    if not normal:
        return []
    if len(units) < ngram:
        return [normal]
    join = " " if unit == "word" else ""
    return [join.join(units[i : i + ngram]) for i in range(len(units) - ngram + 1)]


def of_text(text: str, ngram: int = 2, unit: Unit = "word") -> list[int]:
    return shingle_hashes([text], ngram, unit)[0].tolist()


@given(texts=TEXTS, ngram=st.integers(1, 4), unit=UNITS)
def test_hashes_are_equal_exactly_where_the_n_grams_are(texts: list[str], ngram: int, unit: Unit) -> None:
    hashes, offsets = shingle_hashes(texts, ngram, unit)
    plain = [plain_shingles(text, ngram, unit) for text in texts]
    assert np.diff(offsets).tolist() == [len(grams) for grams in plain]
    flat = [gram for grams in plain for gram in grams]
    assert len(set(zip(flat, hashes.tolist(), strict=True))) == len(set(flat)) == len(set(hashes.tolist()))


@given(texts=TEXTS, unit=UNITS)
def test_a_text_has_the_same_hashes_in_any_batch(texts: list[str], unit: Unit) -> None:
    together = shingle_hashes(texts, 3, unit)[0].tolist()
    assert together == [value for text in texts for value in of_text(text, 3, unit)]


def test_texts_cut_into_blocks_have_the_same_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a b c d", "", "a longer text than a block is", "é é", ""]
    whole = shingle_hashes(texts, 2, "word")
    monkeypatch.setattr(shingles, "_BLOCK_BYTES", 8)
    cut = shingle_hashes(texts, 2, "word")
    assert all(np.array_equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_case_and_whitespace_make_no_difference() -> None:
    assert of_text(" One\n two\tTHREE ") == of_text("one two three")


def test_composed_and_decomposed_letters_are_the_same() -> None:
    text = "caf\u00e9 cr\u00e8me"
    assert of_text(unicodedata.normalize("NFD", text)) == of_text(text)


def test_ideographic_space_separates_words() -> None:
    assert len(of_text("\u6771\u4eac\u3000\u5927\u962a\u3000\u540d\u53e4\u5c4b")) == 2


def test_a_short_text_is_its_own_shingle() -> None:
    assert len(of_text("one two", ngram=5)) == 1
    assert of_text("one two", ngram=5) != of_text("two one", ngram=5)


def test_an_empty_text_has_none() -> None:
    assert of_text(" \n ") == []


def test_no_texts_give_no_shingles() -> None:
    hashes, offsets = shingle_hashes([], 5, "word")
    assert hashes.tolist() == [] and offsets.tolist() == [0]


def test_a_million_different_n_grams_do_not_collide() -> None:
    text = " ".join(str(number) for number in range(300_000))
    hashes = shingle_hashes([text], 5, "word")[0]
    assert len(set(hashes.tolist())) == len(hashes) == 299_996


def test_the_hash_is_the_formula_in_exact_integers() -> None:
    def mixed(value: int) -> int:
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        return value ^ (value >> 31)

    base = 0x9E3779B97F4A7C15
    table = [mixed((byte + 1) * base % 2**64) for byte in range(256)]
    expected = [
        mixed(sum(table[byte] * base**place for place, byte in enumerate(gram.encode())) % 2**64)
        for gram in ("one two", "two three")
    ]
    assert of_text("one two three") == expected


def test_a_composed_letter_is_one_character() -> None:
    assert len(of_text("e\u0301e\u0301", ngram=1, unit="character")) == 2
