"""Facility location over all similarities of which few are held: those that can still serve a row better.

Once some rows are chosen, a similarity s_ij below what i is already served with adds nothing to any later gain. After
m of n choices about n/m similarities of a row are above that (were the chosen random, n/(m + 1) on average). So:

    1. the first m rows are chosen on a sample of the rows that are served: gains estimated from a thousand of them
    2. the products of all rows are made block by block, and those above the service of either row are kept (pairs.py)
    3. the other rows are chosen on these, by exact gains

Memory and the passes over it are n²/m in place of n². What is given up: the first choices are the best by an estimate.
Up to SAMPLE_ROWS rows nothing is, and the choices are those of the dense kernel.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from curate.numerics.greedy import Admission, Chosen, greedy
from curate.numerics.kernels import DenseKernel, SparseKernel, column_sums, empty, on_grid, parts
from curate.numerics.pairs import PAIR_BYTES, PRODUCT_COLUMNS, PRODUCT_ROWS, KeptPairs, pairs_above
from curate.numerics.submodular import FacilityLocation, SparseFacilityLocation

SAMPLE_ROWS = 1000
"""Rows on which the first gains are estimated, at least."""
BEGUN_SHARE = 1 / 160
"""Of all rows, those that are chosen on a sample."""


class EstimatedFacilityLocation(FacilityLocation):
    """f(S) = Σ_i max_{j∈S} s_ij, estimated from a sample of the rows i; the gains of all rows held.

    That a row of the sample serves itself is left out of its gain: it would count as if n / sample rows were like it.
    """

    def __init__(self, vectors: NDArray[np.float32], sample: NDArray[np.int64], device: str = "cpu") -> None:
        """vectors: float32 [rows, d], of length 1 (or 0). sample: int64, rows. 4 · sample · rows bytes."""
        points = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
        places = torch.from_numpy(sample).to(device)
        values = empty((len(sample), len(vectors)), device)
        on_grid(torch.mm(points[places], points.T, out=values))
        self._own = points[places].any(1).float()
        self._place = {row: place for place, row in enumerate(sample.tolist())}
        self._scale = len(vectors) / len(sample)
        values[torch.arange(len(places), device=device), places] = self._own if self._scale == 1 else 0
        super().__init__(DenseKernel(values))

    def gains(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """n / sample times what the row adds to the service of the sample, float64."""
        return super().gains(rows) * self._scale

    def _service(self, row: int) -> torch.Tensor:
        service = self._values[:, row].clone()
        if (place := self._place.get(row)) is not None:
            service[place] = self._own[place]
        return service


class _First:
    """An admission that is spent after so many free choices, or where no row is worth anything more by the estimate.

    Included rows and those that a minimum forces (while others wait) are not counted: they may all be alike.
    """

    def __init__(self, admission: Admission, estimated: EstimatedFacilityLocation, rows: int) -> None:
        self._admission, self.include = admission, admission.include
        self._estimated, self._left = estimated, rows
        self._any = False
        self._waiting: set[int] = set()

    @property
    def spent(self) -> bool:
        done = self._left <= 0 or self._admission.spent
        return done or (self._any and not self._estimated.gains().max() > 0)

    def verdict(self, row: int) -> Literal["yes", "later", "never"]:
        verdict = self._admission.verdict(row)
        if verdict == "later":
            self._waiting.add(row)
        elif row in self._waiting:  # all that wait are in the running again
            self._waiting.clear()
        return verdict

    def add(self, row: int) -> None:
        self._any = True
        self._left -= not self._waiting
        self._admission.add(row)


@dataclass(frozen=True)
class PrunedChoice:
    """chosen: as any greedy's. begun: how many of them come before the exact gains: the included ones, and those chosen
    on a sample. kernel: the similarities that were kept then; None where there was nothing left to choose.
    """

    chosen: Chosen
    begun: int
    kernel: SparseKernel | None


def first_and_sample(rows: int, max_bytes: float) -> tuple[int, int]:
    """How many rows are chosen on a sample, and of how many rows it is.

    The first: one row in 160, or so many that what is kept then takes half of max_bytes. The sample: SAMPLE_ROWS, or
    four times those rows (a sample that they serve wholly tells nothing more), within half of max_bytes; where that
    is not enough, fewer rows are chosen.
    """
    first = max(1, math.ceil(rows * BEGUN_SHARE), math.ceil(rows * rows * PAIR_BYTES / max_bytes))
    sample = min(rows, max(SAMPLE_ROWS, 4 * first), max(4, int(max_bytes / (8 * rows))))
    return min(first, max(1, sample // 4)), sample


def pruned_bytes(rows: int, max_bytes: float) -> int:
    """What it takes, in bytes, about: the sample, then the pairs that are kept."""
    first, sample = first_and_sample(rows, max_bytes)
    return max(4 * rows * sample, rows * rows // (first + 1) * PAIR_BYTES // 2)


def pruned_greedy(
    vectors: NDArray[np.float32], admission: Admission, max_bytes: float, device: str = "cpu"
) -> PrunedChoice:
    """Greedy facility location as above.

    vectors: float32 [rows, d], of length 1 (or 0: similar to nothing), in an order that means nothing: the sample
    is every so-manieth. Gains and bounds are exact: those of the first choices are computed afterwards. n²d
    operations, O(n · (d + sample) + n²/m) memory. Raises DataError where more pairs are kept than max_bytes hold.
    """
    rows = len(vectors)
    first, of = first_and_sample(rows, max_bytes)
    sample = np.linspace(0, rows, of, endpoint=False).astype(np.int64)
    estimated = EstimatedFacilityLocation(vectors, sample, device)
    begun = greedy(estimated, _First(admission, estimated, first))
    del estimated
    gains, service = _served(vectors, begun.rows, device)
    if admission.spent or not len(begun.rows):
        bounds = _left(vectors, service, device)
        bounds[begun.rows] = gains
        return PrunedChoice(Chosen(begun.rows, gains, bounds, begun.evaluations), len(begun.rows), None)
    begun = replace(begun, gains=gains)
    kernel = pruned_kernel(vectors, service, max_bytes, device)
    chosen = greedy(SparseFacilityLocation(kernel, service), admission, begun)
    return PrunedChoice(chosen, len(begun.rows), kernel)


def pruned_kernel(
    vectors: NDArray[np.float32], service: NDArray[np.float32], max_bytes: float, device: str = "cpu"
) -> SparseKernel:
    """The similarities above what one of both rows is served with; all others count as 0.

    vectors: float32 [rows, d]. service: float32 [rows]. Raises DataError where more are kept than max_bytes hold.
    """
    kept = KeptPairs(len(vectors), max_bytes)
    for pairs in pairs_above(vectors, service, device):
        kept.keep(pairs)
    return kept.kernel(np.flatnonzero(vectors.any(axis=1)))


def _served(
    vectors: NDArray[np.float32], chosen: NDArray[np.int64], device: str
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """What each chosen row added, float64 [chosen], in their order; what each row is served with, float32 [rows]."""
    points = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    those = torch.from_numpy(chosen).to(device)
    any_direction = points[those].any(1)[:, None]
    levels = torch.zeros(len(chosen), dtype=torch.float64, device=device)
    service = torch.zeros(len(vectors), device=device)
    for part in parts(len(vectors), max(1, PRODUCT_ROWS * PRODUCT_COLUMNS // max(1, len(chosen)))):
        best = on_grid(points[those] @ points[part].T)
        own = those[:, None] == torch.arange(part.start, part.stop, device=device)
        best[own & any_direction] = 1
        for before, after in pairwise(best):
            torch.maximum(before, after, out=after)
        levels += best.sum(1, dtype=torch.float64)
        service[part] = best[-1] if len(chosen) else 0
    return np.diff(levels.numpy(force=True), prepend=0.0), service.numpy(force=True)


def _left(vectors: NDArray[np.float32], service: NDArray[np.float32], device: str) -> NDArray[np.float64]:
    """What each row would add where all are served so, Σ_i max(0, s_ij − service_i), float64 [rows]. 2n²d steps."""
    points = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    served = torch.from_numpy(service).to(device)
    left = torch.zeros(len(vectors), dtype=torch.float64, device=device)
    for part in parts(len(vectors), PRODUCT_ROWS):
        left += column_sums(on_grid(points[part] @ points.T).sub_(served[part, None]).clamp_(min=0))
    found: NDArray[np.float64] = left.numpy(force=True)
    return found
