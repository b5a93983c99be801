"""CHES, RDS, TRIM: against their formulas, one row at a time, on a small model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from examples import ToyExamples, against, made, passed_score
from numpy.typing import NDArray
from passes import preference_rows, row, small_llama, states_of, token_rows

from curate.errors import DataError
from curate.model.attention import attention_statistics
from curate.model.request import TokenRow
from scorers.ches import Ches
from scorers.rds import Rds
from scorers.trim import Trim

NAN = float("nan")


@pytest.fixture(scope="module")
def model() -> Any:
    return small_llama()


def same(one: TokenRow) -> TokenRow:
    """The row with the preferred answer as the rejected one, too."""
    return TokenRow(one.input_ids, one.supervised, rejected=TokenRow(one.input_ids, one.supervised))


# CHES


def answer_sum(model: Any, one: TokenRow) -> tuple[torch.Tensor, int]:
    """The sum of the states from the last prompt token to the second-to-last of the answer, and their number."""
    before = np.flatnonzero(one.supervised) - 1
    return states_of(model, one)[before].sum(0), len(before)


@pytest.mark.parametrize("normalised", [False, True])
def test_ches_is_its_formula(model: Any, normalised: bool) -> None:
    rows = preference_rows(6)
    found = passed_score(Ches(normalised=normalised), model, rows)
    for value, one in zip(found, rows, strict=True):
        assert one.rejected is not None
        (plus, n), (minus, m) = answer_sum(model, one), answer_sum(model, one.rejected)
        n, m = (n, m) if normalised else (1, 1)
        expected = plus @ minus / (n * m) - plus @ plus / n**2
        assert value == pytest.approx(float(expected), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("normalised", [False, True])
def test_ches_of_equal_answers_is_0(model: Any, normalised: bool) -> None:
    rows = [same(one) for one in token_rows(5)]
    squares = [float(answer_sum(model, one)[0].square().sum()) for one in rows]
    assert (np.abs(passed_score(Ches(normalised=normalised), model, rows)) < 1e-5 * np.array(squares)).all()


def test_ches_reads_from_the_last_prompt_token_to_the_second_to_last(model: Any) -> None:
    """One target: the state of the prompt's last token alone, which both answers share."""
    one = TokenRow(*_ids([5, 6], [7]), rejected=TokenRow(*_ids([5, 6], [8])))
    assert passed_score(Ches(), model, [one])[0] == pytest.approx(0, abs=1e-4)


def _ids(prompt: list[int], response: list[int]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    made_row = row(prompt, response)
    return made_row.input_ids, made_row.supervised


def test_ches_without_a_rejected_answer_is_null(model: Any) -> None:
    found = passed_score(Ches(), model, [*preference_rows(1), row([5], [6, 7])])
    assert np.isnan(found).tolist() == [False, True]


def test_ches_where_no_row_has_a_rejected_answer_is_null(model: Any) -> None:
    assert np.isnan(passed_score(Ches(), model, [row([5], [6, 7]), row([5], [6])])).tolist() == [True, True]


def test_ches_is_kept_low() -> None:
    assert Ches.higher_is_better is False


# RDS


def weighted_mean(model: Any, one: TokenRow) -> torch.Tensor:
    """sum_i i h_i / ||.||, i from 1, all tokens of the row."""
    hidden = states_of(model, one)
    total = (hidden * torch.arange(1, len(hidden) + 1)[:, None]).sum(0)
    return total / total.norm()


def test_rds_weighs_the_i_th_state_by_i(model: Any) -> None:
    target, rows = token_rows(3, seed=5), token_rows(5)
    targets = torch.stack([weighted_mean(model, one) for one in target])
    found = against(Rds(aggregate="mean"), model, target, rows)
    expected = [float((targets @ weighted_mean(model, one)).mean()) for one in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_rds_max_is_the_nearest_target_row(model: Any) -> None:
    target, rows = token_rows(3, seed=5), token_rows(5)
    targets = torch.stack([weighted_mean(model, one) for one in target])
    expected = [float((targets @ weighted_mean(model, one)).max()) for one in rows]
    np.testing.assert_allclose(against(Rds(aggregate="max"), model, target, rows), expected, rtol=1e-4)


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_rds_of_the_only_target_row_is_1(model: Any, aggregate: Any) -> None:
    one = token_rows(1)[0]
    assert against(Rds(aggregate=aggregate), model, [one], [one])[0] == pytest.approx(1, abs=1e-6)


def test_rds_chooses_the_target_itself_first(model: Any) -> None:
    rows = token_rows(6)
    found = against(Rds(), model, [rows[3]], rows)
    assert (int(found.argmax()), found.max()) == (3, 1)


def take_turns(similarity: list[list[float]]) -> list[float]:
    found = Rds().combine({"similarity": np.array(similarity, dtype=np.float32)}, pl.DataFrame())["score"]
    return found.tolist()


def test_rds_lets_the_target_rows_take_turns() -> None:
    """First target row: row 0. Second, of those left: row 2. First again: row 1. Then row 3 is left."""
    chosen = take_turns([[0.9, 0.95], [0.8, 0.1], [0.7, 0.5], [0.1, 0.2]])
    assert chosen == [1, 0.5, 0.75, 0.25]


def test_rds_leaves_a_row_without_states_out_of_the_turns() -> None:
    np.testing.assert_allclose(take_turns([[0.5], [NAN], [0.9]]), [2 / 3, NAN, 1])


def test_rds_of_no_row() -> None:
    found = Rds().combine({"similarity": np.zeros((0, 2))}, pl.DataFrame())["score"]
    assert found.shape == (0,)


def test_rds_keeps_the_target_rows_that_have_states(model: Any) -> None:
    target = [row([5, 6], []), row([7], [8, 9])]
    assert made(Rds(), ToyExamples(model, target))["vectors"].shape == (1, 32)


def test_rds_without_a_target_row_that_has_states_is_said(model: Any) -> None:
    with pytest.raises(DataError, match="none of its rows has a supervised token"):
        made(Rds(), ToyExamples(model, [row([5, 6], [])]))


# TRIM


def distinct(n: int, first: int) -> TokenRow:
    """A row of n different tokens."""
    return row(list(range(first, first + n // 2)), list(range(first + n // 2, first + n)))


@pytest.mark.parametrize("depth", [1, 2])
def test_trim_of_the_only_target_row_is_1(model: Any, depth: int) -> None:
    one = distinct(12, 20)
    assert against(Trim(attention_layers=depth), model, [one], [one])[0] == pytest.approx(1, abs=1e-5)


def naive_trim(
    model: Any, target: Sequence[TokenRow], one: TokenRow, depth: int, unseen: float, opening: int = 0
) -> float:
    """Token by token, from the formula. opening: how many tokens of each row do not count."""
    sums: dict[int, torch.Tensor] = {}
    for each in target:
        ids = torch.from_numpy(each.input_ids.astype(np.int64))[None]
        with torch.no_grad(), attention_statistics(model, depth) as found:
            model(ids)
        alpha = (found.focus[0] + found.received[0]).double() / 2
        unit = torch.nn.functional.normalize(states_of(model, each))
        tokens = list(zip(each.input_ids.tolist(), alpha, unit, strict=True))
        for token, weight, state in tokens[opening:]:
            sums[token] = sums.get(token, torch.zeros(32, dtype=torch.float64)) + weight * state
    embedding = torch.nn.functional.normalize(model.get_input_embeddings().weight.detach().double())
    seen = sorted(sums)
    values = []
    for token, state in list(zip(one.input_ids.tolist(), states_of(model, one), strict=True))[opening:]:
        near = max(seen, key=lambda each: float(embedding[each] @ embedding[token]))
        other = sums[token] if token in sums else sums[near]
        cosine = float(torch.nn.functional.cosine_similarity(state, other, dim=0))
        values.append(cosine if token in sums else unseen * cosine)
    return (float(np.mean(values)) + max(values)) / 2


@pytest.mark.parametrize(("depth", "unseen"), [(1, 0.5), (2, 0.2)])
def test_trim_is_its_formula(model: Any, depth: int, unseen: float) -> None:
    target, rows = token_rows(3, seed=5), token_rows(5)
    found = against(Trim(attention_layers=depth, unseen_weight=unseen), model, target, rows)
    expected = [naive_trim(model, target, one, depth, unseen) for one in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


OPENING = [101, 102, 103, 104]


def opened(rows: Sequence[TokenRow], opening: Sequence[int] = OPENING) -> list[TokenRow]:
    """The rows after the same system message."""
    return [
        TokenRow(
            np.concatenate([opening, one.input_ids]).astype(np.int32),
            np.concatenate([np.zeros(len(opening), dtype=bool), one.supervised]),
        )
        for one in rows
    ]


def test_trim_leaves_out_what_all_target_rows_open_with(model: Any) -> None:
    """Its states are the same in every row: the maximum would be 1 for all."""
    target, rows = opened(token_rows(3, seed=5)), opened(token_rows(5))
    found = against(Trim(attention_layers=2), model, target, rows)
    expected = [naive_trim(model, target, one, 2, 0.5, opening=4) for one in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_trims_opening_ends_where_a_target_row_differs(model: Any) -> None:
    target = opened([row([5, 6], [7]), row([5, 8], [7]), row([5, 9], [7])])
    made_of = made(Trim(attention_layers=1), ToyExamples(model, target))
    assert made_of["opening"].tolist() == [*OPENING, 5]


def test_trims_opening_ends_before_the_first_target(model: Any) -> None:
    made_of = made(Trim(attention_layers=1), ToyExamples(model, [row([5, 6], [7, 8]), row([5, 6], [7, 8])]))
    assert made_of["opening"].tolist() == [5, 6]


def test_a_single_target_row_has_no_opening(model: Any) -> None:
    made_of = made(Trim(attention_layers=1), ToyExamples(model, opened([row([5], [6])])))
    assert made_of["opening"].tolist() == []


def test_trim_of_a_row_that_is_all_opening_is_null(model: Any) -> None:
    target, rows = opened(token_rows(3, seed=5)), [row(OPENING[:1], OPENING[1:]), token_rows(1)[0]]
    assert np.isnan(against(Trim(attention_layers=1), model, target, rows)).tolist() == [True, False]


def test_trim_does_not_depend_on_the_length_of_states() -> None:
    scaled, target, rows = small_llama(), token_rows(3, seed=5), token_rows(5)
    scorer = Trim(attention_layers=2)
    before = against(scorer, scaled, target, rows)
    with torch.no_grad():
        scaled.model.norm.weight.mul_(7)
    np.testing.assert_allclose(against(scorer, scaled, target, rows), before, rtol=1e-4, atol=1e-6)


def test_trim_of_a_row_of_unseen_tokens_grows_with_their_weight(model: Any) -> None:
    target, one = [distinct(12, 20)], distinct(10, 200)
    half, full = (
        against(Trim(attention_layers=1, unseen_weight=weight), model, target, [one])[0]
        for weight in (0.5, 1.0)
    )
    assert half == pytest.approx(full / 2, rel=1e-6)
