"""Toys for unit tests: a tiny random Llama with a byte-level tokenizer, and records of several formats.

Everything is built in code: no download, no package data. `torch` and `transformers` are imported
only when a model or a tokenizer is made.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML without generation markers; the newline after the closing token is not the assistant's."""

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
MERGES = ("th", "he", "in", "er", "an", "re", "on", "at", "en", "nd", "es", "or")

WORDS = [
    "river",
    "stone",
    "answer",
    "question",
    "seven",
    "green",
    "model",
    "token",
    "window",
    "slowly",
    "bright",
    "because",
    "while",
    "never",
    "number",
    "water",
    "people",
    "machine",
    "garden",
    "letter",
    "music",
    "paper",
    "simple",
    "often",
    "north",
    "where",
    "under",
    "little",
]


def tiny_tokenizer(
    chat_template: str | None = CHATML,
    eos: str = "<|im_end|>",
    bos: str | None = None,
    more_special: tuple[str, ...] = (),
) -> Any:
    """A PreTrainedTokenizerFast: 256 bytes, a few merges, four special tokens and `more_special`.

    chat_template: the template to set, None for none. eos, bos: among the special tokens; pad is <|pad|>.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*SPECIAL_TOKENS, *alphabet, *MERGES, *more_special]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[(piece[0], piece[1]) for piece in MERGES],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        bos_token=bos,
        pad_token="<|pad|>",
        additional_special_tokens=[*SPECIAL_TOKENS, *more_special],
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    fast.chat_template = chat_template
    return fast


def tiny_llama(folder: Path, seed: int = 0, tied: bool = False, chat_template: str | None = CHATML) -> Path:
    """Save a random Llama (hidden 64, 2 layers, 4 heads, vocabulary 272) and its tokenizer.

    folder: made if absent; safetensors, float32. The same seed gives the same weights.
    tied: whether the head shares the embedding's weight. Returns the folder.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(chat_template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.1,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def toy_text(generator: random.Random, words: int) -> str:
    """A sentence of that many words, capitalised, with a full stop."""
    return " ".join(generator.choice(WORDS) for _ in range(words)).capitalize() + "."


def toy_rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """n chat records {"id", "messages"}; every third has a system turn, every fourth two exchanges."""
    generator = random.Random(seed)
    rows = []
    for index in range(n):
        messages = []
        if index % 3 == 2:
            messages.append({"role": "system", "content": toy_text(generator, 4)})
        for _ in range(2 if index % 4 == 3 else 1):
            messages.append({"role": "user", "content": toy_text(generator, generator.randint(3, 12))})
            messages.append({"role": "assistant", "content": toy_text(generator, generator.randint(1, 20))})
        rows.append({"id": f"row-{index}", "messages": messages})
    return rows


def toy_records(n: int, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """n records of each format: messages, sharegpt, alpaca, prompt_completion."""
    generator = random.Random(seed)

    def some(words: int) -> str:
        return toy_text(generator, generator.randint(1, words))

    return {
        "messages": toy_rows(n, seed),
        "sharegpt": [
            {"conversations": [{"from": "human", "value": some(9)}, {"from": "gpt", "value": some(15)}]}
            for _ in range(n)
        ],
        "alpaca": [
            {"instruction": some(9), "input": some(5) if index % 2 else "", "output": some(15)}
            for index in range(n)
        ],
        "prompt_completion": [{"prompt": some(9), "completion": some(15)} for _ in range(n)],
        "text": [{"text": some(30)} for _ in range(n)],
    }
