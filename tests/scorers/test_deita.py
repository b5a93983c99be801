"""Deita: closed forms from given ratings, and what the rater is shown."""

import math

import numpy as np
import pytest

from curate.registry import Registry
from curate.scorer import RatingScorer
from scorers.deita import Deita
from scorers.deita_complexity import DeitaComplexity
from scorers.deita_quality import DeitaQuality

TURNS = [("Why is the sky blue?", "Rayleigh scattering."), ("And at dusk?", "Red: a longer way.")]
ALL: list[RatingScorer] = [DeitaComplexity(), DeitaQuality(), Deita()]
every = pytest.mark.parametrize("scorer", ALL, ids=lambda scorer: scorer.name)


def test_the_conversation_score_is_the_sum_of_products() -> None:
    assert Deita().rate(np.array([2.0, 3.0, 5.0, 7.0])) == 2 * 5 + 3 * 7


def test_equal_logits_give_the_square_of_the_middle_a_turn() -> None:
    assert Deita().rate(np.full(6, 3.5)) == 3 * 3.5**2


@pytest.mark.parametrize("scorer", [DeitaComplexity(), DeitaQuality()])
def test_complexity_and_quality_are_means_over_turns(scorer: RatingScorer) -> None:
    assert scorer.rate(np.array([2.0, 3.0, 5.5])) == 3.5


@every
def test_null_without_a_turn(scorer: RatingScorer) -> None:
    assert math.isnan(scorer.rate(np.zeros(0)))


@every
def test_null_where_one_prompt_was_not_answered(scorer: RatingScorer) -> None:
    assert math.isnan(scorer.rate(np.array([2.0, np.nan])))


def test_complexity_is_asked_of_the_instruction_alone() -> None:
    first, second = DeitaComplexity().prompts(TURNS)
    assert "#Query#:\nWhy is the sky blue?\n" in first
    assert "Rayleigh" not in first + second
    assert "dusk" in second and "sky" not in second


def test_quality_is_asked_of_instruction_and_response() -> None:
    first, _ = DeitaQuality().prompts(TURNS)
    assert "#Question#:\nWhy is the sky blue?\n" in first
    assert "#Response#:\nRayleigh scattering.\n" in first
    assert "dusk" not in first


def test_the_prompts_of_deita_are_those_of_the_two_others() -> None:
    both = [*DeitaComplexity().prompts(TURNS), *DeitaQuality().prompts(TURNS)]
    assert Deita().prompts(TURNS) == both
    assert len(set(both)) == 4


@every
@pytest.mark.parametrize("turn", [("", "An answer."), (" \n", "An answer."), ("A question?", "")])
def test_a_turn_without_one_side_is_left_out(scorer: RatingScorer, turn: tuple[str, str]) -> None:
    assert scorer.prompts([turn]) == []
    assert scorer.prompts([*TURNS, turn]) == scorer.prompts(TURNS)


@every
def test_braces_of_a_row_are_shown_as_they_are(scorer: RatingScorer) -> None:
    for prompt in scorer.prompts([("Print {response} in f'{x}'.", "{instruction} {0}")]):
        assert "Print {response} in f'{x}'." in prompt


def test_the_rater_is_the_run_s_model_unless_named() -> None:
    assert Deita().models() == (None,)
    (named,) = Deita.model_validate({"rater": "some/model"}).models()
    assert named is not None and named.path == "some/model"


def test_the_path_of_the_rater_is_not_part_of_the_score_s_identity() -> None:
    """Its content is: the stage adds it."""
    assert Deita.model_validate({"rater": "some/model"}).identity() == Deita().identity()


@pytest.mark.parametrize("name", ["deita", "deita_complexity", "deita_quality"])
def test_direction(name: str) -> None:
    assert Registry().get("scorers", name).higher_is_better is True
