"""Paired differences of a few repeats: is one method better than another, or is nothing shown?"""

from math import comb

import numpy as np
from numpy.typing import NDArray


def sign_test(differences: NDArray[np.float64]) -> float:
    """Two-sided exact p of the sign test, in (0, 1]: as lopsided or more, if both signs were as likely.

    differences: float64 [repeats], finite; zeros are left out. 1 where none is left. Three repeats of one sign give
    .25, six .031. Source: Arbuthnott 1710; Conover 1999, 3.4.
    """
    signs = np.sign(differences[differences != 0])
    repeats = len(signs)
    fewer = int(min((signs > 0).sum(), (signs < 0).sum()))
    tail = sum(comb(repeats, each) for each in range(fewer + 1)) / 2**repeats
    return float(min(1.0, 2 * tail))


def t_interval(differences: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean, mean ± t · s / √n; None for fewer than two repeats.

    differences: float64 [repeats], finite. Source: Student 1908.
    """
    repeats = len(differences)
    if repeats < 2:
        return None
    from scipy import stats  # type: ignore[import-untyped]

    half = float(stats.t.ppf((1 + level) / 2, repeats - 1)) * float(differences.std(ddof=1)) / repeats**0.5
    mean = float(differences.mean())
    return mean - half, mean + half
