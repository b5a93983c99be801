"""Hashed n-grams of words: counts in buckets, and sums of a weight per bucket, for a whole batch of texts.

A text is lower-cased and cut into words (letters, digits, `_`, and everything that is not ASCII) and runs of ASCII
punctuation; whitespace separates. Its n-grams are the words and all runs of 2 to n words. A word's hash is
mix(Σ_i T[byte_i]·P^i mod 2^64) with a random table T, that of a run is mix(P·hash of the run without its last word +
hash of the last word); the bucket is the hash modulo the number of buckets. The same on every machine.

O(bytes); about 50 bytes of memory per byte of a block, and blocks are 2 MiB of text; a longer text is a block of its
own. Not safe against texts that are made to collide.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from curate.numerics.shingles import mix

_BASE = np.uint64(0x9E3779B97F4A7C15)
_BLOCK_BYTES = 1 << 21
_TABLE = mix(np.arange(1, 257, dtype=np.uint64) * np.uint64(0xD6E8FEB86659FD93))
_SPACE, _WORD, _PUNCTUATION = range(3)


def _kinds() -> NDArray[np.int8]:
    """The kind of each byte, int8 [256]."""
    kinds = np.full(256, _PUNCTUATION, dtype=np.int8)
    kinds[0x80:] = _WORD
    kinds[[byte for byte in range(0x80) if chr(byte).isalnum() or chr(byte) == "_"]] = _WORD
    kinds[[byte for byte in range(0x80) if chr(byte).isspace()]] = _SPACE
    return kinds


_KINDS = _kinds()


def bucket_counts(texts: Sequence[str], n: int, buckets: int) -> NDArray[np.int64]:
    """How many n-grams of all texts fall into each bucket, int64 [buckets]."""
    counts = np.zeros(buckets, dtype=np.int64)
    for _, places, _ in _hashed(texts, n, buckets):
        counts += np.bincount(places, minlength=buckets)
    return counts


def bucket_sums(
    texts: Sequence[str], n: int, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Σ of the weights of each text's n-grams, float64 [texts], and how many it has, int64 [texts].

    weights: float64 [buckets].
    """
    sums, sizes = np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
    for block, places, owners in _hashed(texts, n, len(weights)):
        count = block.stop - block.start
        sums[block] += np.bincount(owners, weights=weights[places], minlength=count)
        sizes[block] += np.bincount(owners, minlength=count)
    return sums, sizes


def ngram_hashes(texts: Sequence[str], n: int) -> list[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """The hashes of the texts' 1-grams, 2-grams, … n-grams, uint64 [n-grams], and the text of each, int64."""
    return _hashes([text.lower().encode() for text in texts], n)


def _hashes(encoded: Sequence[bytes], n: int) -> list[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    block = np.frombuffer(b" ".join([*encoded, b""]), dtype=np.uint8)
    kinds = _KINDS[block]
    is_start = kinds != _SPACE
    is_start[1:] &= kinds[1:] != kinds[:-1]
    starts = np.flatnonzero(is_start)
    ends = np.cumsum([len(text) + 1 for text in encoded])
    owners = np.searchsorted(ends, starts, side="right")
    if not len(starts):
        nothing = (np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64))
        return [nothing] * n
    word = np.cumsum(is_start) - 1
    offsets = np.arange(len(block)) - starts[np.maximum(word, 0)]
    powers = np.full(int(offsets.max(initial=0)) + 1, _BASE, dtype=np.uint64)
    powers[0] = 1
    np.cumprod(powers, out=powers)
    values = _TABLE[block] * powers[np.maximum(offsets, 0)]
    values[kinds == _SPACE] = 0
    words = mix(np.add.reduceat(values, starts))
    found, runs = [(words, owners)], words
    for size in range(2, n + 1):
        runs = mix(runs[:-1] * _BASE + words[size - 1 :])
        inside = owners[: len(runs)] == owners[size - 1 :]
        found.append((runs[inside], owners[: len(runs)][inside]))
    return found


def _hashed(
    texts: Sequence[str], n: int, buckets: int
) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks of texts, with the bucket of each n-gram and its text's place in the block."""
    first, held, encoded = 0, 0, list[bytes]()
    for place in range(len(texts) + 1):
        text = texts[place].lower().encode() if place < len(texts) else b""
        if encoded and (place == len(texts) or held + len(text) > _BLOCK_BYTES):
            for hashes, owners in _hashes(encoded, n):
                yield slice(first, place), (hashes % np.uint64(buckets)).astype(np.int64), owners
            first, held, encoded = place, 0, []
        held += len(text)
        encoded.append(text)
