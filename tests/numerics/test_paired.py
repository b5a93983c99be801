"""Paired differences: the sign test and Student's interval, against textbook numbers."""

import numpy as np
import pytest

from curate.numerics.paired import sign_test, t_interval


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([-1, -2, -3], 0.25),
        ([1, 1, 1, 1, 1, 1], 2 / 64),
        ([1, -1], 1.0),
        ([0, 0], 1.0),
        ([1, 0, 1], 0.5),
        ([1, 1, 1, 1, -1], 2 * 6 / 32),
    ],
)
def test_the_sign_test_counts_signs(differences: list[float], expected: float) -> None:
    assert sign_test(np.array(differences, dtype=float)) == pytest.approx(expected)


def test_students_interval_of_three() -> None:
    low, high = t_interval(np.array([1.0, 2.0, 3.0])) or (0, 0)
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6)


def test_one_repeat_has_no_interval() -> None:
    assert t_interval(np.array([1.0])) is None
