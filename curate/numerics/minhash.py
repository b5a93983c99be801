"""MinHash LSH: which rows may be near duplicates, and which of them are.

A signature of b·r minimum hashes is cut into b bands of r. Two texts of Jaccard similarity s agree in a
band with probability s^r, hence in at least one with 1 − (1 − s^r)^b (Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, ch. 3).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from curate.numerics.components import components, connect
from curate.numerics.shingles import mix

Same = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]

MISS_WEIGHT = 0.9
"""Weight of a missed pair against a false candidate (1 − it) in `optimal_bands`. Candidates are verified,
so a false one costs a moment and a missed one costs a duplicate. datasketch's default is 0.5."""


def collision_probability(
    similarity: NDArray[np.float64] | float, bands: int, band_rows: int
) -> NDArray[np.float64]:
    """Probability that two texts of this Jaccard similarity become candidates, 1 − (1 − s^r)^b."""
    return np.asarray(1 - (1 - np.asarray(similarity, dtype=np.float64) ** band_rows) ** bands)


@cache
def optimal_bands(threshold: float, permutations: int, miss_weight: float = MISS_WEIGHT) -> tuple[int, int]:
    """(bands b, rows per band r), b·r ≤ permutations, with the least expected error.

    error(b, r) = (1 − w)·∫_0^t P(s) ds + w·∫_t^1 (1 − P(s)) ds, P(s) = 1 − (1 − s^r)^b, the rule of Zhu
    et al. 2016 (LSH Ensemble) as in datasketch; integrals by the midpoint rule with steps of .001.
    Ties go to the fewest bands.
    """
    grid = (np.arange(1000) + 0.5) / 1000
    best = (np.inf, 1, 1)
    for bands in range(1, permutations + 1):
        for band_rows in range(1, permutations // bands + 1):
            found = collision_probability(grid, bands, band_rows)
            false = found[grid < threshold].sum() * (1 - miss_weight)
            missed = (1 - found[grid >= threshold]).sum() * miss_weight
            best = min(best, ((false + missed) / 1000, bands, band_rows))
    return best[1], best[2]


def band_keys(digests: NDArray[np.uint32], bands: int, band_rows: int) -> NDArray[np.uint64]:
    """uint64 [rows, bands]: one hash for the band_rows minimum hashes of each band.

    digests: uint32 [rows, ≥ bands·band_rows].
    """
    cut = digests[:, : bands * band_rows].reshape(len(digests), bands, band_rows)
    keys = np.zeros((len(digests), bands), dtype=np.uint64)
    for place in range(band_rows):
        keys = mix(keys ^ cut[:, :, place]) + np.uint64(0x9E3779B97F4A7C15)
    return keys


@dataclass(frozen=True)
class Buckets:
    """Groups of at least two rows that agree in a band; two rows of a bucket are candidates.

    members: int64, ascending within a bucket, bucket after bucket; sizes, band: int64 [buckets].
    """

    members: NDArray[np.int64]
    sizes: NDArray[np.int64]
    band: NDArray[np.int64]

    @classmethod
    def of(cls, keys: NDArray[np.uint64], rows: NDArray[np.int64]) -> "Buckets":
        """The buckets of these rows (ascending). keys: uint64 [all rows, bands]. O(b·n log n)."""
        parts: list[Buckets] = []
        for band in range(keys.shape[1]):
            held = keys[rows, band]
            order = np.argsort(held, kind="stable")
            held = held[order]
            starts = np.flatnonzero(np.concatenate([[True], held[1:] != held[:-1]])) if len(held) else order
            sizes = np.diff(np.append(starts, len(held)))
            shared = sizes > 1
            members = rows[order[np.repeat(shared, sizes)]]
            parts.append(cls(members, sizes[shared], np.full(int(shared.sum()), band)))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))

    @property
    def starts(self) -> NDArray[np.int64]:
        """The place of each bucket's first member, int64 [buckets]."""
        return np.cumsum(self.sizes) - self.sizes

    def only(self, chosen: NDArray[np.bool_]) -> "Buckets":
        """The chosen buckets, bool [buckets]."""
        return Buckets(self.members[np.repeat(chosen, self.sizes)], self.sizes[chosen], self.band[chosen])


_FIELDS = ("members", "sizes", "band")


def independent_parts(
    buckets: Buckets, weights: NDArray[np.int64], max_weight: int
) -> Iterator[tuple[NDArray[np.int64], Buckets]]:
    """Cuts the buckets into parts that share no row, so that each can be verified alone.

    weights: int64 [rows]. A part is closed before the weight of its rows exceeds `max_weight`; one that
    is connected through its buckets is never cut. Yields its rows, int64 ascending, and its buckets,
    whose members count from 0 in those rows.
    """
    heads = np.repeat(buckets.members[buckets.starts], buckets.sizes)
    linked = components(len(weights), heads, buckets.members)
    shared = np.zeros(len(weights), dtype=np.bool_)
    shared[buckets.members] = True
    rows = np.flatnonzero(shared)
    names, group = np.unique(linked[rows], return_inverse=True)
    total = np.bincount(group, weights=weights[rows], minlength=len(names))
    part_of_name = np.zeros(len(names), dtype=np.int64)
    part, held = 0, 0.0
    for index, weight in enumerate(total.tolist()):
        if held and held + weight > max_weight:
            part, held = part + 1, 0.0
        held += weight
        part_of_name[index] = part
    part_of_row = part_of_name[group]
    part_of_bucket = part_of_row[np.searchsorted(rows, buckets.members[buckets.starts])]
    for number in range(part + 1 if len(rows) else 0):
        own = rows[part_of_row == number]
        chosen = buckets.only(part_of_bucket == number)
        yield own, Buckets(np.searchsorted(own, chosen.members), chosen.sizes, chosen.band)


def verified_components(keys: NDArray[np.uint64], buckets: Buckets, same: Same) -> NDArray[np.int64]:
    """Components of the graph whose edges are the candidate pairs that `same` confirms, int64 [rows].

    keys: uint64 [rows, bands], those that the buckets were made of. same(left, right): whether the two
    rows of each pair are linked; symmetric, and a fact of the pair alone.

    A candidate pair is asked for once at most, and not at all where its rows are connected already, which
    cannot change the result. In each round the first row left in every bucket is compared with the
    bucket's other rows: m rows that are all alike cost m − 1 questions, m that all differ m(m − 1)/2.
    """
    labels = np.arange(len(keys), dtype=np.int64)
    while len(buckets.members):
        members, sizes, starts = buckets.members, buckets.sizes, buckets.starts
        pivots = np.repeat(members[starts], sizes)
        apart = labels[pivots] != labels[members]
        left, right = pivots[apart], members[apart]
        fresh = _first_shared_band(keys, left, right) == np.repeat(buckets.band, sizes)[apart]
        left, right = left[fresh], right[fresh]
        linked = same(left, right)
        labels = connect(labels, left[linked], right[linked])
        held = labels[members]
        split = np.minimum.reduceat(held, starts) != np.maximum.reduceat(held, starts)
        keep = np.repeat(split, sizes)
        keep[starts] = False
        buckets = Buckets(members[keep], (sizes - 1)[split], buckets.band[split])
    return labels


def _first_shared_band(
    keys: NDArray[np.uint64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The first band in which each pair agrees: where a pair that meets in several is looked at."""
    first = np.full(len(left), keys.shape[1], dtype=np.int64)
    for band in reversed(range(keys.shape[1])):
        first[keys[left, band] == keys[right, band]] = band
    return first
