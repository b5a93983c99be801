"""What the submodular selectors share: rows with an embedding, their kernel, greedy, reasons."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.admission import Admission, Verdict
from curate.budget import Budget
from curate.errors import ConfigError, DataError
from curate.numerics.seeds import derive
from curate.pool import Pool
from curate.selector import Selection

if TYPE_CHECKING:
    from curate.numerics.greedy import Chosen
    from curate.numerics.submodular import Objective

KernelForm = Literal["auto", "dense", "sparse"]
Device = Literal["cpu", "cuda"]
Kernel = Any
Bounds = Literal["", "at most "]

GIB = 2**30


class Within:
    """An admission to some rows of a pool, by their places among those rows."""

    def __init__(self, admission: Admission, rows: NDArray[np.int64]) -> None:
        """rows: int64, rows of the pool."""
        self._admission = admission
        self._rows: list[int] = rows.tolist()
        place = {row: index for index, row in enumerate(self._rows)}
        included = [place[row] for row in admission.include.tolist() if row in place]
        self.include = np.array(included, dtype=np.int64)

    @property
    def spent(self) -> bool:
        """Whether nothing more may be chosen."""
        return self._admission.spent

    def verdict(self, row: int) -> Verdict:
        """Whether the row at this place may be chosen."""
        return self._admission.verdict(self._rows[row])

    def add(self, row: int) -> None:
        """Count it as chosen."""
        self._admission.add(self._rows[row])


def is_dense(kernel: KernelForm, rows: int, max_memory_gib: float) -> bool:
    """Whether the kernel of this many rows is held whole: `auto` does so while its 4n² bytes fit."""
    return kernel == "dense" or (kernel == "auto" and 4 * rows**2 <= max_memory_gib * GIB)


def kernel_bytes(kernel: KernelForm, rows: int, width: int, neighbours: int, max_memory_gib: float) -> int:
    """The most that the kernel takes while it is made, and the unit vectors beside it."""
    from curate.numerics.kernels import dense_bytes, sparse_bytes

    dense = is_dense(kernel, rows, max_memory_gib)
    return (dense_bytes(rows) if dense else sparse_bytes(rows, neighbours)) + 8 * rows * width


def kernel_of(
    vectors: NDArray[np.float32],
    kernel: KernelForm,
    neighbours: int,
    max_memory_gib: float,
    device: Device,
) -> tuple[Kernel, dict[str, Any]]:
    """The kernel of unit vectors, float32 [rows, d], and what to say of it. Raises DataError where it does not fit."""
    from curate.numerics.kernels import dense_kernel, sparse_kernel

    if is_dense(kernel, len(vectors), max_memory_gib):
        dense = dense_kernel(vectors, max_memory_gib * GIB, device)
        return dense, {"kernel": "dense", "kernel_bytes": dense.bytes}
    sparse = sparse_kernel(vectors, neighbours, max_memory_gib * GIB, device)
    return sparse, {
        "kernel": "sparse",
        "kernel_bytes": sparse.bytes,
        "neighbours": neighbours,
        "mean_neighbours": round(sparse.mean_neighbours, 1),
    }


def check_device(device: Device) -> None:
    """Raises ConfigError where there is no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device: cuda` needs a GPU that torch sees. There is none; write `device: cpu`.")


@dataclass(frozen=True)
class Candidates:
    """The rows of a pool that have an embedding.

    vectors: float32 [rows, d], of unit length. rows: int64, their places in the pool. admission: to them.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    admission: Within
    pool: Pool
    budget: Budget


@dataclass(frozen=True)
class Found:
    """chosen: among the candidates. bounds: how its bounds bear on the gains that the other rows had at the end."""

    chosen: "Chosen"
    notes: dict[str, Any]
    bounds: Bounds


def choose(pool: Pool, budget: Budget, maximise: Callable[[Candidates], Found]) -> Selection:
    """The rows with an embedding that maximise something, in the order of choice; equal gains by uid.

    The rows are taken in the order of their uids (equal ones by position), so that neither a tie (all first gains of
    a log-determinant are equal) nor the rounding of a product depends on the order of the pool. Raises DataError
    where no row has an embedding, or the budget or a constraint cannot be met.
    """
    from curate.numerics.kmeans import unit_rows

    vectors = pool.vectors("embedding")
    by_uid = pool.frame["uid"].to_frame().with_row_index().sort("uid", maintain_order=True)
    known = by_uid["index"].to_numpy().astype(np.int64)
    known = known[~np.isnan(vectors[known]).any(axis=1)]
    if not len(known):
        raise DataError(f"none of the {pool.rows} rows has an embedding; an `embed` stage must come before.")
    vectors = unit_rows(vectors[known])
    admission = pool.admission(budget)
    found = maximise(Candidates(vectors, known, Within(admission, known), pool, budget))
    admission.check()
    unknown = admission.include[~np.isin(admission.include, known)]
    kept = np.concatenate([unknown, known[found.chosen.rows]])
    if not len(kept):
        raise DataError(f"budget must hold the first row that is chosen. Got {budget}.")
    gains = np.full(pool.rows, np.nan)
    gains[known] = found.chosen.bounds
    notes = found.notes | {
        "gain_evaluations": found.chosen.evaluations,
        "objective": float(found.chosen.gains.sum()),
    }
    return Selection.of(kept, _reasons(pool.rows, known, kept, gains, found.bounds), notes)


def greedily(
    objective: "Objective", candidates: Candidates, notes: Mapping[str, Any], epsilon: float | None = None
) -> Found:
    """The best row each time; with epsilon, that of a random sample of (n/k) ln(1/epsilon) rows.

    notes: what is known of the objective, told with what is found.
    """
    from curate.numerics.greedy import greedy, lazy_greedy, stochastic_greedy
    from curate.numerics.submodular import sample_rows

    pool, rows = candidates.pool, candidates.rows
    if epsilon is not None:
        sample = sample_rows(len(rows), _expected(pool, candidates.budget), epsilon)
        order = np.argsort(pool.keys("stochastic")[rows], kind="stable")
        seed = derive(pool.seed, "stochastic_greedy")
        chosen = stochastic_greedy(objective, candidates.admission, sample, order, seed)
        return Found(chosen, {**notes, "greedy": "stochastic", "sample_rows": sample}, "at most ")
    chosen = (greedy if objective.held else lazy_greedy)(objective, candidates.admission)
    return Found(chosen, {**notes, "greedy": "exact"}, "" if objective.held else "at most ")


def _expected(pool: Pool, budget: Budget) -> int:
    """About how many rows the budget holds."""
    if budget.is_all:
        return pool.rows
    if budget.column is None:
        return budget.rows(pool.rows)
    total = int(pool.counts(budget.column).sum())
    return max(1, round(pool.rows * budget.limit(total) / max(1, total)))


def _reasons(
    rows: int, known: NDArray[np.int64], kept: NDArray[np.int64], gains: NDArray[np.float64], bounds: Bounds
) -> pl.Series:
    """Texts like "gain 12.34, chosen 17 of 500" and "gain 0.4 when the budget was met", String [rows]."""
    place = np.zeros(rows, dtype=np.int64)
    place[kept] = np.arange(1, len(kept) + 1)
    embedded = np.zeros(rows, dtype=np.bool_)
    embedded[known] = True
    gain = pl.col("gain").round_sig_figs(4).cast(pl.String).str.strip_suffix(".0")
    text = (
        pl.when(~pl.col("embedded") & (pl.col("place") > 0))
        .then(pl.format(f"no embedding, so no gain; chosen {{}} of {len(kept)}", "place"))
        .when(~pl.col("embedded"))
        .then(pl.lit("no embedding (embedding is null)"))
        .when(pl.col("place") > 0)
        .then(pl.format(f"gain {{}}, chosen {{}} of {len(kept)}", gain, "place"))
        .when(pl.col("gain").is_nan())
        .then(pl.lit("in no random sample of the candidates"))
        .otherwise(pl.format(f"gain {bounds}{{}} when the budget was met", gain))
    )
    frame = pl.DataFrame({"place": place, "gain": gains, "embedded": embedded})
    return frame.select(text).to_series()
