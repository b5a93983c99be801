"""Noise of a known kind, rate and place, by which filters, scorers and selections are measured.

Spoils a stated share of clean rows and keeps the truth, so that the AUC of a score, or the share of noise
that a selection keeps, is a matter of counting. Source: the noise injection of data-quality studies
(shuffled responses as in label-noise work; the other kinds are the common faults of scraped corpora).

    shuffled        the response of another row: fluent, and an answer to something else
    gibberish       every letter and digit replaced by a random one; word lengths and layout stay
    truncated       cut inside a word, within the first 60 % of the response
    repeated        an opening of the response, over and over, up to about its former length
    duplicate       the row gives way to an exact copy of an earlier clean row
    near_duplicate  the row gives way to a copy of an earlier clean row with one small edit at an end

Cost: a few hashes and one pass over the text of each spoiled row.
"""

import random
import re
import string
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from curate.errors import ConfigError, DataError
from curate.numerics.seeds import derive, uniform

Noise = Literal["shuffled", "gibberish", "truncated", "repeated", "duplicate", "near_duplicate"]
NOISES: tuple[Noise, ...] = get_args(Noise)
COPIES: frozenset[Noise] = frozenset({"duplicate", "near_duplicate"})

_INSIDE_A_WORD = re.compile(r"(?<=\w)(?=\w)")
_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class NoisyRow:
    """One row of the spoiled pool; it stands where the clean row of the same index stood.

    origin: index of the clean row whose prompt and other fields go with `response`: the row's own index,
    except for copies, where it is the earlier row that was copied.
    response: what the row now answers. corruption: the truth, "none" for an untouched row.
    """

    origin: int
    response: str
    corruption: Noise | Literal["none"]


def corrupt(
    keys: Sequence[str],
    responses: Sequence[str],
    rate: float,
    seed: int,
    kinds: Sequence[Noise] = NOISES,
) -> list[NoisyRow]:
    """Spoil exactly round(rate * rows) of the rows, spread evenly over `kinds`.

    keys: one id per row, unique; with `seed` they alone decide which rows are spoiled. responses: the
    text that each row answers, not blank. kinds: where the number does not divide, the first get one more.

    Row 0 always stays clean, and a copy always comes after the clean row that it repeats, so "keep the
    first of a group" keeps the original. A spoiled response is never the row's own response. Shuffled
    responses are exchanged among the shuffled rows, so each is used once.

    Raises ConfigError for a rate outside [0, 1] or for unknown or repeated kinds; DataError for keys that
    repeat, blank responses, or rows too few or too short for the noise asked for.
    """
    _validate(keys, responses, rate, kinds)
    spoiled = round(rate * len(keys))
    if spoiled == 0:
        return [NoisyRow(index, response, "none") for index, response in enumerate(responses)]
    counts = {kind: (spoiled + len(kinds) - 1 - place) // len(kinds) for place, kind in enumerate(kinds)}
    chosen = _choose(keys, responses, counts, seed)
    clean = [index for index in range(len(keys)) if index not in chosen]
    exchanged = _exchange([i for i, kind in chosen.items() if kind == "shuffled"], keys, responses, seed)
    result = []
    for index, response in enumerate(responses):
        kind = chosen.get(index)
        generator = random.Random(derive(seed, "noise", keys[index]))
        if kind is None:
            result.append(NoisyRow(index, response, "none"))
        elif kind == "shuffled":
            result.append(NoisyRow(index, responses[exchanged[index]], kind))
        elif kind in COPIES:
            origin = clean[generator.randrange(bisect_left(clean, index))]
            copied = responses[origin]
            text = edited(copied, generator) if kind == "near_duplicate" else copied
            result.append(NoisyRow(origin, text, kind))
        else:
            result.append(NoisyRow(index, _REWRITES[kind](response, generator), kind))
    return result


def gibberish(response: str, generator: random.Random) -> str:
    """Every letter and digit replaced by a random one of a-z0-9; spaces and signs stay."""
    while True:
        text = "".join(generator.choice(_LETTERS) if sign.isalnum() else sign for sign in response)
        if text != response:
            return text


def truncated(response: str, generator: random.Random) -> str:
    """The beginning of the response, cut inside a word within its first 60 %."""
    return response[: generator.choice(_cuts(response))]


def repeated(response: str, generator: random.Random) -> str:
    """The first one to four words of the response, again and again, to about its former length."""
    opening = " ".join(response.split()[: generator.randint(1, 4)])
    times = max(2, len(response) // (len(opening) + 1))
    text = " ".join([opening] * times)
    return text if text != response else f"{text} {opening}"


def edited(response: str, generator: random.Random) -> str:
    """The response with one small edit: the first letter's case, the last sign, or the last word."""
    edits: list[str] = [response[:-1] if response[-1] in ".!?;," and len(response) > 1 else response + "."]
    first = next((place for place, sign in enumerate(response) if sign.swapcase() != sign), None)
    if first is not None:
        edits.append(response[:first] + response[first].swapcase() + response[first + 1 :])
    shorter = response.rstrip().rpartition(" ")[0].rstrip()
    if len(shorter.split()) >= 10:
        edits.append(shorter)
    return generator.choice(edits)


_REWRITES: dict[Noise, Callable[[str, random.Random], str]] = {
    "gibberish": gibberish,
    "truncated": truncated,
    "repeated": repeated,
}


def _cuts(response: str) -> list[int]:
    """Where `truncated` may cut: inside a word, from 20 % to 60 % of the response, or else before 60 %."""
    early = [cut.start() for cut in _INSIDE_A_WORD.finditer(response[: int(0.6 * len(response)) + 1])]
    return [cut for cut in early if cut >= 0.2 * len(response)] or early


def _validate(keys: Sequence[str], responses: Sequence[str], rate: float, kinds: Sequence[Noise]) -> None:
    if not 0 <= rate <= 1:
        raise ConfigError(f"noise: `rate` must be within [0, 1]. Got {rate}.")
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(NOISES):
        raise ConfigError(f"noise: `kinds` must be different ones of {', '.join(NOISES)}. Got {list(kinds)}.")
    if len(keys) != len(responses):
        raise DataError(f"noise: {len(keys)} keys for {len(responses)} responses; give one key per response.")
    twice = [key for key, times in Counter(keys).items() if times > 1]
    if twice:
        raise DataError(f"noise: keys must be unique. `{twice[0]}` is not.")
    blank = [key for key, response in zip(keys, responses, strict=True) if not response.strip()]
    if blank:
        raise DataError(f"noise: responses must not be blank. That of `{blank[0]}` is.")


def _choose(
    keys: Sequence[str], responses: Sequence[str], counts: dict[Noise, int], seed: int
) -> dict[int, Noise]:
    """Which rows are spoiled, and how: a random order, dealt out to the choosiest kinds first."""
    drawn = uniform(derive(seed, "noise", "rows"), keys)
    free = sorted(range(1, len(keys)), key=lambda index: (float(drawn[index]), index))
    chosen: dict[int, Noise] = {}
    for kind in sorted(counts, key=lambda kind: _CHOOSIEST_FIRST.index(kind)):
        fit = [index for index in free if _fits(kind, responses[index])][: counts[kind]]
        if len(fit) < counts[kind]:
            raise DataError(
                f"noise: {counts[kind]} rows must become `{kind}`; only {len(fit)} of the {len(keys) - 1} "
                f"that may be spoiled are left and long enough. Lower the rate or leave the kind out."
            )
        chosen.update(dict.fromkeys(fit, kind))
        free = [index for index in free if index not in chosen]
    return chosen


_CHOOSIEST_FIRST: tuple[Noise, ...] = (
    "truncated", "gibberish", "shuffled", "repeated", "duplicate", "near_duplicate",
)  # fmt: skip


def _fits(kind: Noise, response: str) -> bool:
    if kind == "truncated":
        return bool(_cuts(response))
    if kind == "gibberish":
        return any(sign.isalnum() for sign in response)
    return True


def _exchange(
    rows: Sequence[int], keys: Sequence[str], responses: Sequence[str], seed: int
) -> dict[int, int]:
    """row -> the row whose response it gets; a permutation of `rows` under which every response changes.

    Equal responses are laid side by side on a ring, groups in random order; every row then takes the
    response that lies the largest group's size further on, which is always another group's. O(m log m).
    """
    if not rows:
        return {}
    largest = max(Counter(responses[index] for index in rows).values())
    if 2 * largest > len(rows):
        raise DataError(
            f"noise: {len(rows)} responses must be exchanged so that each changes, but {largest} of them are "
            "equal. Raise the rate, leave `shuffled` out, or remove duplicates first."
        )
    texts = [responses[index] for index in rows]
    groups = uniform(derive(seed, "noise", "exchange"), texts)
    within = uniform(derive(seed, "noise", "exchange"), [keys[index] for index in rows])
    ring = sorted(range(len(rows)), key=lambda place: (float(groups[place]), float(within[place])))
    return {rows[place]: rows[ring[(step + largest) % len(ring)]] for step, place in enumerate(ring)}
