"""Randomness that depends on (seed, names, key) alone: never on a worker, a batch or an order."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def derive(seed: int, *names: str) -> int:
    """A 63-bit seed for a named purpose, independent for different names."""
    digest = hashlib.blake2b("\x1f".join((str(seed), *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def uniform(
    seed: int, keys: Sequence[str], occurrences: NDArray[np.integer] | None = None
) -> NDArray[np.float64]:
    """One number in (0, 1) per key, float64 [keys], the same wherever the key stands.

    occurrences: int [keys], the how-many-eth row of an equal key this is, so that exact duplicates
    draw independently. O(n) hashes, about a microsecond each.
    """
    salt = seed.to_bytes(8, "little")
    drawn = np.empty(len(keys), dtype=np.uint64)
    for index, key in enumerate(keys):
        text = key if occurrences is None else f"{key}\x1f{occurrences[index]}"
        digest = hashlib.blake2b(text.encode(), digest_size=8, key=salt).digest()
        drawn[index] = int.from_bytes(digest, "little")
    return ((drawn >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
