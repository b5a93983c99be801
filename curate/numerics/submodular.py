"""Submodular set functions: what a row adds to the rows chosen so far. See greedy.py for who maximises them.

    facility location   f(S) = Σ_i max_{j∈S} s_ij             every row is served by its most similar chosen one
    graph cut           f(S) = Σ_{i∈V} Σ_{j∈S} s_ij − λ Σ_{i,j∈S} s_ij     near to all, far from each other
    log-determinant     f(S) = log det(I + X_S X_Sᵀ / ε)       the volume that the chosen vectors span

All are submodular: no row's gain grows as rows are chosen. The first and the last are monotone (no gain is
negative); graph cut is not, for a λ above ½.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from curate.numerics.kernels import EXACT_ROWS, DenseKernel, Kernel, SparseKernel

Rows = NDArray[np.int64]

BLOCK_ELEMENTS = 1 << 19
"""Numbers of a block of a kernel's rows: 2 MiB of float32, so that the passes over it stay in a core's cache."""


class Objective(Protocol):
    """A submodular function and the set of rows added to it."""

    @property
    def rows(self) -> int:
        """n, the rows that can be added."""

    @property
    def held(self) -> bool:
        """Whether the gains of all rows are kept up to date, so that reading them costs next to nothing."""

    def gains(self, rows: Rows | None = None) -> NDArray[np.float64]:
        """f(S ∪ {row}) − f(S) of each of these rows (all by default), float64; none of them may be in S."""

    def add(self, row: int) -> None:
        """S becomes S ∪ {row}."""


class FacilityLocation:
    """f(S) = Σ_i max_{j∈S} s_ij on a dense kernel, the gains of all rows held.

    Where i, served at b so far, comes to be served at c, the gain of each row j falls by
    max(0, s_ij − b) − max(0, s_ij − c) = min(max(s_ij, b), c) − b. An addition costs one pass over the kernel's rows
    of the i that it serves better: at first most, soon a handful. To choose a tenth of 8,000 rows, each row of the
    kernel was read 5.4 times in all; lazy greedy with gains on demand read 8.3 to the same choices.
    """

    held = True

    def __init__(self, kernel: DenseKernel) -> None:
        """O(n) beside the kernel, and one pass over it."""
        served, self.rows = kernel.values.shape
        self._values = kernel.values
        self._covered = torch.zeros(served, device=self._values.device)
        self._gains = torch.from_numpy(kernel.sums()).to(self._values.device)
        self._step = min(EXACT_ROWS, max(1, BLOCK_ELEMENTS // max(1, self.rows)))
        threads = torch.get_num_threads() if self._values.device.type == "cpu" else 1
        self._threads = ThreadPoolExecutor(threads, "gains", initializer=torch.set_num_threads, initargs=(1,))
        self._blocks = torch.empty(threads, self._step, self.rows, device=self._values.device)

    def gains(self, rows: Rows | None = None) -> NDArray[np.float64]:
        """Σ_i max(0, s_ij − max_{k∈S} s_ik) of each row j, float64; exact."""
        found: NDArray[np.float64] = self._gains.numpy(force=True)
        return found.copy() if rows is None else found[rows]

    def add(self, row: int) -> None:
        """As many passes over a row of the kernel as rows are served better, in as many threads as torch has."""
        similarity = self._service(row)
        better = torch.nonzero(similarity > self._covered).squeeze(1)
        before, after = self._covered[better], similarity[better]
        self._covered[better] = after
        pieces = list(zip(*(torch.split(each, self._step) for each in (better, before, after)), strict=True))
        with _one_thread():
            if len(pieces) > 1:
                shares = [pieces[first :: len(self._blocks)] for first in range(len(self._blocks))]
                for lost in self._threads.map(self._lost, self._blocks, shares):
                    self._gains -= lost
            else:
                self._gains -= self._lost(self._blocks[0], pieces)

    def _service(self, row: int) -> torch.Tensor:
        """The similarity of every row that is served with this one, float32 [served]."""
        return self._values[row]

    def _lost(self, space: torch.Tensor, pieces: Sequence[tuple[torch.Tensor, ...]]) -> torch.Tensor:
        """What the gains of all rows lose where rows are served better, float64 [rows]; exact, in any order.

        space: float32 [step, rows]. pieces: of rows served better, which they are, and their service before and after.
        """
        lost = torch.zeros_like(self._gains)
        for some, before, after in pieces:
            block = torch.index_select(self._values, 0, some, out=space[: len(some)])
            torch.maximum(block, before[:, None], out=block)
            torch.minimum(block, after[:, None], out=block)
            lost += block.sum(0).sub_(before.sum())
        return lost


class FacilityLocationOnDemand:
    """f(S) = Σ_i max_{j∈S} s_ij on a dense kernel, gains computed when they are asked for: a pass over the row."""

    held = False

    def __init__(self, kernel: DenseKernel) -> None:
        """O(n) beside the kernel."""
        self.rows = kernel.rows
        self._values = kernel.values
        self._covered = torch.zeros(self.rows, device=self._values.device)
        self._step = max(1, BLOCK_ELEMENTS // max(1, self.rows))
        self._block = torch.empty(self._step, self.rows, device=self._values.device)
        self._wide = torch.empty(self._step, self.rows, device=self._values.device, dtype=torch.float64)

    def gains(self, rows: Rows | None = None) -> NDArray[np.float64]:
        """Σ_i max(0, s_ij − max_{k∈S} s_ik) of each row j, float64; exact."""
        device = self._values.device
        asked = (torch.arange(self.rows) if rows is None else torch.from_numpy(rows)).to(device)
        found = torch.empty(len(asked), dtype=torch.float64, device=device)
        with _one_thread():
            for start in range(0, len(asked), self._step):
                part = slice(start, start + self._step)
                block = self._block[: len(asked[part])]
                torch.index_select(self._values, 0, asked[part], out=block)
                block.sub_(self._covered).clamp_(min=0)
                torch.sum(self._wide[: len(block)].copy_(block), 1, out=found[part])
        return found.numpy(force=True)

    def add(self, row: int) -> None:
        """O(n)."""
        torch.maximum(self._covered, self._values[row], out=self._covered)


class SparseFacilityLocation:
    """f(S) = Σ_i max_{j∈S} s_ij on a sparse kernel, the gains of all rows held.

    As i comes to be served better, the gains of the rows similar to i fall, and of no others: an addition costs as
    many steps as the neighbours of its neighbours, whatever n is.
    """

    held = True

    def __init__(self, kernel: SparseKernel, covered: NDArray[np.float32] | None = None) -> None:
        """covered: float32 [rows], the similarity of each row with the most similar one of S at the beginning; S is
        empty unless told. O(held) beside the kernel.
        """
        self.rows = kernel.rows
        self._kernel = kernel
        self._covered = np.zeros(self.rows, dtype=np.float32) if covered is None else covered.copy()
        added = np.maximum(kernel.values - self._covered[kernel.columns], 0)
        any_held = kernel.starts[1:] > kernel.starts[:-1]
        self._gains = np.zeros(self.rows)
        self._gains[any_held] = np.add.reduceat(added, kernel.starts[:-1][any_held], dtype=np.float64)

    def gains(self, rows: Rows | None = None) -> NDArray[np.float64]:
        """Σ_i max(0, s_ij − max_{k∈S} s_ik) of each row j, float64; exact."""
        return self._gains.copy() if rows is None else self._gains[rows]

    def add(self, row: int) -> None:
        """O(neighbours²)."""
        kernel = self._kernel
        starts, ends = kernel.starts[:-1], kernel.starts[1:]
        similar, similarity = kernel.similar(row)
        before = self._covered[similar]
        better = np.flatnonzero(similarity > before)
        if not len(better):
            return
        served, before, after = kernel.columns[starts[row] + better], before[better], similarity[better]
        self._covered[served] = after
        theirs = list(map(slice, starts[served].tolist(), ends[served].tolist()))
        lengths = ends[served] - starts[served]
        lost = np.concatenate([kernel.values[each] for each in theirs])
        before = before.repeat(lengths)
        np.maximum(lost, before, out=lost)
        np.minimum(lost, after.repeat(lengths), out=lost)
        lost -= before
        which = np.concatenate([kernel.columns[each] for each in theirs])
        np.subtract.at(self._gains, which, lost.astype(np.float64))


class GraphCut:
    """f(S) = Σ_{i∈V} Σ_{j∈S} s_ij − λ Σ_{i,j∈S} s_ij, the gains of all rows held: O(n) an addition, or fewer."""

    held = True

    def __init__(self, kernel: Kernel, redundancy: float) -> None:
        """redundancy: λ ≥ 0, the weight of the similarity among the chosen. One pass over the kernel."""
        self.rows = kernel.rows
        self._kernel, self._redundancy = kernel, redundancy
        self._sums = kernel.sums()
        self._among = kernel.diagonal().astype(np.float64)
        """s_ee + 2 Σ_{j∈S} s_ej."""

    def gains(self, rows: Rows | None = None) -> NDArray[np.float64]:
        """Σ_{i∈V} s_ie − 2λ Σ_{j∈S} s_ej − λ s_ee of each row e, float64; may be negative."""
        places = slice(None) if rows is None else rows
        found: NDArray[np.float64] = self._sums[places] - self._redundancy * self._among[places]
        return found

    def add(self, row: int) -> None:
        """As many steps as similarities of the row are held."""
        places, similarity = self._kernel.similar(row)
        self._among[places] += 2 * similarity.astype(np.float64)


class LogDeterminant:
    """f(S) = log det(I + X_S X_Sᵀ / ε) = log det(I + X_Sᵀ X_S / ε) on vectors, without a kernel.

    The gain of a row is log(1 + r/ε), where r = xᵀ M x, M = (I + X_Sᵀ X_S / ε)⁻¹, is the part of the row that the
    chosen ones do not explain: the variance left in a Gaussian process with noise ε. M is d × d and changes by a
    rank-one update (Sherman and Morrison). The kernel form of the same (Chen, Zhang, Zhou 2018) holds n × |S|
    numbers; this one d², whatever is chosen. In float64, to which vectors are scaled anew (the first choice would else
    be the row whose length is rounded up the most); r is rounded to 2⁻⁴⁰ (1e-12), far above the error of its products,
    so that equal rows have equal gains.
    """

    held = False

    def __init__(self, vectors: NDArray[np.float32], noise: float, device: str = "cpu") -> None:
        """vectors: float32 [rows, d] of length 1 (or 0). noise: ε > 0."""
        self.rows, width = vectors.shape
        self._points = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
        self._noise = noise
        self._unexplained = torch.eye(width, dtype=torch.float64, device=device)
        self._step = max(1, BLOCK_ELEMENTS // max(1, width))

    def gains(self, rows: Rows | None = None) -> NDArray[np.float64]:
        """log(1 + r/ε) of each row, float64, at least 0. d² multiplications a row."""
        asked = (torch.arange(self.rows) if rows is None else torch.from_numpy(rows)).to(self._points.device)
        left = torch.empty(len(asked), dtype=torch.float64, device=self._points.device)
        for start in range(0, len(asked), self._step):
            part = slice(start, start + self._step)
            block = self._unit(asked[part])
            left[part] = torch.linalg.vecdot(block @ self._unexplained, block)
        left = (left * 2**40).round_().clamp_(min=0) / 2**40
        return torch.log1p(left / self._noise).numpy(force=True)

    def add(self, row: int) -> None:
        """M − Mx(Mx)ᵀ / (ε + xᵀMx), O(d²)."""
        (point,) = self._unit(torch.tensor([row], device=self._points.device))
        moved = self._unexplained @ point
        self._unexplained.addr_(moved, moved, alpha=-1 / (self._noise + float(point @ moved)))

    def _unit(self, rows: torch.Tensor) -> torch.Tensor:
        """float64 [rows, d], of length 1, or 0."""
        block = self._points[rows].double()
        length = torch.linalg.vector_norm(block, dim=1, keepdim=True)
        return block / torch.where(length > 0, length, 1)


def sample_rows(rows: int, chosen: int, shortfall: float) -> int:
    """How many rows stochastic greedy looks at for each choice: ⌈(n/k) · ln(1/ε)⌉, at least 1, at most n."""
    return max(1, min(rows, math.ceil(rows / max(1, chosen) * math.log(1 / shortfall))))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread of the CPU. A pass over a block takes microseconds; torch's threads wait for each other by
    spinning, so that where another process has one of the cores, each pass takes as long as a time slice of it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
