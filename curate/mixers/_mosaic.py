"""Mosaic: the wording of composed examples: how parts are marked, in which order and which of them are answered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

Strategy = Literal["format", "permute", "mask"]

CHANCES = 4
"""Random numbers that the wording takes beside one for each part."""


@dataclass(frozen=True)
class Exchange:
    """One instruction and its answer, the white space around them removed."""

    instruction: str
    answer: str


Chooser = Callable[[Sequence[Exchange], NDArray[np.float64]], tuple[str, list[int]]]
"""(parts, float64 [1 + parts] uniform in (0, 1)) -> how it is told, and numbers of parts, from 0."""


def _by_length(parts: Sequence[Exchange], longest: bool) -> list[int]:
    """In characters; equal ones in their order."""
    return sorted(range(len(parts)), key=lambda n: len(parts[n].instruction) * (-1 if longest else 1))


def _by_alphabet(parts: Sequence[Exchange]) -> list[int]:
    return sorted(range(len(parts)), key=lambda n: (parts[n].instruction.casefold(), n))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number + 1) for number in numbers)


def _random_order(parts: Sequence[Exchange], chance: NDArray[np.float64]) -> tuple[str, list[int]]:
    order = np.argsort(chance[1:], kind="stable").tolist()
    return f"in this order: {_listed(order)}", order


def _rotated(parts: Sequence[Exchange], chance: NDArray[np.float64]) -> tuple[str, list[int]]:
    first = 1 + int(chance[0] * (len(parts) - 1))
    told = f"beginning with number {first + 1}, to the last, and then from number 1 on"
    return told, [*range(first, len(parts)), *range(first)]


def _outside_in(parts: Sequence[Exchange], chance: NDArray[np.float64]) -> tuple[str, list[int]]:
    order = sorted(range(len(parts)), key=lambda n: (min(n, len(parts) - 1 - n), n))
    return "from the outside in: the first, the last, the second, the second to last, and so on", order


def _random_part(parts: Sequence[Exchange], chance: NDArray[np.float64]) -> tuple[str, list[int]]:
    """One to all but one of them."""
    count = 1 + int(chance[0] * (len(parts) - 1))
    ignored = sorted(np.argsort(chance[1:], kind="stable")[:count].tolist())
    return f"number {ignored[0] + 1}" if count == 1 else f"numbers {_listed(ignored)}", ignored


ORDERS: Mapping[str, Chooser] = {
    "reverse": lambda parts, _: ("from the last to the first", [*range(len(parts))][::-1]),
    "random": _random_order,
    "rotated": _rotated,
    "outside_in": _outside_in,
    "odd_first": lambda parts, _: (
        "first those of odd numbers, then those of even ones",
        [*range(0, len(parts), 2), *range(1, len(parts), 2)],
    ),
    "even_first": lambda parts, _: (
        "first those of even numbers, then those of odd ones",
        [*range(1, len(parts), 2), *range(0, len(parts), 2)],
    ),
    "longest_first": lambda parts, _: (
        "from the longest instruction to the shortest",
        _by_length(parts, True),
    ),
    "shortest_first": lambda parts, _: (
        "from the shortest instruction to the longest",
        _by_length(parts, False),
    ),
    "alphabetical": lambda parts, _: ("in the alphabetical order of the instructions", _by_alphabet(parts)),
    "reverse_alphabetical": lambda parts, _: (
        "in the alphabetical order of the instructions, from its end",
        _by_alphabet(parts)[::-1],
    ),
}
"""In which order the parts are answered."""

RULES: Mapping[str, Chooser] = {
    "random": _random_part,
    "odd": lambda parts, _: ("those of odd numbers", [*range(0, len(parts), 2)]),
    "even": lambda parts, _: ("those of even numbers", [*range(1, len(parts), 2)]),
    "longest": lambda parts, _: ("the longest instruction", _by_length(parts, True)[:1]),
    "shortest": lambda parts, _: ("the shortest instruction", _by_length(parts, False)[:1]),
}
"""Which parts are ignored: of two or more, never all."""

MARKS: tuple[str, ...] = ("[{}]", "({})", "{}.", "#{}")
"""How the parts are marked."""


def room(parts: int) -> int:
    """At most so many bytes of a composed example of so many parts (at most 20) are ours; a byte is at most a token."""
    return 260 + 18 * parts


def exchange_of(messages: str, tools: str | None) -> Exchange | None:
    """The one exchange of a row, from JSON; None where it is anything else, which cannot be a part of another."""
    turns = orjson.loads(messages)
    if tools is not None or [turn["role"] for turn in turns] != ["user", "assistant"]:
        return None
    if turns[1].get("train") is False:  # a user's turn may say so too: it is never trained on
        return None
    for turn in turns:
        more = {key for key, value in turn.items() if value is not None} - {"role", "content", "train"}
        if more or not isinstance(turn.get("content"), str):
            return None
    return Exchange(*(turn["content"].strip() for turn in turns))


def compose(
    parts: Sequence[Exchange], strategy: Strategy, chance: NDArray[np.float64]
) -> tuple[dict[str, str], dict[str, str]]:
    """The messages of two or more parts as one.

    chance: float64 [CHANCES + parts], uniform in (0, 1): which marks, order and rule, and what these two draw.
    """
    mark = MARKS[int(chance[0] * len(MARKS))]
    answered, own = [*range(len(parts))], chance[CHANCES - 1 :]
    how = "Answer all of them, in the order in which they stand."
    if strategy == "permute":
        told, answered = [*ORDERS.values()][int(chance[1] * len(ORDERS))](parts, own)
        how = f"Answer all of them, {told}."
    elif strategy == "mask":
        told, ignored = [*RULES.values()][int(chance[2] * len(RULES))](parts, own)
        answered = [number for number in answered if number not in ignored]
        how = f"Ignore {told}, and answer the others in the order in which they stand."
    prompt = [
        f"Below are {len(parts)} instructions, {mark.format(1)} to {mark.format(len(parts))}. {how} "
        "Begin each answer with the mark of its instruction.",
        *(f"{mark.format(number + 1)}\n{part.instruction}" for number, part in enumerate(parts)),
    ]
    answer = [f"{mark.format(number + 1)}\n{parts[number].answer}" for number in answered]
    return {"role": "user", "content": "\n\n".join(prompt)}, {
        "role": "assistant",
        "content": "\n\n".join(answer),
    }
