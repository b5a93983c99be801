"""Pacing functions of curricula: how many of the easiest rows are open at each step.

Source: Wu, Dyer, Neyshabur, "When do curricula work?", 2021.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pacing = Literal["linear", "quadratic", "root", "step", "exponential", "logarithmic"]


def pacing(kind: Pacing, steps: int, rows: int, a: float, b: float) -> NDArray[np.float64]:
    """g(t) for t = 0 … steps, float64 [steps + 1], in rows: the rows of which step t draws one.

    a: share of the steps after which all rows are open, above 0. b: share of the rows open at t = 0.
    With x = t / (a·steps): g = bN + (1 - b)·N·f(x), cut at N, where f is x, x², √x, ⌊x⌋,
    (e^(10x) - 1) / (e^10 - 1) or 1 + ln(x + e^-10) / 10. So g(0) = bN, g(a·steps) = N, and g never falls.
    """
    x = np.minimum(np.arange(steps + 1) / (a * max(steps, 1)), 1.0)
    match kind:
        case "linear":
            share = x
        case "quadratic":
            share = x**2
        case "root":
            share = np.sqrt(x)
        case "step":
            share = np.floor(x)
        case "exponential":
            share = np.expm1(10 * x) / np.expm1(10)
        case "logarithmic":
            share = 1 + 0.1 * np.log(x + np.exp(-10.0))
    return np.asarray(np.minimum(b * rows + (1 - b) * rows * share, rows), dtype=np.float64)
