"""Train: tune the model on the selected rows, in the order of the schedule."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.model.request import TokenRow
from curate.numerics.seeds import derive
from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.mix import SCHEDULE
from curate.stages.models import ModelHandle
from curate.stages.rows import token_rows
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

    def draws(self, inputs: Inputs) -> NDArray[np.int64]:
        """What the selection trains on in one epoch, int64 [draws], indices of the living rows.

        The schedule, where there is one; without one every row once, shuffled.
        """
        positions = inputs.pool.positions
        if "schedule" not in inputs.artifacts:
            return np.random.default_rng(derive(self.seed, "order")).permutation(len(positions))
        scheduled = pl.read_parquet(inputs.artifacts["schedule"] / SCHEDULE)["position"].to_numpy()
        return np.searchsorted(positions, scheduled)

    def run(
        self, rows: list[TokenRow], draws: NDArray[np.int64], out: Path, work: Path, tell: Tell
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
        rows = token_rows(inputs.pool.frame(["input_ids", "supervised"]))
        return self.tuning.run(rows, self.tuning.draws(inputs), out, work, tell)
