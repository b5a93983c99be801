"""Similarity kernels: how alike every two rows are, held whole or for near neighbours alone.

s_ij = max(0, cos(x_i, x_j)), in [0, 1]; s_ii = 1. Opposed rows count as unrelated (0) and not as less than that:
so no gain of facility location is negative, and rows at a right angle owe each other nothing.

Every similarity is rounded to a whole multiple of 2⁻¹⁶ (1.5e-5; embeddings mean less than that). Sums of 256 such
numbers are exact in float32, and of any number of them in float64. Hence a gain depends on the kernel alone: not on
blocks, threads, the device, or how it was reached; and copies of a row are alike although products round.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from curate.errors import DataError

GIB = 2**30
EXACT_ROWS = 256
"""So many similarities add up exactly in float32."""
PRODUCT_ROWS = 512
"""Rows of a block of products."""
SEARCH_ROWS = 4096
"""Rows of a search for neighbours."""

Places = NDArray[np.int32] | slice


class Kernel(Protocol):
    """A symmetric matrix of similarities."""

    @property
    def rows(self) -> int:
        """n."""

    @property
    def bytes(self) -> int:
        """What is held."""

    def sums(self) -> NDArray[np.float64]:
        """Σ_i s_ij of each row j, float64 [rows]."""

    def diagonal(self) -> NDArray[np.float32]:
        """s_ii, float32 [rows]."""

    def similar(self, row: int) -> tuple[Places, NDArray[np.float32]]:
        """The rows whose similarity to `row` is held, and those similarities; `slice(None)` for all."""


class DenseKernel:
    """All n × n similarities, float32, on a device. 4n² bytes."""

    def __init__(self, values: torch.Tensor) -> None:
        """values: float32 [rows, rows], symmetric, whole multiples of 2⁻¹⁶ in [0, 1]."""
        self.values = values

    @property
    def rows(self) -> int:
        """n."""
        return len(self.values)

    @property
    def bytes(self) -> int:
        """4n²."""
        return 4 * self.rows**2

    def sums(self) -> NDArray[np.float64]:
        """Σ_i s_ij of each row j, float64 [rows]."""
        return _numpy(column_sums(self.values))

    def diagonal(self) -> NDArray[np.float32]:
        """s_ii, float32 [rows]."""
        return _numpy(self.values.diagonal())

    def similar(self, row: int) -> tuple[Places, NDArray[np.float32]]:
        """All rows, and s of `row` with them, float32 [rows]."""
        return slice(None), _numpy(self.values[row])


class SparseKernel:
    """The similarities of near neighbours, by rows; all others count as 0. 8 bytes each.

    starts: int64 [rows + 1]; columns: int32 [held], each once in a row; values: float32 [held], symmetric, whole
    multiples of 2⁻¹⁶ in [0, 1]. Row i holds columns[starts[i] : starts[i + 1]].
    """

    def __init__(
        self, starts: NDArray[np.int64], columns: NDArray[np.int32], values: NDArray[np.float32]
    ) -> None:
        """The three arrays, as above."""
        self.starts, self.columns, self.values = starts, columns, values

    @property
    def rows(self) -> int:
        """n."""
        return len(self.starts) - 1

    @property
    def bytes(self) -> int:
        """8 for each similarity that is held, 8 a row."""
        return self.starts.nbytes + self.columns.nbytes + self.values.nbytes

    @property
    def mean_neighbours(self) -> float:
        """The similarities that a row holds, on average."""
        return len(self.values) / max(1, self.rows)

    def sums(self) -> NDArray[np.float64]:
        """Σ_i s_ij of each row j over what is held, float64 [rows]."""
        return np.bincount(self.columns, weights=self.values, minlength=self.rows).astype(np.float64)

    def diagonal(self) -> NDArray[np.float32]:
        """s_ii, float32 [rows]."""
        own = np.zeros(self.rows, dtype=np.float32)
        row = np.repeat(np.arange(self.rows, dtype=np.int32), np.diff(self.starts))
        same = row == self.columns
        own[row[same]] = self.values[same]
        return own

    def similar(self, row: int) -> tuple[Places, NDArray[np.float32]]:
        """The neighbours of `row`, int32, and their similarities, float32."""
        part = slice(self.starts[row], self.starts[row + 1])
        return self.columns[part], self.values[part]

    def dense(self) -> DenseKernel:
        """The same with its zeros written out, on the CPU; for small ones."""
        values = np.zeros((self.rows, self.rows), dtype=np.float32)
        row = np.repeat(np.arange(self.rows), np.diff(self.starts))
        values[row, self.columns] = self.values
        return DenseKernel(torch.from_numpy(values))


def dense_bytes(rows: int) -> int:
    """What a dense kernel takes, in bytes."""
    return 4 * rows**2


def sparse_bytes(rows: int, neighbours: int) -> int:
    """The most that a sparse kernel takes while it is made, in bytes, about: some ten arrays of all pairs."""
    return rows * min(neighbours, rows) * 96


def dense_kernel(vectors: NDArray[np.float32], max_bytes: float, device: str = "cpu") -> DenseKernel:
    """The kernel of vectors, float32 [rows, d], each of length 1 (or 0: similar to nothing, itself included).

    Each pair is computed once, n²d flops, in blocks written to their places: no second n × n is made. Raises
    DataError where 4n² bytes are more than max_bytes.
    """
    rows = len(vectors)
    if dense_bytes(rows) > max_bytes:
        raise DataError(
            f"a dense kernel of {rows:,} rows takes {dense_bytes(rows) / GIB:.1f} GiB, and `max_memory_gib` is "
            f"{max_bytes / GIB:g}. Raise it, or write `kernel: sparse`."
        )
    points = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    values = empty((rows, rows), device)
    for part in parts(rows, PRODUCT_ROWS):
        ahead = values[part, part.start :]
        on_grid(torch.mm(points[part], points[part.start :].T, out=ahead))
        width = part.stop - part.start
        own = ahead[:, :width]
        own.copy_(own.triu(1) + own.triu(1).T)
        own.diagonal().copy_(points[part].any(1))
        values[part.stop :, part] = ahead[:, width:].T
    return DenseKernel(values)


def sparse_kernel(
    vectors: NDArray[np.float32], neighbours: int, max_bytes: float, device: str = "cpu"
) -> SparseKernel:
    """The kernel of each row's nearest neighbours, exact search: s_ij where i is one of j's, *or* j one of i's.

    vectors: float32 [rows, d] as for a dense kernel. neighbours: the rows that each is searched, itself among them.
    So a row holds at least that many similarities (fewer where they are 0), and 2·rows·neighbours are held at
    most. 2n²d flops, O(rows · (d + neighbours)) memory. Raises DataError where that is more than max_bytes.
    """
    rows = len(vectors)
    needed = sparse_bytes(rows, neighbours)
    if needed > max_bytes:
        raise DataError(
            f"a sparse kernel of {rows:,} rows with {neighbours} neighbours takes {needed / GIB:.1f} GiB while it is "
            f"made, and `max_memory_gib` is {max_bytes / GIB:g}. Raise it, or ask for fewer `neighbours`."
        )
    found, similarity = nearest(vectors, min(neighbours, rows), device)
    row = np.repeat(np.arange(rows, dtype=np.int64), found.shape[1])
    other = found.ravel().astype(np.int64)
    flat = np.clip(similarity.ravel() + np.float32(128), 128, 129) - np.float32(128)
    pairs = (row != other) & (flat > 0)
    low, high = np.minimum(row, other)[pairs], np.maximum(row, other)[pairs]
    key, first = np.unique(low * rows + high, return_index=True)
    low, high, value = key // rows, key % rows, flat[pairs][first]
    alone = np.flatnonzero(vectors.any(axis=1))
    keys = np.concatenate([key, high * rows + low, alone * (rows + 1)])
    values = np.concatenate([value, value, np.ones(len(alone), dtype=np.float32)])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.searchsorted(keys, np.arange(rows + 1, dtype=np.int64) * rows)
    return SparseKernel(starts.astype(np.int64), (keys % rows).astype(np.int32), values[order])


def nearest(
    vectors: NDArray[np.float32], neighbours: int, device: str = "cpu"
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The rows with the largest products with each row, int32 [rows, neighbours], and those products, float32.

    vectors: float32 [rows, d], rows ≥ neighbours. By faiss on the CPU (flat, exact), in blocks by torch elsewhere.
    """
    rows = len(vectors)
    found = np.empty((rows, neighbours), dtype=np.int32)
    products = np.empty((rows, neighbours), dtype=np.float32)
    search = _search_by_faiss if device == "cpu" else _search_by_torch
    for part, values, places in search(vectors, neighbours, device):
        found[part], products[part] = places, values
    return found, products


Found = tuple[slice, NDArray[np.float32], NDArray[np.int64]]


def _search_by_faiss(vectors: NDArray[np.float32], neighbours: int, device: str) -> Iterator[Found]:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    for part in parts(len(vectors), SEARCH_ROWS):
        yield part, *index.search(np.ascontiguousarray(vectors[part]), neighbours)


def _search_by_torch(vectors: NDArray[np.float32], neighbours: int, device: str) -> Iterator[Found]:
    points = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    for part in parts(len(vectors), PRODUCT_ROWS):
        best = torch.topk(points[part] @ points.T, neighbours)
        yield part, _numpy(best.values), _numpy(best.indices)


def on_grid(products: torch.Tensor) -> torch.Tensor:
    """Products as similarities, in place: 0 below 0, 1 above 1, else the nearest multiple of 2⁻¹⁶."""
    return (
        products.add_(128).clamp_(128, 129).sub_(128)
    )  # from 128 to 256, neighbouring float32 lie 2⁻¹⁶ apart


def column_sums(similarities: torch.Tensor) -> torch.Tensor:
    """Sums over the rows of similarities, float32 [rows, columns]; float64 [columns], exact."""
    total = torch.zeros(similarities.shape[1], dtype=torch.float64, device=similarities.device)
    for part in parts(len(similarities), EXACT_ROWS):
        total += similarities[part].sum(0)
    return total


def parts(rows: int, step: int) -> Iterator[slice]:
    """Slices of `step` rows, the last one shorter."""
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _numpy(tensor: torch.Tensor) -> NDArray:  # type: ignore[type-arg]
    return tensor.cpu().numpy()


def empty(shape: tuple[int, ...], device: str) -> torch.Tensor:
    """float32 of a shape. NumPy asks the system for large pages, torch does not; rows here and there come quicker."""
    if device == "cpu":
        return torch.from_numpy(np.empty(shape, dtype=np.float32))
    return torch.empty(shape, device=device)
