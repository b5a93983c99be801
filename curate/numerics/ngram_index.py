"""N-gram index: which texts of a small set share word n-grams with the texts of a large one.

A text's words: Unicode NFKC, lower case; apostrophes and invisible format characters vanish, any other punctuation,
symbol, control or white space separates; each character of a script that is written without spaces (Han, kana, Thai,
Lao, Burmese, Khmer) is a word. So `a+b` and `a-b` are the same words, and 13 words of Chinese are 13 characters.
Its n-grams are all runs of n words; a text of fewer words has one, itself; a text without words has none.

Memory is O(n-grams of the indexed texts); a text is looked up in O(its bytes).
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curate.numerics.shingles import shingle_hashes

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
"""Code points, first and last, of scripts that are written without spaces."""

_APOSTROPHES = "'\u2019\u02bc"
_FILTER_BITS = 24


class _Separators(dict[int, str | None]):
    """What takes the place of a character, by code point, found when first asked for."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        found: str | None = character
        if character in _APOSTROPHES or category == "Cf":
            found = None
        elif category[0] in "PSZC":
            found = " "
        elif any(first <= code <= last for first, last in UNSPACED):
            found = f" {character} "
        self[code] = found
        return found


_SEPARATORS = _Separators()
_ASCII = bytes(ord(_SEPARATORS[code] or " ") for code in range(128)) + bytes(128)


def plain_words(text: str) -> list[str]:
    """The words of a text; see the module."""
    return _plain(text).split()


def ngram_hashes(texts: Sequence[str], words: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The n-grams of each text, in order: hashes, uint64 [all n-grams], and offsets, int64 [texts + 1].

    words: n. Text i has hashes[offsets[i]:offsets[i + 1]].
    """
    return shingle_hashes([_plain(text) for text in texts], words, "word")


def _plain(text: str) -> str:
    if text.isascii():
        return text.encode().replace(b"'", b"").translate(_ASCII).decode().lower()
    return unicodedata.normalize("NFKC", text).lower().translate(_SEPARATORS)


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, …, of so many numbers, for each start, one after another, int64 [sum of lengths]."""
    before = np.cumsum(lengths) - lengths
    numbers: NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return numbers


@dataclass(frozen=True)
class NgramIndex:
    """The n-grams of a set of texts, both ways.

    hashes: uint64 [n], ascending, each once. N-gram i is in the texts texts[starts[i]:starts[i + 1]], ascending;
    starts: int64 [n + 1]; texts: int64 [postings]. Text t has the n-grams ngrams[offsets[t]:offsets[t + 1]],
    ascending, each once; offsets: int64 [texts + 1]; ngrams: int64 [postings]. prompts: int64 [n], how many
    different prompts the texts with n-gram i have.
    """

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    texts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    ngrams: NDArray[np.int64]
    prompts: NDArray[np.int64]

    def save(self, folder: Path) -> None:
        """Write each array as `<name>.npy`."""
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name))

    @classmethod
    def load(cls, folder: Path) -> "NgramIndex":
        """Read what `save` wrote."""
        return cls(**{field.name: np.load(folder / f"{field.name}.npy") for field in fields(cls)})

    @cached_property
    def _filter(self) -> NDArray[np.bool_]:
        """Whether an n-gram's hash begins with these bits: spares most searches."""
        table = np.zeros(1 << _FILTER_BITS, dtype=np.bool_)
        table[self.hashes >> np.uint64(64 - _FILTER_BITS)] = True
        return table

    def found(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The n-gram of each hash, int64 [hashes]; -1 where there is none."""
        found = np.full(len(hashes), -1, dtype=np.int64)
        likely = np.flatnonzero(self._filter[hashes >> np.uint64(64 - _FILTER_BITS)])
        if len(self.hashes):
            places = np.minimum(np.searchsorted(self.hashes, hashes[likely]), len(self.hashes) - 1)
            same = self.hashes[places] == hashes[likely]
            found[likely[same]] = places[same]
        return found

    def held(
        self, hashes: NDArray[np.uint64], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which n-grams of the index other texts hold: the text of each, and the n-gram, both int64.

        Ascending by text, then n-gram; each once. hashes, offsets: as `ngram_hashes` returns them.
        """
        found = self.found(hashes)
        hits = np.flatnonzero(found >= 0)
        owner = np.searchsorted(offsets, hits, side="right") - 1
        keys = np.unique(owner * len(self.hashes) + found[hits])
        return np.divmod(keys, max(1, len(self.hashes)))

    def shared(
        self, owner: NDArray[np.int64], ngrams: NDArray[np.int64], common: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of a text that holds n-grams and an indexed text that shares one that is not common.

        owner, ngrams: as from `held`. common: bool [n]. Returns the owner and the indexed text of each pair,
        ascending, and how many n-grams the two share, common ones included, all int64 [pairs].
        """
        telling = ~common[ngrams]
        starts = self.starts[ngrams[telling]]
        lengths = self.starts[ngrams[telling] + 1] - starts
        count = max(1, len(self.offsets) - 1)
        pairs = np.unique(np.repeat(owner[telling], lengths) * count + self.texts[ranges(starts, lengths)])
        first, second = np.divmod(pairs, count)
        sizes = self.sizes[second]
        candidates = self.ngrams[ranges(self.offsets[second], sizes)]
        pair = np.repeat(np.arange(len(pairs)), sizes)
        held = owner * len(self.hashes) + ngrams
        wanted = first[pair] * len(self.hashes) + candidates
        places = np.minimum(np.searchsorted(held, wanted), max(0, len(held) - 1))
        counts = np.bincount(pair[held[places] == wanted], minlength=len(pairs))
        return first, second, counts.astype(np.int64)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """How many different n-grams each text has, int64 [texts]."""
        return np.diff(self.offsets)

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """The text of each element of `ngrams`, int64 [postings]."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def make_index(
    hashes: NDArray[np.uint64], offsets: NDArray[np.int64], prompts: NDArray[np.int64]
) -> NgramIndex:
    """The index of texts. hashes, offsets: as `ngram_hashes` returns them; prompts: int64 [texts], a code of each."""
    texts = len(offsets) - 1
    unique, inverse = np.unique(hashes, return_inverse=True)
    keys = np.unique(inverse * max(1, texts) + np.repeat(np.arange(texts), np.diff(offsets)))
    ngrams, owners = np.divmod(keys, max(1, texts))
    by_text = np.argsort(owners, kind="stable")
    return NgramIndex(
        hashes=unique,
        starts=np.searchsorted(ngrams, np.arange(len(unique) + 1)),
        texts=owners,
        offsets=np.searchsorted(owners[by_text], np.arange(texts + 1)),
        ngrams=ngrams[by_text],
        prompts=np.bincount(_distinct(ngrams, prompts[owners])[0], minlength=len(unique)),
    )


def _distinct(
    first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different pairs, ascending, int64."""
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    new = np.ones(len(first), dtype=np.bool_)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return first[new], second[new]


class Spread:
    """Which n-grams come under more than `most` different prompts, block by block; the order of blocks says nothing.

    Holds at most `most` prompts for each n-gram.
    """

    def __init__(self, count: int, most: int) -> None:
        self._most = most
        self.above = np.zeros(count, dtype=np.bool_)
        """Whether an n-gram came under more, bool [n]."""
        self.texts = np.zeros(count, dtype=np.int64)
        """How many texts hold it, int64 [n]."""
        self._ngrams, self._prompts = np.zeros((2, 0), dtype=np.int64)

    def add(self, ngrams: NDArray[np.int64], prompts: NDArray[np.int64]) -> None:
        """Texts that hold an n-gram, and their prompts, both int64 [hits]; each text once for each n-gram."""
        self.texts += np.bincount(ngrams, minlength=len(self.texts))
        below = ~self.above[ngrams]
        ngrams = np.concatenate([self._ngrams, ngrams[below]])
        ngrams, prompts = _distinct(ngrams, np.concatenate([self._prompts, prompts[below]]))
        self.above |= np.bincount(ngrams, minlength=len(self.above)) > self._most
        left = ~self.above[ngrams]
        self._ngrams, self._prompts = ngrams[left], prompts[left]
