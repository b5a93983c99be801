"""IFD: closed forms, and what stands in for a prompt."""

import numpy as np
import pytest
import torch
from passes import row, small_llama, token_rows

from curate.model.request import Signal, TokenSignals, View, union
from curate.model.signals import compute_signals
from scorers.ifd import IFD

NLL = Signal.LOG_PROBABILITY


def score(full: list[list[float]], alone: list[list[float]]) -> list[float]:
    def signals(losses: list[list[float]]) -> tuple[np.ndarray, dict[Signal, np.ndarray]]:
        flat = [-loss for losses_of_row in losses for loss in losses_of_row]
        return np.cumsum([0, *map(len, losses)]), {NLL: np.array(flat, dtype=np.float64)}

    view = TokenSignals(*signals(alone))
    return IFD().score(TokenSignals(*signals(full), views={View.RESPONSE_ONLY: view})).tolist()


def test_the_ratio_of_means() -> None:
    assert score([[1, 2], [3]], [[2, 4], [2]]) == [0.5, 1.5]


def test_a_token_that_has_no_context_alone_counts_in_neither_mean() -> None:
    assert score([[100, 1, 2]], [[2, 4]]) == [0.5]


@pytest.mark.parametrize(("full", "alone"), [([[3, 4]], [[]]), ([[]], [[]]), ([[1]], [[0]])])
def test_null_where_there_is_nothing_to_compare_with(
    full: list[list[float]], alone: list[list[float]]
) -> None:
    assert np.isnan(score(full, alone)).all()


def test_a_model_without_memory_gives_one() -> None:
    """With nothing passed between positions a prompt cannot matter."""
    model = small_llama()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    rows = [row([5, 6, 7], [8, 9, 10]), row([5, 6], [11, 12])]
    found = compute_signals(model, rows, union([(IFD.signals, IFD.views)]), 100)
    assert IFD().score(found).tolist() == pytest.approx([1, 1], rel=1e-6)


def test_text_without_a_prompt_is_null() -> None:
    rows = [row([5], [6, 7, 8]), row([1], [6, 7, 8]), row([5, 6], [7, 8])]
    found = compute_signals(small_llama(), rows, union([(IFD.signals, IFD.views)]), 100)
    assert np.isnan(IFD().score(found)).tolist() == [True, True, False]


def test_it_is_the_loss_after_the_prompt_over_the_loss_without() -> None:
    model, (one, *_) = small_llama(), token_rows(1)
    found = compute_signals(model, [one], union([(IFD.signals, IFD.views)]), 100)
    ids = torch.from_numpy(one.input_ids.astype(np.int64))
    at = torch.from_numpy(np.flatnonzero(one.supervised))
    with torch.no_grad():
        after = model(ids[None]).logits[0, at[1:] - 1]
        alone = model(ids[at][None]).logits[0, :-1]
    loss = torch.nn.functional.cross_entropy
    expected = float(loss(after, ids[at[1:]]) / loss(alone, ids[at[1:]]))
    assert IFD().score(found)[0] == pytest.approx(expected, rel=1e-5)
