"""GraNd of the head against autograd."""

import pytest
from passes import naive, small_llama, token_rows

from curate.model.request import Signal, union
from curate.model.signals import compute_signals
from scorers.grand import GraNd


@pytest.mark.parametrize("tied", [False, True])
def test_it_is_the_norm_of_the_heads_gradient(tied: bool) -> None:
    model, rows = small_llama(tied), token_rows(6)
    found = GraNd().score(compute_signals(model, rows, union([(GraNd.signals, GraNd.views)]), 200))
    expected = [naive(model, one)[Signal.HEAD_GRADIENT_NORM][0] for one in rows]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
