"""Near duplicates: rows whose texts share most of their n-grams.

similarity(A, B) = |A ∩ B| / |A ∪ B| of the sets of n-grams (shingles) of the two texts, lower-cased and
with single spaces. Candidates by MinHash LSH (Broder 1997; Lee et al. 2022): `permutations` minimum
hashes in b bands of r, b and r by the rule of `numerics.minhash.optimal_bands`. Every candidate pair is
verified by its exact similarity, from the texts; a group is a connected component of the pairs that reach
`threshold`, hence the same for any order of the rows and any number of workers. One row of a group
survives, by `keep`.

What is dropped is therefore always justified; what may be missed are pairs that never become candidates.
A chain A~B~C is one group even if A and C are less alike than the threshold; the reason says so.
A text with fewer than `ngram` units has one shingle, itself, and so equals only the same text. A text
without any (the empty prompt of a plain text) is nobody's duplicate. Words are what whitespace separates:
for languages written without it use unit = character.

Cost: 40,000 texts of 700 characters take 1.4 s of processor time to sign and 1.5 s to group (13,097 of them
candidates). Grouping sorts n keys a band and reads again only the texts of candidates, at most about 16
million shingles (some 0.5 GB) at a time unless a single set of linked candidates holds more.
Memory: 8·b bytes a row.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.cleaner import Columns, Deduplicator, Duplicates, Part, text_of
from curate.numerics.components import survivors
from curate.numerics.jaccard import Sets, jaccard
from curate.numerics.minhash import Buckets, band_keys, independent_parts, optimal_bands, verified_components
from curate.numerics.shingles import Unit, shingle_hashes

_SEED = 1
_MAX_SHINGLES = 1 << 24


class NearDuplicates(Deduplicator):
    """Keeps one of the rows that are nearly equal."""

    threshold: float = Field(
        default=0.8, gt=0, le=1, description="Jaccard similarity from which two rows are one"
    )
    ngram: int = Field(default=5, ge=1, description="units in an n-gram")
    unit: Unit = Field(default="word", description="what n-grams are made of: words or characters")
    permutations: int = Field(default=128, ge=2, le=1024, description="minimum hashes; more miss less")
    of: Part = Field(default="row", description="what must be alike: prompt and response, or one of them")

    @property
    def signature(self) -> Mapping[str, pl.DataType]:
        """A key per band, the number of shingles (with repeats), and the length of the row."""
        bands, _ = optimal_bands(self.threshold, self.permutations)
        return {
            f"{self.name}.bands": pl.Array(pl.UInt64, bands),
            f"{self.name}.shingles": pl.UInt32(),
            self.length_column: pl.UInt32(),
        }

    def group_needs(self) -> frozenset[str]:
        """The columns that `group` reads or takes, beside the signature: the text, to verify."""
        return self.needs() | self.preference_columns()

    def sign(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The band keys of each row. 128 hashes of 4.7 million shingles take rensa 0.2 s."""
        from rensa import RMinHash  # type: ignore[import-untyped]

        hashes, offsets = self._shingles(rows)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets.astype(np.uint64), self.permutations, _SEED
        )
        digests = np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(rows), self.permutations)
        keys = band_keys(digests, *optimal_bands(self.threshold, self.permutations))
        return pl.DataFrame(
            {
                f"{self.name}.bands": keys,
                f"{self.name}.shingles": np.diff(offsets),
                self.length_column: self.characters(rows),
            },
            schema=dict(self.signature),
        )

    def group(self, pool: Columns) -> Duplicates:
        """Connected components of the verified candidate pairs."""
        frame = pool.frame({*self.signature, *self.preference_columns()})
        keys = frame[f"{self.name}.bands"].to_numpy()
        shingles = frame[f"{self.name}.shingles"].to_numpy().astype(np.int64)
        preference = self.preference(frame)
        survivor = np.arange(len(frame))
        similarity = np.full(len(frame), np.nan)
        buckets = Buckets.of(keys, np.flatnonzero(shingles))
        for rows, part in independent_parts(buckets, shingles, _MAX_SHINGLES):
            sets = Sets.of(*self._shingles(pool.take(self.needs(), rows)))
            labels = verified_components(keys[rows], part, partial(self._alike, sets))
            own = survivors(labels, preference[rows])
            dropped = np.flatnonzero(own != np.arange(len(rows)))
            survivor[rows] = rows[own]
            similarity[rows[dropped]] = jaccard(sets, dropped, own[dropped])
        return Duplicates(survivor, similarity)

    def similarities(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """The Jaccard similarity of each row's n-grams to those of the first."""
        sets = Sets.of(*self._shingles(rows))
        return jaccard(sets, np.zeros(len(rows), dtype=np.int64), np.arange(len(rows)))

    def reason(self, survivor: str, similarity: float) -> str:
        """Why a row was dropped."""
        linked = "" if similarity >= self.threshold else ", linked by others"
        measure = f"Jaccard {similarity:.3f} of {self.unit} {self.ngram}-grams"
        return f"near duplicate of {survivor} ({measure}{linked})"

    def _shingles(self, rows: pl.DataFrame) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        return shingle_hashes(text_of(rows, self.of).to_list(), self.ngram, self.unit)

    def _alike(self, sets: Sets, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each pair reaches the threshold; |smaller| / |larger| bounds it from above."""
        small, large = np.sort([sets.sizes[left], sets.sizes[right]], axis=0)
        alike: NDArray[np.bool_] = small >= self.threshold * large
        alike[alike] = jaccard(sets, left[alike], right[alike]) >= self.threshold
        return alike
