"""Pairs of rows whose similarity is above a bound of their own, found among all pairs without holding them.

Where the processor multiplies bfloat16 faster than float32 (AMX, AVX-512 BF16), the products are made in it first:
twice as fast, or more. Those that may be above the bound, for all that is rounded, are then made again in float32, one
by one. What is found is the same but for how sums in float32 are rounded: by a step of the grid here and there.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.kernels import GIB, SparseKernel, on_grid, parts

PRODUCT_ROWS, PRODUCT_COLUMNS = 512, 2048
"""A block of products: 4 MiB of float32. At least as many columns as rows."""
HALF_STEP = 2.0**-17
"""Half the distance of two similarities on their grid."""
PAIR_BYTES = 96
"""Of a kept pair, while the kernel is made: the pair itself, both its directions, and the copy by rows."""
Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Rows, int32, as many others, int32, and the similarity of each pair, float32."""


class KeptPairs:
    """Pairs as they are found."""

    def __init__(self, rows: int, max_bytes: float) -> None:
        """rows: of the kernel. max_bytes: that the pairs may take until they are one."""
        self._rows, self._max_bytes = rows, max_bytes
        self._found: list[Pairs] = []
        self._count = 0

    def keep(self, pairs: Pairs) -> None:
        """Each pair once, no row with itself. Raises DataError where they are too many."""
        self._found.append(pairs)
        self._count += len(pairs[0])
        if self._count * PAIR_BYTES > self._max_bytes:
            raise DataError(
                f"{self._rows:,} rows have more similar pairs than `max_memory_gib` {self._max_bytes / GIB:g} holds "
                "after the first choices. Raise it, or write `kernel: sparse`."
            )

    def kernel(self, own: NDArray[np.int64]) -> SparseKernel:
        """Both directions of each pair, and the rows that are similar to themselves, int64. Lets the pairs go."""
        from scipy import sparse  # type: ignore[import-untyped]

        one, two, values = (torch.cat(each).numpy(force=True) for each in zip(*self._found, strict=True))
        self._found.clear()
        values = np.concatenate([values, np.ones(len(own), dtype=np.float32), values])
        places = (
            np.concatenate([one, own, two], dtype=np.int32),
            np.concatenate([two, own, one], dtype=np.int32),
        )
        both = sparse.coo_array((values, places), shape=(self._rows, self._rows))
        both.has_canonical_format = True  # no pair comes twice: there is nothing to add up
        held = both.tocsr()
        return SparseKernel(
            held.indptr.astype(np.int64), held.indices.astype(np.int32, copy=False), held.data
        )


def pairs_above(
    vectors: NDArray[np.float32], bound: NDArray[np.float32], device: str = "cpu"
) -> Iterator[Pairs]:
    """The pairs of rows whose similarity is above the bound of either, each once, block by block.

    vectors: float32 [rows, d], of length 1 (or 0). bound: float32 [rows], multiples of 2⁻¹⁶ in [0, 1]. rows²·d
    operations, O(rows · d) memory beside the pairs.
    """
    # Of two rows, the former has the lower bound, which is the one that counts.
    order = np.argsort(bound, kind="stable")
    names = torch.from_numpy(order.astype(np.int32)).to(device)
    points = torch.from_numpy(vectors[order]).to(device)
    # What lies lower than this is rounded to the bound, or below.
    least = torch.from_numpy(bound[order]).to(device) + HALF_STEP
    twice = multiplies_bfloat16(device)
    fine = _Filter(points, least - HALF_STEP / 2 if twice else least, device)
    factors = points.bfloat16() if twice else points
    lowest = lowest_in_bfloat16(least, points, factors) if twice else least
    coarse = _Filter(factors, bits(lowest), device) if twice else fine
    for part in parts(len(order), PRODUCT_ROWS):
        # Of a bound near 0 bfloat16 says little: nearly all products may be above.
        way = coarse if lowest[part.start] > least[part.start] / 2 else fine
        for ahead in parts(len(order) - part.start, PRODUCT_COLUMNS):
            other = slice(part.start + ahead.start, part.start + ahead.stop)
            products, above = way.block(part, other)
            if not ahead.start:
                above.triu_(1)
            one, two = places_where(above)
            if twice:
                one, two, values = _again(points[part], points[other], one, two, least[part][one])
            else:
                values = on_grid(products[one, two])
            yield names[part][one], names[other][two], values


class _Filter:
    """Products of rows, block by block, and which are not below a bound of the former row."""

    def __init__(self, factors: torch.Tensor, lowest: torch.Tensor, device: str) -> None:
        """factors: [rows, d]. lowest: [rows], of the same type, or the bits of it."""
        self._factors, self._lowest = factors, lowest
        # Blocks have their places: what is freed between the small pieces that are kept would not be used again.
        self._products = torch.empty(PRODUCT_ROWS * PRODUCT_COLUMNS, dtype=factors.dtype, device=device)
        self._above = torch.empty(len(self._products), dtype=torch.bool, device=device)

    def block(self, part: slice, other: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Products, and whether each is not below; both [part, other], until the next block."""
        shape = part.stop - part.start, other.stop - other.start
        products, above = (each[: shape[0] * shape[1]].view(shape) for each in (self._products, self._above))
        torch.mm(self._factors[part], self._factors[other].T, out=products)
        torch.ge(products.view(self._lowest.dtype), self._lowest[part, None], out=above)
        return products, above


def places_where(above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows and columns, int64, where it is so, by rows. above: bool [rows, columns], contiguous."""
    if above.device.type != "cpu":
        one, two = torch.nonzero(above, as_tuple=True)
        return one, two
    place = torch.from_numpy(np.flatnonzero(above.numpy()))  # where little is so, faster than torch
    one = torch.div(place, above.shape[1], rounding_mode="floor")
    return one, place - one * above.shape[1]


def multiplies_bfloat16(device: str) -> bool:
    """Whether products are made faster in bfloat16, with sums in float32. Elsewhere than on a CPU sums may not be."""
    if device != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # not in every torch that pyproject.toml allows
        return False
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def lowest_in_bfloat16(least: torch.Tensor, points: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """The least that comes out in bfloat16, float32 [rows], where a product with the row is not below `least`.

    least: float32 [rows]. points: float32 [rows, d]. rounded: the same in bfloat16. With e_x = ‖x − rounded x‖,
    |x·y − rounded x · rounded y| ≤ e_x‖y‖ + e_y‖rounded x‖; the sum in float32 is off by d·2⁻²³ at most, and the
    result is rounded by 2⁻⁸ of itself. ‖x‖ is 1, or a rounding more. Of use where it is above 0.
    """
    away = torch.empty_like(least)
    for part in parts(len(points), PRODUCT_ROWS):
        away[part] = torch.linalg.vector_norm(points[part] - rounded[part].float(), dim=1)
    off = 1.01 * (away + away.max()) + points.shape[1] * 2.0**-23
    lowest: torch.Tensor = (least - off) * (1 - 2.0**-8)
    return lowest


def bits(numbers: torch.Tensor) -> torch.Tensor:
    """The bits of numbers, int16, rounded down to bfloat16; of those not above 0 the least there are.

    Bits of numbers that are not negative are in their order, and of negative ones below them: they compare faster.
    """
    upper = (numbers.view(torch.int32) >> 16).short()
    return torch.where(numbers > 0, upper, torch.iinfo(torch.int16).min)


def _again(
    here: torch.Tensor, there: torch.Tensor, one: torch.Tensor, two: torch.Tensor, least: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of pairs of rows here and there, int64, those whose product is not below `least`, and it as a similarity.

    one: ascending. least: float32 [pairs]. Each product is a sum of its own, so that copies of a row are alike
    wherever they stand. On the CPU.
    """
    starts = torch.zeros(len(here) + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(one, minlength=len(here)), 0, out=starts[1:])
    shape = len(here), len(there)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        at = torch.sparse_csr_tensor(starts, two, torch.zeros(len(two)), shape, check_invariants=False)
    products = torch.sparse.sampled_addmm(at, here, there.T, beta=0.0).values()
    found = torch.nonzero(products >= least).squeeze(1)
    return one[found], two[found], on_grid(products[found])
