"""Mosaic-IT: what is composed, in which order it is answered, what is ignored, and how long it may be."""

import json
import re
from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
import toys
from candidates import pool_of

from curate.mixer import Schedule
from curate.mixers._mosaic import (
    CHANCES,
    MARKS,
    ORDERS,
    RULES,
    Exchange,
    Strategy,
    compose,
    exchange_of,
    room,
)
from curate.mixers.mosaic import Mosaic
from curate.model.tokens import Encoder, Example, TokenOptions
from curate.pool import Pool

PARTS = [Exchange("ccc", "C"), Exchange("a", "A"), Exchange("dddd", "D"), Exchange("bb", "B")]
CHANCE = np.array([0.1, 0.3, 0.9, 0.1, 0.6])


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("reverse", [3, 2, 1, 0]),
        ("random", [2, 0, 3, 1]),
        ("rotated", [1, 2, 3, 0]),
        ("outside_in", [0, 3, 1, 2]),
        ("odd_first", [0, 2, 1, 3]),
        ("even_first", [1, 3, 0, 2]),
        ("longest_first", [2, 0, 3, 1]),
        ("shortest_first", [1, 3, 0, 2]),
        ("alphabetical", [1, 3, 0, 2]),
        ("reverse_alphabetical", [2, 0, 3, 1]),
    ],
)
def test_the_ten_orders(order: str, expected: list[int]) -> None:
    assert ORDERS[order](PARTS, CHANCE)[1] == expected


def test_there_are_ten_orders_and_five_rules() -> None:
    assert (len(ORDERS), len(RULES)) == (10, 5)


@pytest.mark.parametrize(
    ("rule", "ignored"),
    [("odd", [0, 2]), ("even", [1, 3]), ("longest", [2]), ("shortest", [1]), ("random", [2])],
)
def test_the_five_rules(rule: str, ignored: list[int]) -> None:
    assert RULES[rule](PARTS, CHANCE)[1] == ignored


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [2, 3, 10])
def test_every_order_answers_all(order: str, count: int) -> None:
    parts = [Exchange(f"{number}" * (number % 3 + 1), "x") for number in range(count)]
    for chance in np.random.default_rng(0).random((20, count + 1)):
        assert sorted(ORDERS[order](parts, chance)[1]) == list(range(count))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [2, 3, 10])
def test_every_rule_ignores_some_and_leaves_some(rule: str, count: int) -> None:
    parts = [Exchange("same", "x")] * count
    for chance in np.random.default_rng(0).random((50, count + 1)):
        ignored = RULES[rule](parts, chance)[1]
        assert 0 < len(set(ignored)) == len(ignored) < count


def test_what_is_listed_is_what_is_done() -> None:
    assert ORDERS["random"](PARTS, CHANCE)[0] == "in this order: 3, 1, 4, 2"
    assert ORDERS["rotated"](PARTS, CHANCE)[0].startswith("beginning with number 2")
    assert RULES["random"](PARTS, CHANCE)[0] == "number 3"
    assert RULES["random"](PARTS, np.array([0.9, *CHANCE[1:]])) == ("numbers 1, 3, 4", [0, 2, 3])


def test_format_answers_all_in_order_after_their_marks() -> None:
    prompt, answer = compose(PARTS, "format", np.full(CHANCES + 4, 0.1))
    assert prompt == {
        "role": "user",
        "content": "Below are 4 instructions, [1] to [4]. Answer all of them, in the order in which they stand. "
        "Begin each answer with the mark of its instruction.\n\n[1]\nccc\n\n[2]\na\n\n[3]\ndddd\n\n[4]\nbb",
    }
    assert answer == {"role": "assistant", "content": "[1]\nC\n\n[2]\nA\n\n[3]\nD\n\n[4]\nB"}


def test_permute_answers_in_the_order_that_it_tells() -> None:
    prompt, answer = compose(PARTS, "permute", np.array([0.1, 0.01, 0.5, *CHANCE]))
    assert "Answer all of them, from the last to the first." in prompt["content"]
    assert answer["content"] == "[4]\nB\n\n[3]\nD\n\n[2]\nA\n\n[1]\nC"


def test_mask_leaves_out_what_it_tells_to_ignore() -> None:
    prompt, answer = compose(PARTS, "mask", np.array([0.1, 0.5, 0.3, *CHANCE]))
    assert "Ignore those of odd numbers, and answer the others" in prompt["content"]
    assert "[3]\ndddd" in prompt["content"]
    assert answer["content"] == "[2]\nA\n\n[4]\nB"


def test_what_is_ours_takes_no_more_room_than_is_left_for_it() -> None:
    for count in (2, 3, 10, 20):
        parts = [Exchange("", "")] * count
        for strategy in get_args(Strategy):
            for chance in np.random.default_rng(0).random((200, CHANCES + count)):
                messages = compose(parts, strategy, chance)
                assert sum(len(each["content"].encode()) for each in messages) <= room(count)


@pytest.mark.parametrize(
    "turns",
    [
        [("system", "s"), ("user", "u"), ("assistant", "a")],
        [("user", "u"), ("assistant", "a"), ("user", "u"), ("assistant", "a")],
        [("text", "t")],
        [("user", "u"), ("assistant", None)],
    ],
)
def test_other_conversations_are_no_parts(turns: list[tuple[str, str | None]]) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    assert exchange_of(json.dumps(messages), None) is None


def test_a_row_with_tools_is_no_part() -> None:
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    assert exchange_of(json.dumps(turns), "[]") is None
    assert exchange_of(json.dumps(turns), None) == Exchange("u", "a")


def test_a_turn_that_says_more_than_its_content_is_no_part() -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    turns[1]["tool_calls"] = [{}]
    assert exchange_of(json.dumps(turns), None) is None


def test_a_turn_of_the_user_may_say_that_it_is_not_trained_on() -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    turns[0]["train"], turns[1]["train"] = False, True
    assert exchange_of(json.dumps(turns), None) == Exchange("u", "a")
    turns[1]["train"] = False
    assert exchange_of(json.dumps(turns), None) is None


def pool(rows: int, tokens: int = 40, seed: int = 0, multi_turn: int = 0) -> Pool:
    """Rows of one exchange, and some of two."""
    once = [
        [{"role": "user", "content": f"question {row}"}, {"role": "assistant", "content": f"answer {row}"}]
        for row in range(rows)
    ]
    turns = [each * (2 if row < multi_turn else 1) for row, each in enumerate(once)]
    return pool_of(
        {
            "messages": [json.dumps(each) for each in turns],
            "tools": [None] * rows,
            "tokens": [tokens] * rows,
        },
        seed=seed,
    )


def members(schedule: Schedule, rows: int) -> list[list[int]]:
    """The rows of each draw."""
    return [
        [draw] if draw < rows else schedule.composed[draw - rows].members.tolist()
        for draw in schedule.draws.tolist()
    ]


def test_every_row_is_in_one_example() -> None:
    schedule = Mosaic().mix(pool(200, multi_turn=20))
    assert sorted(row for each in members(schedule, 200) for row in each) == list(range(200))


def test_members_are_the_rows_inside_in_order() -> None:
    schedule = Mosaic().mix(pool(60))
    for each in schedule.composed:
        asked = re.findall(r"question (\d+)", each.messages[0]["content"])
        assert [int(number) for number in asked] == each.members.tolist()


def test_groups_are_of_one_to_ten_rows_each_as_likely() -> None:
    """About 550 groups of ten sizes: chi-square with 9 degrees below its 0.999 quantile."""
    sizes = np.bincount([len(each) for each in members(Mosaic().mix(pool(3000)), 3000)], minlength=11)
    assert sizes[0] == 0
    assert len(sizes) == 11
    expected = sizes.sum() / 10
    assert ((sizes[1:] - expected) ** 2 / expected).sum() < 27.9


def test_the_three_strategies_are_as_likely() -> None:
    """About 490 examples: chi-square with 2 degrees below its 0.999 quantile."""
    counts = Counter(Mosaic().mix(pool(3000)).phases)
    found = np.array([counts[name] for name in get_args(Strategy)])
    assert ((found - found.mean()) ** 2 / found.mean()).sum() < 13.8


def test_all_orders_rules_and_marks_come_up() -> None:
    schedule = Mosaic().mix(pool(3000))
    how = [re.sub(r"[\d, ]+", " ", each.messages[0]["content"].split("\n")[0]) for each in schedule.composed]
    permuted = {text.split("Answer all of them")[1] for text in how if "Answer all" in text}
    ignored = {
        text.split("Ignore")[1].replace("numbers and", "number and") for text in how if "Ignore" in text
    }
    marks = {re.sub(r"\w", "", each.messages[1]["content"].split("\n")[0]) for each in schedule.composed}
    assert len(permuted) == len(ORDERS) + 1  # and as they stand
    assert len(ignored) == len(RULES)
    assert len(marks) == len(MARKS)


def test_a_masked_example_answers_fewer_than_it_holds() -> None:
    for each in Mosaic(strategies=("mask",)).mix(pool(1000)).composed:
        assert 0 < each.messages[1]["content"].count("answer") < len(each.members)


def test_each_part_is_ignored_as_often_however_many_are() -> None:
    """Four parts, one ignored: each in a quarter of 3,000 examples, within four deviations."""
    chances = np.random.default_rng(0).random((3000, 5)) * [1 / 3, 1, 1, 1, 1]
    ignored = Counter(RULES["random"](PARTS, chance)[1][0] for chance in chances)
    assert all(abs(ignored[part] - 750) < 95 for part in range(4))


def test_a_group_of_one_is_the_row_itself() -> None:
    schedule = Mosaic(max_rows=1).mix(pool(9))
    assert sorted(schedule.draws.tolist()) == list(range(9))
    assert set(schedule.phases) == {"single"}


def test_other_rows_are_drawn_as_they_are_and_counted() -> None:
    schedule = Mosaic().mix(pool(50, multi_turn=10))
    left = [
        draw for draw, phase in zip(schedule.draws, schedule.phases, strict=True) if phase == "not composable"
    ]
    assert sorted(left) == list(range(10))
    assert schedule.notes["rows_not_composable"] == 10


def test_one_strategy_can_be_asked_for() -> None:
    assert set(Mosaic(strategies=("mask",)).mix(pool(100)).phases) <= {"mask", "single"}


def test_another_seed_composes_otherwise() -> None:
    first, second = (members(Mosaic().mix(pool(50, seed=seed)), 50) for seed in (0, 1))
    assert first != second


def test_a_group_ends_before_the_row_that_would_be_too_much() -> None:
    """Four rows of 300 tokens and the room for four are 1,532 tokens, five would be 1,850."""
    sizes = [len(each) for each in members(Mosaic(max_tokens=1600).mix(pool(300, tokens=300)), 300)]
    assert max(sizes) == 4
    assert Counter(sizes).most_common(1)[0][0] == 4


def test_a_row_that_is_too_long_stays_alone() -> None:
    assert not Mosaic().mix(pool(30, tokens=1900)).composed


@pytest.mark.parametrize("limit", [400, 700, 2048])
def test_a_composed_example_is_no_longer_than_asked(limit: int) -> None:
    """Counted by a tokenizer that has about a token a byte, on texts with white space at their ends."""
    encoder = Encoder(toys.tiny_tokenizer(), TokenOptions(None))
    generator = np.random.default_rng(0)
    once = [
        [
            {"role": "user", "content": "  why? é\n" * int(generator.integers(1, 9))},
            {"role": "assistant", "content": "Because.\n\n" * int(generator.integers(1, 9))},
        ]
        for _ in range(200)
    ]
    encoded = encoder.encode_rows([Example(each) for each in once])
    rows = pool_of(
        {
            "messages": [json.dumps(each) for each in once],
            "tools": [None] * 200,
            "tokens": [len(each.input_ids) for each in encoded],
        }
    )
    schedule = Mosaic(max_tokens=limit).mix(rows)
    lengths = [
        len(each.input_ids) for each in encoder.encode_rows([Example(c.messages) for c in schedule.composed])
    ]
    assert max(lengths) <= limit
    assert max(lengths) > 0.5 * limit
