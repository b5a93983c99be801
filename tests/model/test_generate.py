"""Greedy answers: the model's own next tokens, whatever the batch; and where a row's last turn begins."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys

from curate.model.generate import Tokens, end_tokens, generate, last_turn
from curate.model.load import LoadedModel, load_causal_lm, resolve
from curate.model.request import TokenRow


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = toys.tiny_llama(tmp_path_factory.mktemp("generate") / "llama")
    return load_causal_lm(resolve(str(folder), None), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def prompts() -> list[Tokens]:
    """Twelve of 1 to 40 tokens."""
    random = np.random.default_rng(0)
    return [random.integers(4, 272, size, dtype=np.int32) for size in random.integers(1, 40, 12)]


def lists(answers: Sequence[Tokens | None]) -> list[list[int] | None]:
    return [None if answer is None else answer.tolist() for answer in answers]


def greedy(loaded: LoadedModel, prompt: Tokens, tokens: int, ends: Sequence[int] = ()) -> list[int]:
    """The likeliest next token, again and again, without a cache."""
    ids = prompt.tolist()
    with torch.inference_mode():
        while len(ids) < len(prompt) + tokens and (len(ids) == len(prompt) or ids[-1] not in ends):
            ids.append(int(loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_it_is_the_likeliest_next_token_again_and_again(loaded: LoadedModel, prompts: list[Tokens]) -> None:
    assert lists(generate(loaded, prompts, 9, 500)) == [
        greedy(loaded, prompt, 9, end_tokens(loaded)) for prompt in prompts
    ]


@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_the_batch_does_not_count(loaded: LoadedModel, prompts: list[Tokens], batch_tokens: int) -> None:
    alone = [generate(loaded, [prompt], 9, 500)[0] for prompt in prompts]
    assert lists(generate(loaded, prompts, 9, batch_tokens)) == lists(alone)


def test_the_order_does_not_count(loaded: LoadedModel, prompts: list[Tokens]) -> None:
    there = generate(loaded, prompts, 9, 300)
    assert lists(generate(loaded, prompts[::-1], 9, 300)[::-1]) == lists(there)


def ending(loaded: LoadedModel, token: int) -> LoadedModel:
    """The same model with another end token."""
    tokenizer = toys.tiny_tokenizer()
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(token)
    return replace(loaded, tokenizer=tokenizer)


def test_it_stops_with_the_token_that_ends_an_answer(loaded: LoadedModel, prompts: list[Tokens]) -> None:
    """A token of one prompt's answer is made the end: that answer ends there, others where they meet it."""
    whole = greedy(loaded, prompts[0], 9)
    third = ending(loaded, whole[2])
    answers = generate(third, prompts, 9, 500)
    assert lists(answers)[0] == whole[: whole.index(whole[2]) + 1]
    assert lists(answers) == [greedy(loaded, prompt, 9, end_tokens(third)) for prompt in prompts]


def test_a_pad_token_that_ends_too_is_no_part_of_it(loaded: LoadedModel, prompts: list[Tokens]) -> None:
    """Where the end token pads, a short answer in a batch with longer ones has it once."""
    token = greedy(loaded, prompts[0], 3)[2]
    other = ending(loaded, token)
    other.tokenizer.pad_token = other.tokenizer.eos_token
    for answer in generate(other, prompts, 9, 10_000):
        assert answer is not None
        assert (answer == token).sum() <= 1


def test_the_end_tokens_of_tokenizer_and_model_count(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", [7, 5])
    own: Any = loaded.tokenizer.eos_token_id
    assert end_tokens(loaded) == sorted({5, 7, own})


def test_the_models_own_way_of_decoding_does_not_count(
    loaded: LoadedModel, prompts: list[Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = generate(loaded, prompts, 9, 500)
    own = loaded.model.generation_config
    for name, value in {
        "do_sample": True,
        "temperature": 9.0,
        "repetition_penalty": 2.0,
        "min_new_tokens": 9,
    }.items():
        monkeypatch.setattr(own, name, value)
    assert lists(generate(loaded, prompts, 9, 500)) == lists(plain)
    assert loaded.model.generation_config is own


def test_a_prompt_that_leaves_no_room_has_no_answer(loaded: LoadedModel, prompts: list[Tokens]) -> None:
    long = np.full(2044, 9, dtype=np.int32)
    answers = generate(loaded, [long, prompts[0], long[:-1]], 5, 4000)
    assert answers[0] is None
    assert answers[1] is not None
    assert answers[2] is not None


def test_nothing_to_answer(loaded: LoadedModel) -> None:
    assert generate(loaded, [], 9, 500) == []


@pytest.mark.parametrize(("prompts", "tokens", "message"), [([[]], 3, "a token"), ([[5]], 0, "at least 1")])
def test_refused(loaded: LoadedModel, prompts: list[list[int]], tokens: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(loaded, [np.array(prompt, dtype=np.int32) for prompt in prompts], tokens, 500)


@pytest.mark.parametrize(
    ("mask", "prompt", "answer"),
    [
        ("..xx.", 2, 2),
        ("..xx..xxx.", 6, 3),
        (".xxx", 1, 3),
        ("..x..x", 5, 1),
    ],
)
def test_the_last_turn(mask: str, prompt: int, answer: int) -> None:
    row = TokenRow(np.arange(len(mask), dtype=np.int32), np.array([sign == "x" for sign in mask]))
    first, second = last_turn(row)
    assert (len(first), len(second)) == (prompt, answer)
    assert np.concatenate([first, second]).tolist() == list(range(prompt + answer))


def test_a_row_without_a_target_has_no_turn() -> None:
    with pytest.raises(ValueError, match="supervised"):
        last_turn(TokenRow(np.arange(3, dtype=np.int32), np.zeros(3, dtype=np.bool_)))


def test_the_last_turn_of_a_conversation_is_its_last_answer() -> None:
    from curate.model.tokens import Encoder, Example, TokenOptions

    tokenizer = toys.tiny_tokenizer()
    messages = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "First."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Second."},
    ]
    (encoded,) = Encoder(tokenizer, TokenOptions()).encode_rows([Example(messages)])
    assert not isinstance(encoded, Exception)
    row = TokenRow(np.array(encoded.input_ids, np.int32), np.array(encoded.supervised))
    prompt, answer = last_turn(row)
    assert tokenizer.decode(answer) == "Second.<|im_end|>"
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")


@pytest.mark.real
def test_the_packaged_model_answers_the_same_in_any_batch(real_model: Path) -> None:
    loaded = load_causal_lm(resolve(str(real_model), None), dtype="float32", device="cpu")
    asked = ["Name a colour.", "What is the capital of France? Answer in one word."]
    prompts = [
        np.array(
            loaded.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
            ),
            dtype=np.int32,
        )
        for text in asked
    ]
    together = generate(loaded, prompts, 8, 4000)
    assert lists(together) == [lists(generate(loaded, [prompt], 8, 4000))[0] for prompt in prompts]
    assert "Paris" in str(loaded.tokenizer.decode(together[1]))
