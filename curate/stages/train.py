"""Train: tune the model on the selected rows, in the order of the schedule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import ConfigError
from curate.model.request import TokenRow
from curate.numerics.seeds import derive
from curate.sampled import weights
from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.models import ModelHandle
from curate.stages.schedule import Drawn, every_row_once, scheduled
from curate.training.spec import Train

PROBE_ROWS = 64
"""Rows that a probe trains on."""


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

    def step_of(self, drawn: Drawn) -> NDArray[np.int64] | None:
        """The optimizer step of each draw, int64 [draws]; None where the trainer cuts by `batch_rows`.

        Raises ConfigError where the schedule and the training both say.
        """
        if self.spec.steps_per_epoch is None:
            return drawn.steps
        if drawn.steps is not None:
            raise ConfigError("train: `steps_per_epoch` excludes a schedule that has steps of its own.")
        from curate.training.packing import equal_steps

        return equal_steps(drawn.supervised_tokens[drawn.draws], self.spec.steps_per_epoch)

    def expected(self, sample: Inputs) -> tuple[float, float]:
        """Tokens, and supervised tokens, of the whole training on the selection, from a sample of it."""
        pool = sample.pool.frame(["tokens", "supervised_tokens"])
        stands_for, lengths = weights(sample.pool), pool.select("tokens", "supervised_tokens").to_numpy()
        if "schedule" in sample.artifacts:
            drawn = self.drawn(sample)
            lengths = np.array([[len(row.input_ids), row.supervised.sum()] for row in drawn.examples])
            lengths = lengths[drawn.draws]
            stands_for = np.full(len(lengths), stands_for.sum() / len(stands_for))
        tokens, supervised = stands_for @ lengths
        times = self.spec.epochs
        if self.spec.max_steps is not None:
            steps = self.spec.steps_per_epoch or max(1.0, stands_for.sum() / self.spec.batch_rows)
            times = min(times, self.spec.max_steps / steps)
        return times * float(tokens), times * float(supervised)

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
        return self.tuning.run(drawn.examples, drawn.draws, out, work, tell, self.tuning.step_of(drawn))

    def rehearsal(self) -> ArtifactStage:
        """The first steps, of 64 rows or at least two steps, with a checkpoint."""
        spec = self.tuning.spec
        steps = max(2, -(-PROBE_ROWS // spec.batch_rows))
        few = {"max_steps": steps, "checkpoint_every_steps": steps, "save_at": (), "steps_per_epoch": None}
        tuning = replace(self.tuning, spec=spec.model_copy(update=few))
        return TrainSelection("train", None, self.resources, tuning, False)

    def expected_tokens(self, sample: Inputs) -> int | None:
        """The tokens of all draws, repeats counted."""
        return round(self.tuning.expected(sample)[0])
