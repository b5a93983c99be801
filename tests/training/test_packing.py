"""Packing: what shares a micro-batch, and that packed rows do not see each other."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError
from curate.model.request import TokenRow
from curate.training.packing import (
    check_rows,
    equal_steps,
    flatten,
    isolates_rows,
    micro_batches,
    pack,
    steps,
    token_losses,
)


def own_losses(model: Any, row: TokenRow) -> torch.Tensor:
    """transformers' own logits of one row alone, and the textbook loss."""
    ids = torch.tensor(row.input_ids[None].astype(np.int64))
    logits = model(input_ids=ids).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
    return losses[torch.tensor(row.supervised[1:])]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 100))
def test_every_row_is_packed_once_within_the_budget(lengths: list[int], batch_tokens: int) -> None:
    groups = pack(lengths, batch_tokens)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or sum(lengths[index] for index in group) <= batch_tokens


def test_a_row_fills_the_smallest_gap_that_holds_it() -> None:
    assert pack([30, 70, 60, 40], 100) == [[1, 0], [2, 3]]
    assert pack([60, 55, 42, 3], 100) == [[0], [1, 2, 3]]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(60, 100))
def test_no_two_groups_would_fit_into_one(lengths: list[int], batch_tokens: int) -> None:
    full = sorted(sum(lengths[index] for index in group) for group in pack(lengths, batch_tokens))
    assert len(full) == 1 or full[0] + full[1] > batch_tokens


def test_packing_a_large_pool_takes_no_time() -> None:
    """First fit over a list of groups needs about a minute for these rows."""
    lengths = np.random.default_rng(0).integers(1, 400, 60_000).tolist()
    begun = time.process_time()
    groups = pack(lengths, 256)
    assert time.process_time() - begun < 3
    assert len(groups) < 1.1 * sum(min(length, 256) for length in lengths) / 256


def test_positions_start_again_with_each_row_and_targets_are_places_in_the_sequence() -> None:
    packed = flatten(
        [
            TokenRow(np.array([5, 6, 7], np.int32), np.array([False, False, True])),
            TokenRow(np.array([8, 9], np.int32), np.array([False, True])),
        ]
    )
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert packed.targets.tolist() == [2, 4]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_losses_are_those_of_separate_rows(load: Any, rows: list[TokenRow], attention: str) -> None:
    model = load().model
    model.set_attn_implementation(attention)
    with torch.no_grad():
        together = token_losses(model, flatten(rows[:6]))
        apart = torch.cat([own_losses(model, row) for row in rows[:6]])
    torch.testing.assert_close(together, apart, atol=2e-5, rtol=0)


def test_the_loss_of_a_row_is_transformers_own(load: Any, rows: list[TokenRow]) -> None:
    model = load().model
    ids = torch.tensor(rows[0].input_ids[None].astype(np.int64))
    labels = torch.where(torch.tensor(rows[0].supervised[None]), ids, -100)
    with torch.no_grad():
        expected = model(input_ids=ids, labels=labels).loss
        found = token_losses(model, flatten(rows[:1])).mean()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_model_that_ignores_logits_to_keep_has_the_same_loss(
    load: Any, rows: list[TokenRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load().model
    expected = token_losses(model, flatten(rows[:2]))
    forward = model.forward

    def without(input_ids: Any, position_ids: Any, use_cache: bool, logits_to_keep: Any) -> Any:
        return forward(input_ids=input_ids, position_ids=position_ids, use_cache=use_cache)

    monkeypatch.setattr(model, "forward", without)
    torch.testing.assert_close(token_losses(model, flatten(rows[:2])), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_llama_keeps_packed_rows_apart(load: Any, dtype: str) -> None:
    assert isolates_rows(load(dtype).model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_ignores_position_ids_is_found_out(
    load: Any, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    model = load(dtype).model
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda input_ids, position_ids, use_cache: forward(input_ids))
    assert not isolates_rows(model)


def test_rows_that_cannot_be_packed_go_one_by_one(rows: list[TokenRow]) -> None:
    assert len(micro_batches(rows[:5], 10_000)) == 1
    assert len(micro_batches(rows[:5], 10_000, together=False)) == 5


@pytest.mark.parametrize(
    ("epochs", "max_steps", "expected"),
    [
        (1.0, None, [[4, 2, 4], [0, 1]]),
        (2.0, None, [[4, 2, 4], [0, 1, 4], [2, 4, 0], [1]]),
        (0.5, None, [[4, 2]]),
        (0.01, None, [[4]]),
        (2.0, 2, [[4, 2, 4], [0, 1, 4]]),
    ],
)
def test_steps_follow_the_schedule(epochs: float, max_steps: int | None, expected: list[list[int]]) -> None:
    found = steps(np.array([4, 2, 4, 0, 1]), epochs, 3, max_steps)
    assert [step.tolist() for step in found] == expected


@pytest.mark.parametrize(
    ("supervised", "cause"),
    [([False, False], "no supervised token"), ([True, True], "first token is a target")],
)
def test_a_row_without_a_loss_is_refused(supervised: list[bool], cause: str) -> None:
    good = TokenRow(np.array([1, 2], np.int32), np.array([False, True]))
    bad = TokenRow(np.array([1, 2], np.int32), np.array(supervised))
    with pytest.raises(DataError, match=f"training: row 1 has no loss: .*{cause}"):
        check_rows([good, bad], range(2), "training")


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 40))
def test_equal_steps_are_as_many_as_asked_for_and_none_is_left_out(tokens: list[int], count: int) -> None:
    if len(tokens) < count:
        with pytest.raises(DataError, match="need at least"):
            equal_steps(np.array(tokens), count)
        return
    found = equal_steps(np.array(tokens), count)
    assert found[0] == 0
    assert found[-1] == count - 1
    assert set(np.diff(found).tolist()) <= {0, 1}


def test_equal_steps_hold_about_equal_tokens() -> None:
    tokens = np.random.default_rng(0).integers(1, 50, 1000)
    sums = np.bincount(equal_steps(tokens, 20), weights=tokens)
    assert np.abs(sums - sums.mean()).max() < 50


def test_a_large_row_has_a_step_of_its_own() -> None:
    assert equal_steps(np.array([1, 1, 1, 100, 1, 1]), 3).tolist() == [0, 0, 0, 1, 2, 2]
