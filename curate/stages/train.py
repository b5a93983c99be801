"""Train: tune the model on the selected rows, in the order of the schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.model.request import TokenRow
from curate.numerics.seeds import derive
from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.models import ModelHandle
from curate.stages.schedule import Drawn, every_row_once, scheduled
from curate.training.spec import Train


@dataclass(frozen=True)
class Tuning:
    """How to train: shared by the selection and its baselines, so that only the rows differ."""

    spec: Train
    model: ModelHandle
    seed: int

    def identity(self) -> dict[str, Any]:
        """Everything but the rows."""
        return {**self.spec.identity(), "model": self.model.identity(), "seed": self.seed}

    def drawn(self, inputs: Inputs) -> Drawn:
        """What the selection trains on in one epoch: its schedule; without one every row once, shuffled."""
        if "schedule" not in inputs.artifacts:
            return every_row_once(inputs, derive(self.seed, "order"))
        return scheduled(inputs, inputs.artifacts["schedule"])

    def run(
        self,
        rows: Sequence[TokenRow],
        draws: NDArray[np.int64],
        out: Path,
        work: Path,
        tell: Tell,
        step_of: NDArray[np.int64] | None = None,
    ) -> dict[str, Any]:
        """Train on `rows` in the order of `draws` (one epoch); write the tuned model into `out`."""
        from curate.training.trainer import train

        result = train(
            rows,
            draws,
            self.spec,
            self.model.load(),
            seed=derive(self.seed, "train"),
            out=out,
            work=work,
            tell=tell,
            step_of=step_of,
        )
        return result.as_dict()


@dataclass(frozen=True)
class TrainSelection(ArtifactStage):
    """Writes the adapter, or the whole tuned model."""

    tuning: Tuning
    has_schedule: bool

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The stored tokens: the same that the scorers read; and the schedule, if a mixer made one."""
        schedule = {"artifact:schedule"} if self.has_schedule else set[str]()
        return frozenset({"input_ids", "supervised", "supervised_tokens"} | schedule)

    @property
    def adds(self) -> frozenset[str]:
        """The tuned model."""
        return frozenset({"artifact:adapter"})

    def identity(self) -> dict[str, Any]:
        """How it is trained."""
        return self.tuning.identity()

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Train on the schedule's draws."""
        drawn = self.tuning.drawn(inputs)
        return self.tuning.run(drawn.examples, drawn.draws, out, work, tell, drawn.steps)
