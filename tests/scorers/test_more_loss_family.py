"""Scores of given log-probabilities: bits per character, margin, SALT, GRAPE, SFTMix, RHO-LOSS."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.model.request import Signal, TokenSignals
from curate.scorer import Numbers
from curate.settings import ModelSpec
from scorers.bits_per_char import BitsPerChar
from scorers.confidence import Confidence
from scorers.fit import Fit
from scorers.hard_learnable import HardLearnable
from scorers.hard_loss_delta import HardLossDelta
from scorers.margin import Margin
from scorers.perplexity import Perplexity

NAN = float("nan")


def tokens(
    log_probabilities: Sequence[Sequence[float]],
    ranks: Sequence[Sequence[int]] | None = None,
    characters: Sequence[int] | None = None,
    signal: Signal = Signal.LOG_PROBABILITY,
) -> TokenSignals:
    """Signals of examples, one list of tokens each."""
    offsets = np.cumsum([0, *map(len, log_probabilities)])
    per_token = {signal: np.array([value for one in log_probabilities for value in one], dtype=np.float64)}
    if ranks is not None:
        per_token[Signal.TARGET_RANK] = np.array([value for one in ranks for value in one], dtype=np.float64)
    counts = np.array(characters if characters is not None else [0] * len(log_probabilities))
    return TokenSignals(offsets, per_token, characters=counts)


# bits per character


def test_bits_per_char_by_hand() -> None:
    """Probabilities 1/2, 1/4 and 1/8 are 1 + 2 + 3 bits, over 4 characters."""
    logs = [[math.log(1 / 2), math.log(1 / 4), math.log(1 / 8)]]
    assert BitsPerChar().score(tokens(logs, characters=[4]))[0] == pytest.approx(1.5, rel=1e-12)


def test_bits_per_char_does_not_depend_on_how_a_text_is_cut_into_tokens() -> None:
    """The same probability of the whole, in one token and in three."""
    found = BitsPerChar().score(tokens([[-6.0], [-1.0, -2.0, -3.0]], characters=[5, 5]))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_bits_per_char_without_a_token_or_a_character_is_null() -> None:
    found = BitsPerChar().score(tokens([[-1.0], [], [-1.0]], characters=[0, 3, 1]))
    assert np.isnan(found).tolist() == [True, True, False]


# margin


def test_margin_is_a_mean_over_tokens() -> None:
    found = Margin().score(tokens([[1.0, -0.5], [], [0.25]], signal=Signal.MARGIN))
    np.testing.assert_array_equal(found, [0.25, NAN, 0.25])


# hard but learnable


def test_hard_learnable_is_the_median_loss_within_reach() -> None:
    """Of losses 1, 9, 2, 4 the second is out of reach."""
    logs, ranks = [[-1.0, -9.0, -2.0, -4.0]], [[0, 10, 1, 9]]
    assert HardLearnable(top_k=10).score(tokens(logs, ranks)).tolist() == [2]


def test_hard_learnable_of_an_even_number_is_between_the_middle_two() -> None:
    logs, ranks = [[-1.0, -2.0, -4.0, -5.0]], [[0, 0, 0, 0]]
    assert HardLearnable().score(tokens(logs, ranks)).tolist() == [3]


def test_a_truth_just_out_of_reach_does_not_count() -> None:
    logs, ranks = [[-1.0, -3.0]], [[2, 3]]
    assert HardLearnable(top_k=3).score(tokens(logs, ranks)).tolist() == [1]


def test_hard_learnable_is_null_where_nothing_is_within_reach() -> None:
    found = HardLearnable(top_k=1).score(tokens([[-1.0], [], [-2.0]], [[1], [], [0]]))
    np.testing.assert_array_equal(found, [NAN, NAN, 2])


def test_null_is_a_verdict_of_hard_learnable() -> None:
    assert HardLearnable.allows_null


# fit


def combine(fit: Sequence[float], prompts: Sequence[str | None]) -> tuple[Numbers, Numbers]:
    """Score and place."""
    rows = pl.DataFrame({"prompt": prompts}, schema={"prompt": pl.String})
    found = Fit().combine({"log_probability": np.array(fit, dtype=np.float64)}, rows)
    return found["score"], found["place"]


def fit_of(*logs: Sequence[float]) -> Numbers:
    return Fit().measure(tokens(logs))["log_probability"]


def test_fit_of_a_bigram_model() -> None:
    """P(b | a) = 1/2, P(a | b) = 1/4: of a, the answer "b a b" has (2 log 1/2 + log 1/4) / 3."""
    found = fit_of([math.log(1 / 2), math.log(1 / 4), math.log(1 / 2)])
    assert found[0] == pytest.approx(-4 / 3 * math.log(2), rel=1e-12)


@given(st.floats(-50, 0), st.integers(1, 200), st.integers(1, 20))
def test_repeating_a_response_of_constant_probability_leaves_its_fit(
    log: float, length: int, times: int
) -> None:
    once, again = fit_of([log] * length, [log] * (length * times))
    assert again == pytest.approx(once, rel=1e-12)


@given(st.lists(st.lists(st.floats(-20, 0), min_size=1, max_size=6), min_size=2, max_size=6, unique_by=tuple))
def test_the_first_place_has_the_lowest_perplexity(logs: list[list[float]]) -> None:
    _, place = combine(fit_of(*logs).tolist(), ["same"] * len(logs))
    perplexity = Perplexity().score(tokens(logs))
    assert perplexity[place == 1][0] == perplexity.min()


def test_the_fit_is_the_score() -> None:
    score, _ = combine([-1.0, -2.0, NAN], ["a", "a", "b"])
    np.testing.assert_array_equal(score, [-1, -2, NAN])


def test_places_count_within_an_instruction() -> None:
    _, place = combine([-3.0, -1.0, -2.0, -5.0, -4.0], ["a", "a", "a", "b", "b"])
    assert place.tolist() == [3, 1, 2, 2, 1]


def test_equal_fits_keep_their_order() -> None:
    _, place = combine([-2.0, -1.0, -1.0, -1.0], ["a"] * 4)
    assert place.tolist() == [4, 1, 2, 3]


def test_an_only_answer_has_no_place() -> None:
    _, place = combine([-1.0, -2.0, -3.0], ["a", "b", "a"])
    np.testing.assert_array_equal(place, [1, NAN, 2])


def test_answers_without_a_fit_are_not_counted() -> None:
    """Two answers, one of them null: the other is alone."""
    _, place = combine([-1.0, NAN, -2.0, NAN, -1.0], ["a", "a", "b", "b", "b"])
    np.testing.assert_array_equal(place, [NAN, NAN, 2, NAN, 1])


def test_case_and_white_space_make_no_other_instruction() -> None:
    _, place = combine([-1.0, -2.0, -3.0], ["Say  hi.", " say\nhi. ", "say hi"])
    np.testing.assert_array_equal(place, [1, 2, NAN])


@pytest.mark.parametrize("prompt", ["", " \n", None])
def test_rows_without_an_instruction_have_no_place(prompt: str | None) -> None:
    _, place = combine([-1.0, -2.0], [prompt, prompt])
    assert np.isnan(place).all()


def test_no_row_has_a_fit_or_a_place() -> None:
    assert [len(each) for each in combine([], [])] == [0, 0]


# families


CONFIDENCE = Confidence(checkpoints=(ModelSpec(path="first"), ModelSpec(path="second")))
DELTA = HardLossDelta(reference=ModelSpec(path="tuned"))


def test_confidence_measures_perplexity() -> None:
    found = CONFIDENCE.measure(tokens([[math.log(1 / 2), math.log(1 / 8)], []]))
    np.testing.assert_allclose(found, [4, NAN])


def test_confidence_is_minus_the_mean_perplexity() -> None:
    assert CONFIDENCE.compare(np.array([[2.0, 4.0], [1.0, 1.0]])).tolist() == [-3, -1]


def test_confidence_is_a_mean_of_perplexities_not_of_losses() -> None:
    """Perplexities 2 and 8: their mean is 5, that of the geometric kind 4."""
    members = [
        CONFIDENCE.measure(tokens([[math.log(1 / 2)]])),
        CONFIDENCE.measure(tokens([[math.log(1 / 8)]])),
    ]
    assert CONFIDENCE.compare(np.column_stack(members))[0] == pytest.approx(-5, rel=1e-12)


def test_confidence_that_one_checkpoint_has_not_is_null() -> None:
    assert np.isnan(CONFIDENCE.compare(np.array([[2.0, NAN]]))).all()


def test_a_perplexity_beyond_float64_is_null() -> None:
    assert np.isnan(CONFIDENCE.measure(tokens([[-701.0], [-699.0]]))).tolist() == [True, False]


def test_confidence_reads_its_checkpoints_in_order() -> None:
    assert [spec.path for spec in CONFIDENCE.models() if spec] == ["first", "second"]


def test_hard_loss_delta_measures_loss() -> None:
    np.testing.assert_array_equal(DELTA.measure(tokens([[-1.0, -3.0], []])), [2, NAN])


def test_hard_loss_delta_is_the_runs_loss_less_the_references() -> None:
    """Learnable and not learnt; noise, hard for both; known to both; only the reference has lost it."""
    measured = np.array([[3.0, 1.0], [5.0, 5.0], [0.1, 0.1], [1.0, 2.0]])
    assert DELTA.compare(measured).tolist() == [2, 0, 0, -1]


def test_hard_loss_delta_is_null_where_either_is() -> None:
    assert np.isnan(DELTA.compare(np.array([[NAN, 1.0], [1.0, NAN]]))).all()


def test_hard_loss_delta_reads_the_runs_own_model_first() -> None:
    own, reference = DELTA.models()
    assert own is None
    assert reference is not None
    assert reference.path == "tuned"


@pytest.mark.parametrize(
    ("scorer", "direction"),
    [
        (BitsPerChar, None),
        (Margin, None),
        (HardLearnable, True),
        (Fit, True),
        (Confidence, None),
        (HardLossDelta, True),
    ],
)
def test_direction(scorer: type, direction: bool | None) -> None:
    assert scorer.higher_is_better is direction  # type: ignore[attr-defined]
