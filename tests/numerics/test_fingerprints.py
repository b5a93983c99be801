"""TRIM's fingerprints and MONA's min-max similarity against closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from curate.numerics.fingerprints import fingerprints, match, min_max_similarity, nearest_seen

VOCABULARY, WIDTH = 30, 8


def toy(tokens: int = 12, vocabulary: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """States, token ids with repeats, weights."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(tokens, WIDTH, generator=generator)
    ids = torch.randint(0, vocabulary, (tokens,), generator=generator)
    return states, ids, torch.rand(tokens, generator=generator)


def embedding() -> Tensor:
    return torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(1))


def test_a_fingerprint_is_the_weighted_sum_of_unit_states_scaled_to_one() -> None:
    states, token_ids, weights = toy()
    ids, vectors = fingerprints(states, token_ids, weights)
    assert ids.tolist() == sorted(set(token_ids.tolist()))
    for token, vector in zip(ids.tolist(), vectors, strict=True):
        total = torch.zeros(WIDTH)
        for state, weight in zip(states[token_ids == token], weights[token_ids == token], strict=True):
            total += weight * state / state.norm()
        torch.testing.assert_close(vector, total / total.norm())


def test_the_order_of_tokens_changes_nothing() -> None:
    states, token_ids, weights = toy()
    ids, vectors = fingerprints(states, token_ids, weights)
    other, turned = fingerprints(states.flip(0), token_ids.flip(0), weights.flip(0))
    assert torch.equal(ids, other)
    torch.testing.assert_close(vectors, turned)


@pytest.mark.parametrize("scale", [1e-30, 0.01, 1e30])
def test_the_scale_of_weights_and_of_states_changes_nothing(scale: float) -> None:
    states, token_ids, weights = toy()
    _, vectors = fingerprints(states, token_ids, weights)
    torch.testing.assert_close(fingerprints(states, token_ids, weights * scale)[1], vectors)
    torch.testing.assert_close(fingerprints(states * scale, token_ids, weights)[1], vectors)


def test_weights_of_zero_leave_no_fingerprint() -> None:
    states, token_ids, weights = toy()
    ids, vectors = fingerprints(states, token_ids, weights * (token_ids != token_ids[0]))
    empty = ids == token_ids[0]
    assert not vectors[empty].any()
    torch.testing.assert_close(vectors[~empty].norm(dim=1), torch.ones(len(ids) - 1))


def test_a_candidate_that_is_the_only_target_scores_one() -> None:
    states, _, weights = toy()
    token_ids = torch.arange(12)
    ids, vectors = fingerprints(states, token_ids, weights + 0.1)
    similarity = match(states, token_ids, ids, vectors, nearest_seen(embedding(), ids))
    torch.testing.assert_close(similarity, torch.ones(12))


def test_a_seen_token_is_compared_with_its_own_fingerprint() -> None:
    states, token_ids, weights = toy()
    ids, vectors = fingerprints(states, token_ids, weights)
    similarity = match(states, token_ids, ids, vectors, nearest_seen(embedding(), ids))
    own = vectors[torch.searchsorted(ids, token_ids)]
    torch.testing.assert_close(similarity, torch.cosine_similarity(states, own))


@pytest.mark.parametrize("weight", [0.5, 0.2, 1.0])
def test_an_unseen_token_is_compared_with_the_nearest_and_discounted(weight: float) -> None:
    ids = torch.tensor([3, 7])
    vectors = torch.eye(2)
    table = torch.zeros(10, 2)
    table[3], table[7] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    table[5], table[6] = torch.tensor([0.6, 0.5]), torch.tensor([0.5, 0.6])
    states = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    nearest = nearest_seen(table, ids)
    similarity = match(states, torch.tensor([5, 6, 7]), ids, vectors, nearest, weight)
    torch.testing.assert_close(similarity, torch.tensor([0.6 * weight, 0.8 * weight, 0.8]))


def test_the_default_discount_is_a_half() -> None:
    ids, vectors = torch.tensor([0]), torch.tensor([[1.0]])
    nearest = nearest_seen(torch.ones(2, 1), ids)
    similarity = match(torch.ones(2, 1), torch.tensor([0, 1]), ids, vectors, nearest)
    assert similarity.tolist() == [1.0, 0.5]


def test_blocks_change_nothing() -> None:
    ids = torch.tensor([2, 11, 29])
    whole = nearest_seen(embedding(), ids)
    assert torch.equal(nearest_seen(embedding(), ids, memory_bytes=7 * 3 * 4), whole)
    assert torch.equal(nearest_seen(embedding(), ids, memory_bytes=1), whole)
    cosines = torch.cosine_similarity(embedding()[:, None], embedding()[ids][None], dim=2)
    assert torch.equal(whole, cosines.argmax(1))


def test_the_nearest_of_a_seen_token_is_itself_among_twins() -> None:
    assert nearest_seen(torch.ones(4, 2), torch.tensor([1, 3])).tolist() == [0, 0, 0, 1]


def test_a_state_of_zeros_is_like_nothing() -> None:
    ids, vectors = torch.tensor([0]), torch.tensor([[1.0, 0.0]])
    nearest = nearest_seen(torch.ones(1, 2), ids)
    assert match(torch.zeros(1, 2), torch.tensor([0]), ids, vectors, nearest).tolist() == [0.0]


def test_low_precision_is_summed_in_float32() -> None:
    states, token_ids, weights = toy()
    _, vectors = fingerprints(states.bfloat16(), token_ids, weights.bfloat16())
    expected = fingerprints(states.bfloat16().float(), token_ids, weights.bfloat16().float())[1]
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, expected)


def test_what_does_not_fit_is_refused() -> None:
    states, token_ids, weights = toy()
    ids, vectors = fingerprints(states, token_ids, weights)
    nearest = nearest_seen(embedding(), ids)
    with pytest.raises(ValueError, match="one length above 0. Got 12, 11 and 12"):
        fingerprints(states, token_ids[1:], weights)
    with pytest.raises(ValueError, match="Got 0, 0 and 0"):
        fingerprints(states[:0], token_ids[:0], weights[:0])
    with pytest.raises(ValueError, match="at least one token"):
        nearest_seen(embedding(), ids[:0])
    with pytest.raises(ValueError, match="one length. Got 11 and 12"):
        match(states[1:], token_ids, ids, vectors, nearest)
    for weight in (0.0, 1.1):
        with pytest.raises(ValueError, match="unseen_weight"):
            match(states, token_ids, ids, vectors, nearest, weight)


def similarity(code: list[float], prototype: list[float]) -> float:
    return float(min_max_similarity(torch.tensor([code]), torch.tensor(prototype))[0])


def test_min_max_of_the_published_example() -> None:
    assert similarity([1, 0, 2], [2, 1, 1]) == pytest.approx(0.4)


def test_min_max_of_nothing_with_nothing_is_zero() -> None:
    assert similarity([0.0, 0.0], [0.0, 0.0]) == 0


def test_negative_entries_count_as_zero() -> None:
    assert similarity([1, -5, 2], [2, -1, 1]) == similarity([1, 0, 2], [2, 0, 1])


codes = st.lists(st.floats(0.015625, 64, width=16), min_size=1, max_size=6)


@given(codes)
def test_min_max_of_a_code_with_itself_is_one(code: list[float]) -> None:
    assert similarity(code, code) == 1


@given(codes, st.integers(1, 9))
def test_min_max_of_a_code_with_a_multiple_is_its_inverse(code: list[float], factor: int) -> None:
    assert similarity(code, [factor * value for value in code]) == pytest.approx(1 / factor)


def test_each_example_is_compared_by_itself() -> None:
    found = min_max_similarity(torch.tensor([[1.0, 0], [0, 3], [0, 0]]), torch.tensor([1.0, 1]))
    torch.testing.assert_close(found, torch.tensor([0.5, 0.25, 0]))


def test_features_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Got \(2, 3\) and \(1,\)"):
        min_max_similarity(torch.ones(2, 3), torch.ones(1))
