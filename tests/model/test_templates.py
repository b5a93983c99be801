"""The mask of targets over real chat templates: what is supervised, decoded, is what was expected."""

import json
import random

import pytest
import toys

from curate.model.tokens import BadTokens, Encoder, Example, TokenOptions

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>'"
    " + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA3_DATED = LLAMA3.replace(
    "{% set loop", "{{ 'Today: ' + strftime_now('%d %b %Y') + '\n' }}{% set loop", 1
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
QWEN25 = (
    "{%- if tools %}{{- '<|im_start|>system\n' }}{%- if messages[0]['role'] == 'system' %}"
    "{{- messages[0]['content'] }}{%- else %}{{- 'You are a helpful assistant.' }}{%- endif %}"
    "{{- '\n\n# Tools\n\n<tools>' }}{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\n</tools><|im_end|>\n' }}{%- else %}{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}{%- else %}"
    "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}{%- endif %}"
    "{%- for message in messages %}{%- if (message.role == 'user') or (message.role == 'system' and not loop.first)"
    " or (message.role == 'assistant' and not message.tool_calls) %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- elif message.role == 'assistant' %}{{- '<|im_start|>' + message.role }}{%- if message.content %}"
    "{{- '\n' + message.content }}{%- endif %}{%- for tool_call in message.tool_calls %}"
    "{%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}"
    '{{- \'\n<tool_call>\n{"name": "\' }}{{- tool_call.name }}{{- \'", "arguments": \' }}'
    "{{- tool_call.arguments | tojson }}{{- '}\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}"
    "{%- elif message.role == 'tool' %}{%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != 'tool') %}"
    "{{- '<|im_start|>user' }}{%- endif %}{{- '\n<tool_response>\n' }}{{- message.content }}"
    "{{- '\n</tool_response>' }}{%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}"
    "{{- '<|im_end|>\n' }}{%- endif %}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
QWEN3 = (
    "{%- set ns = namespace(last=0) %}{%- for message in messages %}{%- if message.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}{%- set content = message.content %}{%- set thought = '' %}"
    "{%- if '</think>' in content %}{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}{%- if loop.index0 > ns.last %}"
    "{{- '<|im_start|>assistant\n<think>\n' + thought + '\n</think>\n\n' + content + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>assistant\n' + content + '<|im_end|>\n' }}{%- endif %}{%- else %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
MARKED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>")
TURNS = ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>")
BOUNDS = ("<s>", "</s>")

# name: template, eos, bos, more special tokens, what the template puts before and after a turn's content
FAMILIES = {
    "chatml": (toys.CHATML, "<|im_end|>", None, (), "", "<|im_end|>"),
    "smollm2": (SMOLLM2, "<|im_end|>", None, (), "", "<|im_end|>"),
    "llama3": (LLAMA3, "<|eot_id|>", "<|begin_of_text|>", HEADERS, "", "<|eot_id|>"),
    "llama3-dated": (LLAMA3_DATED, "<|eot_id|>", "<|begin_of_text|>", HEADERS, "", "<|eot_id|>"),
    "mistral": (MISTRAL, "</s>", "<s>", BOUNDS, " ", "</s>"),
    "gemma": (GEMMA, "<eos>", "<bos>", TURNS, "", "<end_of_turn>"),
    "zephyr": (ZEPHYR, "</s>", "<s>", BOUNDS, "", "</s>"),
    "qwen2.5": (QWEN25, "<|im_end|>", None, (), "", "<|im_end|>"),
    "marked": (MARKED, "<|im_end|>", None, (), "", "<|im_end|>"),
    "plain": (None, "<|im_end|>", None, (), "", "<|im_end|>"),
}
WITHOUT_SYSTEM = ("mistral", "gemma")


def tokenizer_of(family):
    template, eos, bos, special, _, _ = FAMILIES[family]
    return toys.tiny_tokenizer(template, eos=eos, bos=bos, more_special=special)


def chat(*contents, system=None):
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": content} for index, content in enumerate(contents)]
    return ([{"role": "system", "content": system}] if system else []) + messages


def supervised_text(tokenizer, encoded):
    chosen = [token for token, target in zip(encoded.input_ids, encoded.supervised, strict=True) if target]
    return tokenizer.decode(chosen)


ROWS = {
    "chat": chat("What is a river?", "Water that flows."),
    "multi-turn": chat("Hello", "Hi there.", "And again?", "Once more, with feeling:\n\n- one\n- two"),
    "alpaca": chat("Translate the text.\ngrüße", "greetings — 你好 🙂"),
    "user speaks last": chat("Hello", "Hi there.", "Thanks"),
    "repeated content": chat("yes", "yes", "yes", "yes"),
    "indented code": chat("Complete:\n\ndef f(x):", "return x\n    # the end"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", ROWS)
def test_targets_are_the_assistant_turns_and_their_closing_tokens(family, row):
    tokenizer = tokenizer_of(family)
    encoded = Encoder(tokenizer, TokenOptions()).encode(ROWS[row])
    before, after = FAMILIES[family][4:]
    answers = [message["content"] for message in ROWS[row] if message["role"] == "assistant"]
    assert supervised_text(tokenizer, encoded) == "".join(before + answer + after for answer in answers)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_last_turn_when_so_asked(family):
    tokenizer = tokenizer_of(family)
    encoded = Encoder(tokenizer, TokenOptions(train_on="last")).encode(ROWS["multi-turn"])
    before, after = FAMILIES[family][4:]
    assert supervised_text(tokenizer, encoded) == before + ROWS["multi-turn"][3]["content"] + after


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_may_be_left_out_by_its_own_flag(family):
    tokenizer = tokenizer_of(family)
    messages = [dict(message) for message in ROWS["multi-turn"]]
    messages[3]["train"] = False
    encoded = Encoder(tokenizer, TokenOptions()).encode(messages)
    before, after = FAMILIES[family][4:]
    assert supervised_text(tokenizer, encoded) == before + "Hi there." + after


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in WITHOUT_SYSTEM])
def test_a_system_turn_is_no_target(family):
    tokenizer = tokenizer_of(family)
    encoded = Encoder(tokenizer, TokenOptions()).encode(chat("Hello", "Hi.", system="Be brief."))
    before, after = FAMILIES[family][4:]
    assert supervised_text(tokenizer, encoded) == before + "Hi." + after
    assert "Be brief." in tokenizer.decode(encoded.input_ids)


@pytest.mark.parametrize("family", WITHOUT_SYSTEM)
def test_a_system_turn_that_the_template_refuses_is_a_bad_row(family):
    with pytest.raises(BadTokens, match="the chat template refuses the conversation: "):
        Encoder(tokenizer_of(family), TokenOptions()).encode(chat("Hello", "Hi.", system="Be brief."))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("plain", "llama3-dated")])
def test_token_ids_are_those_of_apply_chat_template(family):
    tokenizer = tokenizer_of(family)
    encoded = Encoder(tokenizer, TokenOptions()).encode(ROWS["multi-turn"])
    assert (
        encoded.input_ids == tokenizer.apply_chat_template(ROWS["multi-turn"], return_dict=True)["input_ids"]
    )


def test_a_dated_template_gives_the_same_tokens_on_any_day():
    tokenizer = tokenizer_of("llama3-dated")
    encoded = Encoder(tokenizer, TokenOptions()).encode(ROWS["chat"])
    assert tokenizer.decode(encoded.input_ids).startswith("Today: 26 Jul 2024\n")


def by_token_prefixes(tokenizer, messages):
    """The plain definition: lengths of tokenised prefixes. None where one is no prefix of the whole."""
    whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    special = set(tokenizer.all_special_ids)
    supervised = [False] * len(whole)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:turn], add_generation_prompt=True, return_dict=True)
        after = tokenizer.apply_chat_template(messages[: turn + 1], return_dict=True)["input_ids"]
        before = before["input_ids"]
        if whole[: len(before)] != before or whole[: len(after)] != after:
            return None
        end = max(index for index, token in enumerate(after) if token in special) + 1
        supervised[len(before) : end] = [True] * (end - len(before))
    return supervised


PIECES = (
    *("\n", "\n\n", " ", "    ", "\t", "the", " then", "en", "ing", "return x", "12345", ".", "!?", "é"),
    *("🙂", "你好", "<b>", "[/INST]", "assistant", "he", "an", "</", "#"),
)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("plain", "llama3-dated")])
def test_the_mask_equals_that_of_tokenised_prefixes(family):
    tokenizer, generator = tokenizer_of(family), random.Random(5)
    rows = []
    for _ in range(150):
        contents = [
            generator.choice("abx") + "".join(generator.choices(PIECES, k=generator.randint(1, 8)))
            for _ in range(generator.choice((2, 2, 4, 5)))
        ]
        rows.append(chat(*contents))
    results = Encoder(tokenizer, TokenOptions()).encode_rows([Example(row) for row in rows])
    expected = [by_token_prefixes(tokenizer, row) for row in rows]
    assert all(mask is not None for mask in expected)
    assert [result.supervised for result in results] == expected


def test_generation_markers_give_the_mask_of_transformers():
    tokenizer = tokenizer_of("marked")
    encoder = Encoder(tokenizer, TokenOptions())
    assert encoder.mask == "generation markers"
    theirs = tokenizer.apply_chat_template(
        ROWS["multi-turn"], return_dict=True, return_assistant_tokens_mask=True
    )["assistant_masks"]
    assert encoder.encode(ROWS["multi-turn"]).supervised == [bool(target) for target in theirs]


def test_generation_markers_around_nothing_are_a_bad_row():
    template = MARKED.replace(
        "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}", "{% endgeneration %}"
    )
    with pytest.raises(BadTokens, match=r"^no supervised token$"):
        Encoder(toys.tiny_tokenizer(template), TokenOptions()).encode(ROWS["chat"])


TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def test_tool_calls_are_targets_and_tool_results_are_not():
    tokenizer = tokenizer_of("qwen2.5")
    messages = [
        {"role": "user", "content": "2 + 3?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 3}}}],
        },
        {"role": "tool", "content": "5"},
        {"role": "tool", "content": "five"},
        {"role": "assistant", "content": "It is 5."},
    ]
    encoded = Encoder(tokenizer, TokenOptions()).encode(messages, TOOLS)
    call = json.dumps({"name": "add", "arguments": {"a": 2, "b": 3}})
    assert supervised_text(tokenizer, encoded) == (
        f"<tool_call>\n{call}\n</tool_call><|im_end|>It is 5.<|im_end|>"
    )
    assert '"name": "add", "parameters"' in tokenizer.decode(encoded.input_ids)


def test_a_template_that_adds_thoughts_to_the_last_turn_only():
    tokenizer = toys.tiny_tokenizer(QWEN3)
    encoded = Encoder(tokenizer, TokenOptions()).encode(ROWS["repeated content"])
    assert supervised_text(tokenizer, encoded) == "yes<|im_end|><think>\n\n</think>\n\nyes<|im_end|>"


def test_a_template_that_removes_thoughts_from_earlier_turns_is_refused():
    tokenizer = toys.tiny_tokenizer(QWEN3)
    messages = chat("a?", "<think>\nhm\n</think>\n\nb", "c?", "<think>\nso\n</think>\n\nd")
    with pytest.raises(BadTokens, match="writes assistant turn 1 otherwise once later turns follow"):
        Encoder(tokenizer, TokenOptions()).encode(messages)
    last = Encoder(tokenizer, TokenOptions(train_on="last")).encode(messages)
    assert supervised_text(tokenizer, last) == "<think>\nso\n</think>\n\nd<|im_end|>"


def test_a_turn_that_the_template_introduces_once_later_turns_follow_is_refused():
    template = toys.CHATML.replace(
        "message['content'] +",
        "('' if loop.last or message['role'] == 'user' else 'Earlier: ') + message['content'] +",
    )
    with pytest.raises(BadTokens, match="writes assistant turn 1 otherwise once later turns follow"):
        Encoder(toys.tiny_tokenizer(template), TokenOptions()).encode(ROWS["multi-turn"])


def test_a_prompt_that_is_not_in_the_conversation_is_refused():
    tokenizer = toys.tiny_tokenizer(toys.CHATML.replace("assistant\n'", "assistant\n<think>\n'"))
    with pytest.raises(BadTokens, match="prompt for assistant turn 1 is not a prefix"):
        Encoder(tokenizer, TokenOptions()).encode(ROWS["chat"])
