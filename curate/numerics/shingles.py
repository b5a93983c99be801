"""Shingles: the n-grams of a text, as 64-bit hashes, for a whole batch of texts at once.

A text is normalised (Unicode NFC, lower case, each run of whitespace one space, none at the ends).
Its units are words (what whitespace separates) or characters (code points). Its shingles are all runs
of `ngram` units; a text with fewer units has one shingle, itself; an empty text has none.

Every shingle is a range of bytes [s, e) of the UTF-8 text, hashed in constant time from prefix sums of
the polynomial H(j) = Σ_{i<j} T[byte_i]·P^i mod 2^64 (Karp and Rabin 1987, with a random table T per
byte): hash = mix((H(e) − H(s))·P^−s), with mix the finaliser of splitmix64. O(bytes), 24 bytes of
memory per byte of a block. Not safe against texts that are made to collide.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["word", "character"]

_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)
_BLOCK_BYTES = 1 << 21


def normalise(text: str) -> str:
    """The text whose shingles are taken: NFC, lower case, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), a bijection of uint64, any shape."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def shingle_hashes(
    texts: Sequence[str], ngram: int, unit: Unit
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The shingles of each text, in order, repeats included.

    Returns hashes, uint64 [all shingles], and offsets, int64 [texts + 1]: text i has
    hashes[offsets[i]:offsets[i + 1]]. The same for any batch of texts.
    """
    encoded = [normalise(text).encode() for text in texts]
    lengths = np.array([len(text) for text in encoded], dtype=np.int64)
    blocks = list(_blocks(lengths))
    widest = max((int(lengths[first:after].sum()) for first, after in blocks), default=0) + 1
    powers, inverses = _powers(_BASE, widest), _powers(_INVERSE, widest)
    hashes: list[NDArray[np.uint64]] = []
    counts: list[NDArray[np.int64]] = []
    for first, after in blocks:
        block = np.frombuffer(b"".join(encoded[first:after]), dtype=np.uint8)
        row_ends = np.cumsum(lengths[first:after])
        starts, ends, count = _ranges(block, row_ends, ngram, unit)
        prefix = np.zeros(len(block) + 1, dtype=np.uint64)
        np.cumsum(_TABLE[block] * powers[: len(block)], out=prefix[1:])
        hashes.append(mix((prefix[ends] - prefix[starts]) * inverses[starts]))
        counts.append(count)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    if counts:
        np.cumsum(np.concatenate(counts), out=offsets[1:])
    return np.concatenate([*hashes, np.zeros(0, dtype=np.uint64)]), offsets


def _blocks(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of texts of at most `_BLOCK_BYTES` together; a longer text is alone."""
    first, held = 0, 0
    for index, length in enumerate(lengths.tolist()):
        if index > first and held + length > _BLOCK_BYTES:
            yield first, index
            first, held = index, 0
        held += length
    if len(lengths):
        yield first, len(lengths)


def _ranges(
    block: NDArray[np.uint8], row_ends: NDArray[np.int64], ngram: int, unit: Unit
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First byte and end byte of each shingle in the block, and the number of shingles per row."""
    row_starts = np.concatenate([[0], row_ends[:-1]]).astype(np.int64)
    filled = row_ends > row_starts
    if unit == "word":
        starts_here, ends_here = np.zeros((2, len(block) + 1), dtype=np.bool_)
        starts_here[1:] = ends_here[:-1] = block == 0x20
        starts_here[row_starts[filled]] = ends_here[row_ends[filled]] = True
        starts, ends = np.flatnonzero(starts_here), np.flatnonzero(ends_here)
    else:
        starts = np.flatnonzero((block & 0xC0) != 0x80)
        ends = np.concatenate([starts[1:], [len(block)]]).astype(np.int64)[: len(starts)]
    first_unit = np.searchsorted(starts, row_starts)
    units = np.searchsorted(starts, row_ends) - first_unit
    count = np.where(units >= ngram, units - ngram + 1, np.minimum(units, 1))
    before = np.cumsum(count) - count
    unit_index = np.arange(count.sum()) + np.repeat(first_unit - before, count)
    span = np.repeat(np.minimum(units, ngram), count)
    return starts[unit_index], ends[unit_index + span - 1], count.astype(np.int64)


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, out=powers)


_TABLE = mix(np.arange(1, 257, dtype=np.uint64) * np.uint64(_BASE))
