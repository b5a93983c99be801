"""Mixer: turns selected rows into a schedule, what the trainer draws, when and how often."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from curate.component import Component
from curate.pool import Pool
from curate.settings import Resources

if TYPE_CHECKING:
    from curate.stage import Stage
    from curate.stages.models import ModelHandle
    from curate.training.spec import Train


@dataclass(frozen=True)
class Composed:
    """One example made of several rows (Mosaic-IT).

    messages: as in a row, {role, content, optional train}. members: int64, the pool's rows inside, in order.
    """

    messages: Sequence[Mapping[str, Any]]
    members: NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """One epoch of training, draw by draw.

    draws: int64 [draws], rows of the pool's frame in the order of training; a row may repeat or be absent. From
    the number of the pool's rows on: the place in `composed`, counted from there.
    phases: one name per draw (the group, the phase or the level that the draw belongs to).
    starts, lengths: int64 [draws], the piece of the row's tokens that is trained on; None for whole rows.
    steps: int64 [draws], the optimizer step of each draw, from 0, ascending, none left out; None where the
    trainer cuts the draws by its `batch_rows`.
    notes: what to say of the whole schedule, as JSON values.
    """

    draws: NDArray[np.int64]
    phases: Sequence[str]
    starts: NDArray[np.int64] | None = None
    lengths: NDArray[np.int64] | None = None
    steps: NDArray[np.int64] | None = None
    composed: Sequence[Composed] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preparation:
    """What the stages are made from that a mixer puts before its own.

    entry, resources, seed: of the `mix` item. model: the run's, None without one. train: of the list's `train`
    item, None without one. target: the source of the target's rows, None without one. holds_out: whether the
    run evaluates, so that rows are held out.
    """

    entry: int
    resources: Resources
    seed: int
    model: "ModelHandle | None"
    train: "Train | None"
    target: str | None
    holds_out: bool


class Mixer(Component, ABC):
    """(selected rows, seed) -> Schedule."""

    composes: ClassVar[bool] = False
    """Whether it makes examples out of several rows, which must be tokenised."""

    def needs(self) -> frozenset[str]:
        """The columns that this mixer reads beside position, uid and source, and artifacts: `artifact:<name>`."""
        return frozenset()

    def prepare(self, given: Preparation) -> "Sequence[Stage]":
        """The stages that must run before this mixer, to make the artifacts that it needs; usually none.

        Finds no files and loads no model. Raises ConfigError for what the configuration lacks.
        """
        return ()

    @abstractmethod
    def mix(self, pool: Pool) -> Schedule:
        """Order and repeat the selected rows. Deterministic for a pool and its seed."""
