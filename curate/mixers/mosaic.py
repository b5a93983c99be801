"""Mosaic (Mosaic-IT): one to ten rows become one example, with an instruction above them that says how to answer.

Formula: single-turn rows, in random order, are cut into groups of 1 to `max_rows`, each number as likely; a group ends
before the row with which it would be longer than `max_tokens`. A group of one is drawn as it is. Any other becomes one
prompt that holds the instructions, each after its mark, and one answer that holds the answers, by one of three
strategies, as likely:
format: all are answered in their order, each after its mark ([1], (1), 1. or #1);
permute: all, in one of ten orders: reverse, a random order that is listed, rotated, from the outside in, odd numbers
first, even numbers first, longest first, shortest first, alphabetical, and alphabetical from the end;
mask: some are to be ignored, by one of five rules: a listed random part, odd numbers, even numbers, the longest, the
shortest; at least one is always answered.
Every row is drawn once in an epoch, so there are fewer examples, and they are longer. Rows of more turns, with a
system message or tools cannot be composed, are drawn as they are, and counted in the notes. Phases name the strategy.

An example is bounded by the sum of its rows' tokens, each with the template that the example has but once, and the
bytes of what is written around them.

Cost: O(n log n), three hashes per row and 3 + n for an example of n; the texts of all rows in memory.
Source: Li et al., "Mosaic-IT: cost-free compositional data synthesis for instruction tuning", 2024.
Deviations: the wording, and the choice of ten orders and five rules, are our own; white space around instructions and
answers is removed; longest and shortest are in characters of the instruction.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.errors import DataError
from curate.mixer import Composed, Mixer, Schedule
from curate.mixers._mosaic import CHANCES, Strategy, compose, exchange_of, room
from curate.numerics.ranking import ranked
from curate.numerics.seeds import derive, uniform
from curate.pool import Pool


class Mosaic(Mixer):
    """Several rows composed into one example, by three strategies."""

    composes: ClassVar[bool] = True

    max_rows: int = Field(default=10, ge=1, le=20, description="most rows in one example")
    max_tokens: int = Field(
        default=2048,
        ge=1,
        description="longest example, in tokens; at most `tokens: max_tokens` of the configuration, which refuses "
        "longer ones",
    )
    strategies: tuple[Strategy, ...] = Field(
        default=("format", "permute", "mask"),
        min_length=1,
        description="how an example of several rows is composed, each as likely",
    )

    def needs(self) -> frozenset[str]:
        """The conversations and their lengths."""
        return frozenset({"messages", "tools", "tokens"})

    def mix(self, pool: Pool) -> Schedule:
        """Group, compose, shuffle. Raises DataError for an empty pool."""
        if pool.rows == 0:
            raise DataError("mosaic needs at least one selected row. Got none.")
        frame = pool.frame
        exchanges = [exchange_of(*row) for row in zip(frame["messages"], frame["tools"], strict=True)]
        fit = np.array([each is not None for each in exchanges])
        order = ranked(pool.keys("mosaic", "groups"), highest=False)
        groups = self._groups(order[fit[order]], pool.counts("tokens"), pool.seed)
        groups += [np.array([row]) for row in order[~fit[order]].tolist()]
        places = pool.keys("mosaic", "place")[[group[0] for group in groups]]
        draws, phases, composed = [], [], list[Composed]()
        for place in np.argsort(places, kind="stable").tolist():
            members = groups[place]
            if len(members) == 1:
                draws.append(int(members[0]))
                phases.append("single" if fit[members[0]] else "not composable")
                continue
            numbers = [f"{place} {number}" for number in range(1 + CHANCES + len(members))]
            which, *chance = uniform(derive(pool.seed, "mosaic", "example"), numbers)
            strategy = self.strategies[int(which * len(self.strategies))]
            parts = [each for row in members.tolist() if (each := exchanges[row]) is not None]
            draws.append(pool.rows + len(composed))
            phases.append(strategy)
            composed.append(Composed(compose(parts, strategy, np.array(chance)), members))
        notes = {
            "rows_composed": sum(len(each.members) for each in composed),
            "rows_not_composable": int((~fit).sum()),
            "distinct_rows": pool.rows,
        }
        return Schedule(np.array(draws, dtype=np.int64), phases, composed=composed, notes=notes)

    def _groups(
        self, order: NDArray[np.int64], tokens: NDArray[np.int64], seed: int
    ) -> list[NDArray[np.int64]]:
        """The rows cut into groups, each within `max_tokens` unless it is of one row."""
        chance = uniform(derive(seed, "mosaic", "size"), [str(group) for group in range(len(order))])
        ends = np.concatenate([[0], np.cumsum(tokens[order])])
        groups: list[NDArray[np.int64]] = []
        start = 0
        while start < len(order):
            most = min(start + 1 + int(chance[len(groups)] * self.max_rows), len(order))
            end = start + 1
            while end < most and ends[end + 1] - ends[start] + room(end + 1 - start) <= self.max_tokens:
                end += 1
            groups.append(order[start:end])
            start = end
        return groups
