"""Entropic optimal transport in the log domain, in blocks: two sets of points, uniform marginals.

The cost is the squared Euclidean distance c_ij = ‖x_i − y_j‖² of n points x and m target points y. The plan
that minimises Σ π_ij c_ij + ε KL(π ‖ 1/(nm)) is π_ij = exp((f_i + g_j − c_ij)/ε) / (nm), for potentials

    f_i = −ε log (1/m) Σ_j exp((g_j − c_ij)/ε),    g_j = −ε log (1/n) Σ_i exp((f_i − c_ij)/ε).

f_i is the derivative of the transport cost by the mass of point i, up to a constant that all points share.

One pass over the points does both halves of an iteration. With the row i of exp((g_j − c_ij)/ε), from which its
largest exponent is subtracted, comes f_i; the same row divided by its sum, added up over all rows, is the mass
that column j receives, and g_j moves by −ε log (mass_j · m). Only a column that receives nothing in floating
point, ε being minute, needs a pass of its own, from logarithms alone.

Iterations are mixed by Anderson's method: the next g is the combination of the last few that would make the
linearised residual smallest. It needs a third to a sixth of the iterations where ε is small; where the error
grows, the plain iteration goes on from the best g.

Passes are in float32, sums over blocks in float64, until the error is as small as the tolerance or as what float32
can tell; then in float64. What is returned is from a float64 pass: f is exact for its g, and the error is measured.

Products x·y are held in float32 as far as the memory allows and made anew, block by block, for the other rows.
A pass costs n·m exponentials (and 2·n·m·d flops for rows that are not held). Distances are from the target's
mean: the same distances, less rounding.

Cuturi, "Sinkhorn distances", 2013; Peyré and Cuturi, "Computational optimal transport", 2019, 4.4; Walker and Ni,
"Anderson acceleration for fixed-point iterations", 2011.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from curate.errors import DataError

GIB = 2**30
MEMORY = 5
"""How many earlier steps Anderson's method combines."""
BLOCK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""What a block holds: on a CPU as much as its cache, on a GPU enough to keep it busy."""
_LEAST_MASS = 1e-30

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Potentials:
    """The solution and how it was reached.

    points f: float64 [n]. target g: float64 [m]. Both in the cost's unit; a constant may move from one to the
    other. epsilon: ε, absolute. mean_cost: the mean of c_ij. iterations: passes over the points.
    marginal_error: Σ_j |mass_j − 1/m|, in [0, 2], of these f and g (the points' own marginal is exact).
    held_rows: rows whose products were held in memory. converged: whether the error is within the tolerance.
    """

    points: Floats
    target: Floats
    epsilon: float
    mean_cost: float
    iterations: int
    marginal_error: float
    held_rows: int
    converged: bool


def sinkhorn(
    points: NDArray[np.float32],
    target: NDArray[np.float32],
    epsilon: float = 0.1,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    max_bytes: float = 4 * GIB,
    device: str = "cpu",
) -> Potentials:
    """The potentials of the plan between `points`, float32 [n, d], and `target`, float32 [m, d].

    epsilon: relative to the mean cost. tolerance: of the marginal error. max_bytes: of what is made beside the
    input, on the device (a GPU holds the points too). Where not converged, `converged` says so and nothing is
    raised. Points that all stand in one place have potentials of 0.
    Raises ValueError for shapes, values and numbers that cannot be; DataError where max_bytes is too little.
    """
    _check(points, target, epsilon, tolerance, max_iterations)
    if torch.device(device).type not in BLOCK_ELEMENTS:
        raise ValueError(f"device must be cpu or cuda. Got {device!r}.")
    cost = _Cost(points, target, epsilon, max_bytes, device)
    if cost.epsilon == 0:
        return Potentials(np.zeros(len(points)), np.zeros(len(target)), 0.0, 0.0, 0, 0.0, 0, True)
    enough = max(tolerance, cost.float32_error)
    g, anderson, is_exact = np.zeros(len(target)), _Anderson(), False
    for iteration in range(1, max_iterations + 1):
        is_exact = is_exact or iteration == max_iterations
        f, log_mass = cost.sweep(g, torch.float64 if is_exact else torch.float32)
        error = float(np.abs(np.expm1(log_mass)).mean())
        if is_exact and (error <= tolerance or iteration == max_iterations):
            break
        if not is_exact and error <= enough:
            is_exact, anderson = True, _Anderson()
        else:
            g = anderson.next(g, -cost.epsilon * log_mass, error)
    return Potentials(f, g, cost.epsilon, cost.mean, iteration, error, cost.held_rows, error <= tolerance)


def calibrated(potentials: Floats) -> Floats:
    """f_i − Σ_{j≠i} f_j / (n−1), float64 [n]: a constant added to all potentials changes nothing; n = 1 gives 0.

    The change of the transport cost as mass moves to i from all others alike. Just et al. 2023 (LAVA).
    """
    n = len(potentials)
    if n < 2:
        return np.zeros(n)
    found: Floats = (potentials - potentials.mean()) * (n / (n - 1))
    return found


class _Anderson:
    """Anderson's mixing of a fixed-point iteration g ← g + r(g), with a return to the best g where it does harm."""

    def __init__(self) -> None:
        self._steps: list[Floats] = []
        self._residuals: list[Floats] = []
        self._least = np.inf
        self._is_plain = True

    def next(self, g: Floats, residual: Floats, error: float) -> Floats:
        """The next g, float64 [m], from this one, its residual and its error."""
        if error > self._least and not self._is_plain:
            g, residual = self._steps[-1], self._residuals[-1]
            self._steps, self._residuals = [g], [residual]
            self._is_plain = True
            return g + residual
        self._least = error
        self._steps = [*self._steps[-MEMORY:], g]
        self._residuals = [*self._residuals[-MEMORY:], residual]
        self._is_plain = len(self._steps) == 1
        if self._is_plain:
            return g + residual
        moved, changed = np.diff(self._steps, axis=0).T, np.diff(self._residuals, axis=0).T
        weights = np.linalg.lstsq(changed, residual, rcond=1e-10)[0]
        mixed: Floats = g + residual - (moved + changed) @ weights
        return mixed


class _Cost:
    """The products of two sets of points, scaled by 2/ε, and one iteration over them."""

    def __init__(
        self,
        points: NDArray[np.float32],
        target: NDArray[np.float32],
        relative: float,
        max_bytes: float,
        device: str,
    ) -> None:
        self._device = torch.device(device)
        self._points = torch.from_numpy(np.ascontiguousarray(points)).to(self._device)
        y = torch.from_numpy(np.ascontiguousarray(target)).to(self._device).double()
        self._centre = y.mean(0).float()
        y -= self._centre
        (n, d), m = self._points.shape, len(y)
        resident = 12 * m * d + 64 * m + 24 * n + (0 if self._device.type == "cpu" else 4 * n * d)
        self._block = self._block_rows(max_bytes - resident, n, m, d, max_bytes)
        self._squares = torch.cat([x.square().sum(1) for _, x in self._blocks(torch.float64)])
        self._target_squares = y.square().sum(1)
        total = sum((x.sum(0) for _, x in self._blocks(torch.float64)), torch.zeros_like(y[0]))
        squares = self._squares.mean() + self._target_squares.mean()
        self.mean = max(0.0, float(squares - 2 * torch.dot(total / n, y.mean(0))))
        """The mean of the cost."""
        self.epsilon = relative * self.mean
        """ε, absolute; 0 where there is no distance between any two points."""
        if self.epsilon == 0:
            return
        span = float((self._squares.max() * self._target_squares.max()).sqrt()) * 2 / self.epsilon
        self.float32_error = 4 * max(4.0, span) * float(np.finfo(np.float32).eps)
        """The marginal error below which rounding of the exponents in float32 hides what is left."""
        y *= 2 / self.epsilon
        self._scaled = {torch.float64: y, torch.float32: y.float()}
        left = max_bytes - resident - self._block * _block_bytes(m, d)
        self.held_rows = min(n, int(left / (4 * m)) // self._block * self._block if left < 4 * n * m else n)
        self._held = torch.empty(self.held_rows, m, device=self._device)
        for rows, x in self._blocks(torch.float32):
            if rows.stop <= self.held_rows:
                torch.mm(x, self._scaled[torch.float32].T, out=self._held[rows])

    def sweep(self, g: Floats, kind: torch.dtype) -> tuple[Floats, Floats]:
        """f that answers g, float64 [n], and the logarithm of mass_j · m of each column, float64 [m]."""
        shift = (torch.from_numpy(g).to(self._device) - self._target_squares) / self.epsilon
        n, m = len(self._points), len(g)
        sums, mass = torch.empty_like(self._squares), torch.zeros_like(shift)
        for rows, block in self._exponents(kind, shift.to(kind)):
            top = block.amax(1, keepdim=True)
            total = block.sub_(top).exp_().sum(1)
            mass += total.reciprocal() @ block
            sums[rows] = total.log().double() + top[:, 0]
        log_mass = torch.log(mass * (m / n))
        lost = mass * (m / n) < _LEAST_MASS
        if lost.any():
            log_mass[lost] = self._log_mass(lost, shift, sums)
        f = self._squares - self.epsilon * (sums - np.log(m))
        return f.cpu().numpy(), log_mass.cpu().numpy()

    def _log_mass(self, columns: torch.Tensor, shift: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
        """log (mass_j · m) of some columns from logarithms alone, float64 [columns]."""
        y, offset = self._scaled[torch.float64][columns].T, shift[columns]
        found = torch.full_like(offset, -torch.inf)
        for rows, x in self._blocks(torch.float64):
            logs = x @ y + offset - sums[rows, None]
            found = torch.logaddexp(found, logs.logsumexp(0))
        return found + float(np.log(len(shift) / len(sums)))

    def _exponents(self, kind: torch.dtype, shift: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Row ranges and their (g_j − c_ij + ‖x_i‖²)/ε, in a buffer that the next block overwrites."""
        y = self._scaled[kind].T
        buffer = torch.empty(self._block, len(shift), dtype=kind, device=self._device)
        for rows in self._ranges():
            block = buffer[: rows.stop - rows.start]
            if kind == torch.float32 and rows.stop <= self.held_rows:
                torch.add(self._held[rows], shift, out=block)
            else:
                torch.mm(self._centred(rows, kind), y, out=block)
                block += shift
            yield rows, block

    def _blocks(self, kind: torch.dtype) -> Iterator[tuple[slice, torch.Tensor]]:
        return ((rows, self._centred(rows, kind)) for rows in self._ranges())

    def _centred(self, rows: slice, kind: torch.dtype) -> torch.Tensor:
        return self._points[rows].to(kind) - self._centre

    def _ranges(self) -> Iterator[slice]:
        n = len(self._points)
        return (slice(start, min(start + self._block, n)) for start in range(0, n, self._block))

    def _block_rows(self, left: float, n: int, m: int, d: int, max_bytes: float) -> int:
        """Rows of a block: as many as are fast, fewer where the memory is scarce."""
        each = _block_bytes(m, d)
        if left < each:
            need = max_bytes - left + each
            raise DataError(
                f"transport between {n:,} rows and {m:,} target rows takes {need / GIB:.2g} GiB at least. "
                f"Got a limit of {max_bytes / GIB:.2g} GiB; raise `max_memory_gib`, or give fewer target rows."
            )
        return max(1, min(n, BLOCK_ELEMENTS[self._device.type] // m, int(left / each)))


def _block_bytes(m: int, d: int) -> int:
    """Of one row of a block: its points and its exponents in float64, and one temporary of each."""
    return 16 * m + 24 * d


def _check(
    points: NDArray[np.float32],
    target: NDArray[np.float32],
    epsilon: float,
    tolerance: float,
    max_iterations: int,
) -> None:
    shapes = f"Got shapes {points.shape} and {target.shape}."
    if points.ndim != 2 or target.ndim != 2 or points.shape[1] != target.shape[1]:
        raise ValueError(f"points must be [n, d] and target [m, d]. {shapes}")
    if len(points) == 0 or len(target) == 0:
        raise ValueError(f"points and target must have a row each. {shapes}")
    if not (np.isfinite(points).all() and np.isfinite(target).all()):
        raise ValueError("points and target must be finite. Got NaN or infinite values.")
    if not (epsilon > 0 and tolerance > 0 and max_iterations >= 1):
        raise ValueError(
            "epsilon and tolerance must be above 0, max_iterations at least 1. "
            f"Got {epsilon}, {tolerance}, {max_iterations}."
        )
