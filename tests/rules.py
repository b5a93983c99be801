"""An admission for tests of greedy maximisers."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np


@dataclass
class Rules:
    """An admission of `budget` rows. first: rows that must be chosen before any other but include."""

    budget: int
    include: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    barred: frozenset[int] = frozenset()
    first: frozenset[int] = frozenset()
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chosen = set(self.include.tolist())

    @property
    def spent(self) -> bool:
        return len(self.chosen) >= self.budget

    def verdict(self, row: int) -> Literal["yes", "later", "never"]:
        self.asked.append(row)
        if row in self.barred:
            return "never"
        return "later" if not self.first <= self.chosen and row not in self.first else "yes"

    def add(self, row: int) -> None:
        self.chosen.add(row)
