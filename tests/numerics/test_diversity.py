"""The nearest other row: equal to a search of all pairs, in one block and in many."""

import numpy as np
import pytest
from candidates import unit

from curate.numerics import diversity
from curate.numerics.diversity import nearest_other


@pytest.mark.parametrize("elements", [1, 60, 1 << 24])
def test_blocks_change_nothing(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "_BLOCK_ELEMENTS", elements)
    vectors = unit(np.random.default_rng(0).normal(size=(23, 4)))
    pairs = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    expected = [max(pairs[row, other] for other in range(23) if other != row) for row in range(23)]
    np.testing.assert_allclose(nearest_other(vectors), expected, atol=1e-6)


def test_a_copy_is_another_row() -> None:
    vectors = unit(np.array([[1, 0], [1, 0], [0, 1]]))
    assert nearest_other(vectors).tolist() == [1, 1, 0]


def test_one_row_has_no_other() -> None:
    with pytest.raises(ValueError, match="at least two rows"):
        nearest_other(unit(np.array([[1, 0]])))
