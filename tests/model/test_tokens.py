"""Tokenise and mask: text rows, plain rows, bounds, bad rows, edges of turns."""

import pytest
import toys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from curate.errors import ConfigError
from curate.model.tokens import BadTokens, Encoder, Example, TokenOptions, encode, encode_rows

CHAT = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi there."}]
OPTIONS = TokenOptions()


@pytest.fixture(scope="module")
def tokenizer():
    return toys.tiny_tokenizer()


def metaspace_tokenizer(chat_template=None):
    """In the manner of SentencePiece: a space belongs to the word after it, and a BOS is added."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["<unk>", "<s>", "</s>", "▁", "\n", *letters, "▁H", "Hi", "▁t", "▁th"]
    backend = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[("▁", "H"), ("H", "i"), ("▁", "t"), ("▁t", "h")],
            unk_token="<unk>",
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = chat_template
    return fast


def targets(tokenizer, encoded):
    return [
        token
        for token, target in zip(
            tokenizer.convert_ids_to_tokens(encoded.input_ids), encoded.supervised, strict=True
        )
        if target
    ]


def test_in_a_text_row_every_token_but_the_first_is_a_target(tokenizer):
    encoded = encode([{"role": "text", "content": "the end"}], None, tokenizer, OPTIONS)
    assert encoded.input_ids == tokenizer("the end").input_ids
    assert encoded.supervised == [False] + [True] * (len(encoded.input_ids) - 1)


def test_in_a_text_row_the_bos_that_the_tokenizer_adds_is_the_first():
    encoded = encode([{"role": "text", "content": "Hi"}], None, metaspace_tokenizer(), OPTIONS)
    assert encoded.input_ids[0] == 1
    assert encoded.supervised[:2] == [False, True]


def test_a_text_row_of_one_token_has_no_target(tokenizer):
    with pytest.raises(BadTokens, match=r"^no supervised token$"):
        encode([{"role": "text", "content": "a"}], None, tokenizer, OPTIONS)


def test_without_a_chat_template_a_row_is_prompt_newline_response_end():
    tokenizer = toys.tiny_tokenizer(None)
    encoder = Encoder(tokenizer, OPTIONS)
    assert encoder.mask == "plain"
    assert tokenizer.decode(encoder.encode(CHAT).input_ids) == "Hello\nHi there.<|im_end|>"


def test_without_a_chat_template_the_tokenizer_s_bos_comes_first():
    tokenizer = metaspace_tokenizer()
    encoded = encode(CHAT, None, tokenizer, OPTIONS)
    assert encoded.input_ids[:2] == tokenizer.convert_tokens_to_ids(["<s>", "▁H"])
    assert "".join(targets(tokenizer, encoded)) == "Hi▁there.</s>"


def test_without_a_chat_template_tools_are_refused():
    with pytest.raises(BadTokens, match="no chat template to show them"):
        encode(CHAT, [{"name": "add"}], toys.tiny_tokenizer(None), OPTIONS)


def test_white_space_that_the_prompt_s_end_shares_a_token_with_is_no_target():
    """GPT-2's byte-level rules join the newline before code with its indentation: "\\n   ", " return"."""
    tokenizer = toys.tiny_tokenizer()
    state = tokenizer.backend_tokenizer
    state.post_processor = processors.ByteLevel(trim_offsets=True)
    pieces = state.get_vocab()
    merged = Tokenizer(
        models.BPE(
            vocab={**pieces, "ĊĠ": len(pieces), "ĊĠĠ": len(pieces) + 1},
            merges=[("Ċ", "Ġ"), ("ĊĠ", "Ġ")],
        )
    )
    merged.pre_tokenizer, merged.post_processor = state.pre_tokenizer, state.post_processor
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=merged, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    tokenizer.chat_template = toys.CHATML
    encoded = encode([CHAT[0], {"role": "assistant", "content": "   x"}], None, tokenizer, OPTIONS)
    assert "ĊĠĠ" in tokenizer.convert_ids_to_tokens(encoded.input_ids)
    assert targets(tokenizer, encoded) == ["Ġ", "x", "<|im_end|>"]


def test_the_space_that_ends_a_prompt_is_no_target_though_the_tokenizer_trims_its_offsets():
    tokenizer = toys.tiny_tokenizer(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + (eos_token if m['role'] == 'assistant' else ' ') }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    encoded = encode([CHAT[0], {"role": "assistant", "content": "\nx"}], None, tokenizer, OPTIONS)
    assert targets(tokenizer, encoded) == ["Ċ", "x", "<|im_end|>"]


def test_sentencepiece_style_turns():
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}"
        "{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    tokenizer = metaspace_tokenizer(template)
    messages = [*CHAT, {"role": "user", "content": "then"}, {"role": "assistant", "content": "this"}]
    encoded = encode(messages, None, tokenizer, OPTIONS)
    assert targets(tokenizer, encoded) == [*("▁H", "i", "▁th", *"ere.", "</s>"), *("▁th", *"is", "</s>")]


def test_an_over_long_row_is_dropped_with_its_length(tokenizer):
    length = len(encode(CHAT, None, tokenizer, OPTIONS).input_ids)
    assert encode(CHAT, None, tokenizer, TokenOptions(max_tokens=length))
    with pytest.raises(BadTokens) as caught:
        encode(CHAT, None, tokenizer, TokenOptions(max_tokens=length - 1))
    assert caught.value.cause == f"over-long: {length} tokens, at most {length - 1}"


def test_an_over_long_row_may_be_cut_from_the_right(tokenizer):
    whole = encode(CHAT, None, tokenizer, OPTIONS)
    cut = encode(
        CHAT, None, tokenizer, TokenOptions(max_tokens=len(whole.input_ids) - 3, over_long="truncate")
    )
    assert (cut.input_ids, cut.supervised) == (whole.input_ids[:-3], whole.supervised[:-3])


def test_a_row_cut_before_its_first_target_is_bad(tokenizer):
    first = encode(CHAT, None, tokenizer, OPTIONS).supervised.index(True)
    with pytest.raises(BadTokens, match=r"^no supervised token$"):
        encode(CHAT, None, tokenizer, TokenOptions(max_tokens=first, over_long="truncate"))


@pytest.mark.parametrize(
    ("messages", "cause"),
    [
        ([], "no messages"),
        ([CHAT[0]], "no supervised token"),
        ([CHAT[1]], "the conversation starts with a trained assistant turn, before any prompt"),
        ([CHAT[0], {**CHAT[1], "train": False}], "no supervised token"),
        ([{**CHAT[0], "train": True}, CHAT[1]], "message 0: train is true on the role 'user', not assistant"),
        ([CHAT[0], {**CHAT[1], "train": "no"}], "message 1: train must be true or false. Got 'no'"),
        ([{"role": "text", "content": "a b c"}, CHAT[1]], "a message of the role 'text' must stand alone"),
        ([CHAT[0], {"role": "assistant"}], "the chat template refuses the conversation: "),
    ],
)
def test_a_bad_row_says_why(tokenizer, messages, cause):
    with pytest.raises(BadTokens) as caught:
        encode(messages, None, tokenizer, OPTIONS)
    assert caught.value.cause.startswith(cause)


@pytest.mark.parametrize("extra", [{"train": True}, {"tool_calls": None}])
def test_neither_the_flag_of_a_turn_nor_an_empty_field_reaches_the_template(extra):
    tokenizer = toys.tiny_tokenizer(toys.CHATML.replace("message['content']", "message | tojson"))
    marked = [CHAT[0], {**CHAT[1], **extra}]
    assert encode(marked, None, tokenizer, OPTIONS) == encode(CHAT, None, tokenizer, OPTIONS)


def test_rows_give_what_each_gives_alone_in_order(tokenizer):
    rows = [Example(row["messages"]) for row in toys.toy_rows(300, seed=3)]
    rows[7] = Example([{"role": "text", "content": "the end of it"}])
    rows[260] = Example([CHAT[0]])
    results = encode_rows(rows, tokenizer, OPTIONS)
    encoder = Encoder(tokenizer, OPTIONS)
    assert str(results[260]) == "no supervised token"
    assert all(results[i] == encoder.encode(*rows[i]) for i in range(300) if i != 260)


def test_encoding_leaves_the_tokenizer_as_it_was(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    encode(CHAT, None, tokenizer, OPTIONS)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_the_tokenizer_s_own_truncation_is_not_applied():
    tokenizer = toys.tiny_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(4)
    assert len(encode(CHAT, None, tokenizer, OPTIONS).input_ids) > 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TokenOptions(max_tokens=1), "max_tokens must be at least 2, or null. Got 1."),
        (TokenOptions(over_long="cut"), "over_long must be 'quarantine' or 'truncate'. Got 'cut'."),
        (TokenOptions(train_on="first"), "train_on must be 'all' or 'last'. Got 'first'."),
    ],
)
def test_bad_options_are_refused(tokenizer, options, message):
    with pytest.raises(ConfigError) as caught:
        Encoder(tokenizer, options)
    assert str(caught.value) == message


def test_the_characters_are_those_of_the_answers(tokenizer):
    answers = [message["content"] for message in CHAT if message["role"] == "assistant"]
    assert encode(CHAT, None, tokenizer, OPTIONS).characters == sum(map(len, answers))


def test_a_character_of_several_tokens_counts_once(tokenizer):
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "a\N{SNOWMAN}\N{GRINNING FACE}b"},
    ]
    assert encode(messages, None, tokenizer, OPTIONS).characters == 4


def test_what_is_cut_off_does_not_count(tokenizer):
    whole = encode(CHAT, None, tokenizer, OPTIONS)
    options = TokenOptions(max_tokens=len(whole.input_ids) - 3, over_long="truncate")
    assert encode(CHAT, None, tokenizer, options).characters < whole.characters
