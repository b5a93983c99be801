"""Mixer: turns selected rows into a schedule, what the trainer draws, when and how often."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.component import Component
from curate.selector import Pool


@dataclass(frozen=True)
class Schedule:
    """One epoch of training, draw by draw.

    draws: int64 [draws], rows of the pool's frame in the order of training; a row may repeat or be absent.
    phases: one name per draw (the group, the phase or the level that the draw belongs to).
    """

    draws: NDArray[np.int64]
    phases: Sequence[str]


class Mixer(Component, ABC):
    """(selected rows, seed) -> Schedule."""

    def needs(self) -> frozenset[str]:
        """The columns that this mixer reads beside position, uid and source, and artifacts: `artifact:<name>`."""
        return frozenset()

    @abstractmethod
    def mix(self, pool: Pool) -> Schedule:
        """Order and repeat the selected rows. Deterministic for a pool and its seed."""
