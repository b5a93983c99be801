"""Ratings: closed forms, the plain way to compute them, which models can be asked, and a real one."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raters
import torch
from passes import small_llama
from toys import CHATML, tiny_tokenizer

from curate.errors import ConfigError, CurateError
from curate.model.load import LoadedModel, load_causal_lm, resolve
from curate.model.ratings import Rater, expected_rating
from scorers.deita_complexity import DeitaComplexity
from scorers.deita_quality import DeitaQuality

VALUES = np.arange(1.0, 7.0)
PROMPTS = ["w1 w2 w3", "w9", "w4 w5 w6 w7 w8 w20 w21", "w1 w2", "w30 w31 w32 w33"]


@pytest.fixture(scope="module")
def model() -> Any:
    return small_llama()


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([0.0] * 6, 3.5),
        ([-7e4] * 6, 3.5),
        ([900.0, 0, 0, 0, 0, 0], 1),
        ([0.0, 0, 0, 0, 0, 900], 6),
        ([math.log(k) for k in range(1, 7)], 91 / 21),
    ],
)
def test_the_mean_under_the_softmax(logits: list[float], expected: float) -> None:
    assert expected_rating(np.array([logits]), VALUES)[0] == pytest.approx(expected, rel=1e-12)


def test_a_model_without_preferences_says_the_middle() -> None:
    model = small_llama()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    answers = raters.rater(model).rate(PROMPTS)
    np.testing.assert_allclose(answers.expected, 3.5)
    np.testing.assert_allclose(answers.probability, 6 / 272, rtol=1e-6)


def plain(model: Any, tokenizer: Any, prompt: str) -> tuple[float, float]:
    """Expected rating and probability of a rating, from the softmax over all tokens."""
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    with torch.no_grad():
        after = model(ids).logits[0, -1].double().softmax(-1)
    digits = after[tokenizer.convert_tokens_to_ids(list("123456"))]
    return float((digits * torch.arange(1, 7)).sum() / digits.sum()), float(digits.sum())


@pytest.mark.parametrize("tokenizer", [raters.word_tokenizer(), tiny_tokenizer()], ids=["words", "bytes"])
def test_it_reads_the_place_after_the_generation_prompt(model: Any, tokenizer: Any) -> None:
    answers = raters.rater(model, tokenizer).rate(PROMPTS)
    for place, prompt in enumerate(PROMPTS):
        expected, probability = plain(model, tokenizer, prompt)
        assert answers.expected[place] == pytest.approx(expected, rel=1e-5)
        assert answers.probability[place] == pytest.approx(probability, rel=1e-4)


def test_the_likeliest_rating_is_counted_by_its_place() -> None:
    model = small_llama()
    asked = raters.rater(model)
    found = asked.rate(PROMPTS)
    with torch.no_grad():  # the same direction, but far more of it, for the rating 5
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(272))
        model.lm_head.bias[int(asked.rating_ids[4])] = 50
    sure = raters.rater(model).rate(PROMPTS)
    assert set(sure.likeliest.tolist()) == {4}
    np.testing.assert_allclose(sure.expected, 5, rtol=1e-6)
    assert sure.probability.min() > 0.999 > found.probability.max()


def test_tokens_are_counted_without_padding(model: Any) -> None:
    asked = raters.rater(model)
    alone = sum(asked.rate([prompt]).tokens for prompt in PROMPTS)
    assert asked.rate(PROMPTS).tokens == alone > 0


@pytest.mark.parametrize("batch_tokens", [1, 30, 10_000])
def test_the_batch_size_does_not_matter(model: Any, batch_tokens: int) -> None:
    found = raters.rater(model, batch_tokens=batch_tokens).rate(PROMPTS)
    np.testing.assert_allclose(found.expected, raters.rater(model).rate(PROMPTS).expected, rtol=1e-5)


def test_no_prompt_no_answer(model: Any) -> None:
    answers = raters.rater(model).rate([])
    assert (len(answers.expected), len(answers.likeliest), answers.tokens) == (0, 0, 0)


def test_a_prompt_longer_than_the_model_reads_is_null(model: Any) -> None:
    asked = raters.rater(model)
    length = asked.rate(PROMPTS[:1]).tokens
    answers = replace(asked, max_tokens=length).rate([PROMPTS[2], PROMPTS[0]])
    assert np.isnan(answers.expected).tolist() == [True, False]
    assert np.isnan(answers.probability).tolist() == [True, False]
    assert answers.likeliest[0] == -1
    assert answers.tokens == length
    np.testing.assert_allclose(answers.expected[1], asked.rate(PROMPTS[:1]).expected[0])


def test_the_model_says_how_much_it_reads(model: Any) -> None:
    assert raters.rater(model).max_tokens == model.config.max_position_embeddings


def test_a_tokenizer_that_puts_a_space_before_digits_is_read_after_it(model: Any) -> None:
    """As SentencePiece does: "1" is the two tokens "▁" and "1"."""
    from tokenizers import normalizers, pre_tokenizers

    tokenizer = raters.word_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Prepend("w7 ")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    asked = raters.rater(model, tokenizer)
    assert asked.lead == (tokenizer.convert_tokens_to_ids("w7"),)
    text = "<|im_start|>user\nw9<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.encode(text, add_special_tokens=False) + list(asked.lead)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1, asked.rating_ids]
    expected = expected_rating(logits.double().numpy()[None], VALUES)
    np.testing.assert_allclose(asked.rate(["w9"]).expected, expected, rtol=1e-5)


def test_a_missing_rating_token_is_an_error(model: Any) -> None:
    with pytest.raises(ConfigError, match="one token of its own for each rating"):
        raters.rater(model, raters.word_tokenizer(digits="12345"))


def test_two_ratings_of_one_token_are_an_error(model: Any) -> None:
    with pytest.raises(ConfigError, match="one token of its own for each rating"):
        raters.rater(model, raters.word_tokenizer(digits="1234"))


def test_a_rating_of_several_tokens_is_an_error(model: Any) -> None:
    loaded = LoadedModel(model, tiny_tokenizer(), "float32", "cpu", "toy")
    with pytest.raises(ConfigError, match="'10' as"):
        Rater.of(loaded, ("1", "10"), 100)


def test_a_base_model_is_no_rater(model: Any) -> None:
    with pytest.raises(ConfigError, match="chat template"):
        raters.rater(model, tiny_tokenizer(None))


def test_a_template_with_a_clock_says_the_same_on_any_day(model: Any) -> None:
    dated = "{{ strftime_now('%d %B %Y') }}" + CHATML
    asked = raters.rater(model, tiny_tokenizer(dated))
    fixed = raters.rater(model, tiny_tokenizer("26 July 2024" + CHATML))
    np.testing.assert_array_equal(asked.rate(PROMPTS).expected, fixed.rate(PROMPTS).expected)


def test_a_model_that_thinks_aloud_is_asked_not_to(model: Any) -> None:
    thinks = CHATML + "{% if enable_thinking is false %}<think></think>{% endif %}"
    asked = raters.rater(model, tiny_tokenizer(thinks))
    plainly = raters.rater(model, tiny_tokenizer(CHATML + "<think></think>"))
    np.testing.assert_array_equal(asked.rate(PROMPTS).expected, plainly.rate(PROMPTS).expected)


def test_logits_that_are_not_finite_are_an_error() -> None:
    model = small_llama()
    asked = raters.rater(model)
    with torch.no_grad():
        model.lm_head.weight[asked.rating_ids[2]] = float("nan")
    with pytest.raises(CurateError, match="must be finite"):
        asked.rate(PROMPTS)


QUESTIONS = [
    ("Hi", "Hello! How can I help you?"),
    ("What is 2+2?", "4"),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Peru?", "Bananas are yellow."),
    (
        "Write a haiku about rain.",
        "Soft rain on the roof, the garden drinks and is still, a snail crosses stone",
    ),
    ("Prove that there are infinitely many primes.", "Multiply all of them and add one."),
]


@pytest.mark.real
@pytest.mark.parametrize("scorer", [DeitaComplexity(), DeitaQuality()], ids=["complexity", "quality"])
def test_a_real_model_gives_ratings_that_differ(real_model: Path, scorer: Any) -> None:
    asked = Rater.of(load_causal_lm(resolve(str(real_model)), "float32"), scorer.ratings, 2048)
    answers = asked.rate([prompt for turn in QUESTIONS for prompt in scorer.prompts([turn])])
    assert np.isfinite(answers.expected).all()
    assert ((answers.expected >= 1) & (answers.expected <= 6)).all()
    assert len(np.unique(answers.expected.round(3))) > 1
    assert ((answers.probability > 0) & (answers.probability < 1)).all()
