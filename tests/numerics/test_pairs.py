"""Pairs above a bound: the same in bfloat16 first as in float32 alone, each once, whatever the blocks."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.numerics import pairs
from curate.numerics.kernels import dense_kernel
from curate.numerics.kmeans import unit_rows
from curate.numerics.pairs import KeptPairs, bits, lowest_in_bfloat16, pairs_above, places_where

STEP = 2.0**-16
Found = dict[tuple[int, int], float]


def points(rows: int, width: int = 8, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32))


def corners(rows: int, seed: int = 0) -> np.ndarray:
    """Corners of a cube of 16 dimensions: their products are exact, in bfloat16 too."""
    return np.random.default_rng(seed).choice([-0.25, 0.25], (rows, 16)).astype(np.float32)


def bounds(rows: int, highest: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed + 1).uniform(0, highest, rows)
    return (np.round(drawn / STEP) * STEP).astype(np.float32)


def found(monkeypatch: pytest.MonkeyPatch, coarse: bool, vectors: np.ndarray, bound: np.ndarray) -> Found:
    with monkeypatch.context() as patched:
        patched.setattr(pairs, "multiplies_bfloat16", lambda device: coarse)
        blocks = [torch.stack([*map(torch.Tensor.double, each)], 1) for each in pairs_above(vectors, bound)]
    listed = [(min(one, two), max(one, two), value) for one, two, value in torch.cat(blocks).tolist()]
    assert len({each[:2] for each in listed}) == len(listed)
    return {(int(one), int(two)): value for one, two, value in listed}


@pytest.mark.parametrize("coarse", [False, True])
@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 70), seed=st.integers(0, 1000), highest=st.floats(0, 1))
def test_they_are_all_pairs_above_the_bound_of_either(
    coarse: bool, rows: int, seed: int, highest: float
) -> None:
    vectors, bound = corners(rows, seed), bounds(rows, highest, seed)
    whole = dense_kernel(vectors, 2**30).values.numpy()
    above = np.argwhere(np.triu(whole > np.minimum(bound, bound[:, None]), 1))
    expected = {(one, two): float(whole[one, two]) for one, two in above.tolist()}
    with pytest.MonkeyPatch.context() as patched:
        assert found(patched, coarse, vectors, bound) == expected


@pytest.mark.parametrize("highest", [0.0, 0.02, 0.5])
def test_in_bfloat16_first_none_is_lost(monkeypatch: pytest.MonkeyPatch, highest: float) -> None:
    vectors, bound = points(400, 64), bounds(400, highest)
    exact, coarse = (found(monkeypatch, way, vectors, bound) for way in (False, True))
    least = np.minimum(bound, bound[:, None])
    near = {
        pair
        for pair in exact.keys() ^ coarse.keys()
        if vectors[pair[0]] @ vectors[pair[1]] < least[pair] + 2 * STEP
    }
    assert exact.keys() ^ coarse.keys() == near and len(near) < 10
    both = exact.keys() & coarse.keys()
    assert len(both) > 100
    assert max(abs(exact[pair] - coarse[pair]) for pair in both) <= STEP


def looked_at_again(
    monkeypatch: pytest.MonkeyPatch, vectors: np.ndarray, bound: np.ndarray
) -> tuple[int, int]:
    """How many pairs, and how many are found."""
    asked = Mock(wraps=pairs._again)
    monkeypatch.setattr(pairs, "_again", asked)
    kept = len(found(monkeypatch, True, vectors, bound))
    return sum(len(call.args[2]) for call in asked.call_args_list), kept


def test_few_more_pairs_are_looked_at_again_than_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    again, kept = looked_at_again(monkeypatch, points(400, 64), np.full(400, 0.25, dtype=np.float32))
    assert 100 < kept < again < 1.5 * kept


def test_below_a_bound_of_0_are_not_all_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.eye(300, dtype=np.float32)
    vectors[0, 1] = 1
    vectors[200:] = 0
    assert looked_at_again(monkeypatch, unit_rows(vectors), np.zeros(300, dtype=np.float32)) == (1, 1)


@pytest.mark.parametrize("width", [1, 3, 64, 384, 4096])
def test_in_bfloat16_no_product_comes_out_lower_than_said(width: int) -> None:
    random = np.random.default_rng(width)
    vectors = random.normal(size=(80, width)).astype(np.float32)
    vectors[:20] = 1 + 2.0**-8 - 2.0**-20  # just below the middle of two numbers of bfloat16
    vectors[20:40] = 1 + 2.0**-8 + 2.0**-20
    vectors[40:60] = np.abs(vectors[40:60])
    vectors[:40, ::3] *= random.choice([0.5, 1], (40, len(vectors[0, ::3]))).astype(np.float32)
    vectors = unit_rows(vectors)
    vectors[:40:2] *= np.float32(
        np.sqrt(width) / 2 ** np.ceil(np.log2(width) / 2)
    )  # back at the middles; not longer
    points = torch.from_numpy(vectors)
    rounded = points.bfloat16()
    coarse = (rounded @ rounded.T).float()
    exact = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    for other in range(80):
        said = lowest_in_bfloat16(torch.from_numpy(exact[:, other].astype(np.float32)), points, rounded)
        assert torch.all((coarse[:, other] >= said) | (said <= 0))
        assert torch.all(said >= torch.from_numpy(exact[:, other]) - 0.02)


def test_rounding_all_one_way_comes_near_what_is_said() -> None:
    points = torch.full((1, 254), (1 + 2.0**-8 - 2.0**-18) / 16)  # of length 1 nearly
    rounded = points.bfloat16()
    exact, coarse = points @ points.T, rounded @ rounded.T
    off = float(exact - lowest_in_bfloat16(exact[0], points, rounded))
    assert 0.6 * off < float(exact - coarse) < off


@given(bound=st.floats(-1, 1, width=32), value=st.floats(-1, 1, width=32))
def test_bits_compare_as_their_numbers_do(bound: float, value: float) -> None:
    lowest = bits(torch.tensor([bound]))
    number = torch.tensor([value]).bfloat16()
    passes = bool(number.view(torch.int16) >= lowest)
    if bound > 0:
        lowered = float(lowest.view(torch.bfloat16))
        assert lowered <= bound <= lowered * (1 + 2.0**-7) + 2.0**-126
        assert passes == (float(number) >= lowered)
    else:
        assert passes


@pytest.mark.parametrize("coarse", [False, True])
def test_a_similarity_at_the_bound_is_not_above_it(monkeypatch: pytest.MonkeyPatch, coarse: bool) -> None:
    vectors = corners(2)
    vectors[:] = 0.25
    vectors[1, :4] = -0.25  # the product is ½
    for bound, expected in [(0.5, {}), (0.5 - STEP, {(0, 1): 0.5})]:
        both = np.full(2, bound, dtype=np.float32)
        assert found(monkeypatch, coarse, vectors, both) == expected
        assert found(monkeypatch, coarse, vectors, np.array([1, bound], dtype=np.float32)) == expected


@pytest.mark.parametrize("coarse", [False, True])
def test_blocks_of_any_size_find_the_same(monkeypatch: pytest.MonkeyPatch, coarse: bool) -> None:
    vectors, bound = corners(150), bounds(150, 0.4)
    whole = found(monkeypatch, coarse, vectors, bound)
    monkeypatch.setattr(pairs, "PRODUCT_ROWS", 7)
    monkeypatch.setattr(pairs, "PRODUCT_COLUMNS", 13)
    assert found(monkeypatch, coarse, vectors, bound) == whole
    assert len(whole) > 100


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 8), (5, 1)])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.6, 1.0])
def test_places_are_by_rows(shape: tuple[int, int], share: float) -> None:
    where = torch.from_numpy(np.random.default_rng(0).random(shape) < share)
    assert torch.stack(places_where(where), 1).tolist() == torch.nonzero(where).tolist()


def test_without_a_pair_a_row_has_itself() -> None:
    kept = KeptPairs(4, 2**20)
    kept.keep((*torch.empty(2, 0, dtype=torch.int32), torch.empty(0)))
    kernel = kept.kernel(np.array([0, 2, 3]))
    assert kernel.dense().values.numpy().tolist() == np.diag([1.0, 0, 1, 1]).tolist()


def test_only_a_cpu_that_can_begins_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert not pairs.multiplies_bfloat16("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert pairs.multiplies_bfloat16("cpu") and not pairs.multiplies_bfloat16("cuda")
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not pairs.multiplies_bfloat16("cpu")
