"""Evaluate: did the choice help? Held-out loss per source, before, after, and for honest baselines.

Each baseline is trained like the selection, on as many supervised tokens, drawn from the whole pool
as it was before any stage: `random`, and `length_matched_random` with the selection's own lengths.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.component import Component
from curate.errors import DataError
from curate.numerics.seeds import derive
from curate.reader import Reader
from curate.selector import Pool
from curate.spec import Fraction, SourceSpec
from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.models import ModelHandle
from curate.stages.rows import token_rows
from curate.stages.train import Tuning, scheduled_draws

Baseline = Literal["random", "length_matched_random"]


class Evaluate(Component):
    """The `evaluate:` item of a configuration."""

    held_out: Fraction = Field(
        default=0.05, description="share of each source's rows to set aside, by group (5% or 0.05)"
    )
    sources: tuple[SourceSpec, ...] = Field(default=(), description="further files to evaluate on")
    baselines: tuple[Baseline, ...] = Field(
        default=("random", "length_matched_random"),
        description="subsets of equal tokens to train beside the selection",
    )


@dataclass(frozen=True)
class TuneBaseline(ArtifactStage):
    """Trains on a baseline subset; writes the tuned model and `rows.parquet`, the rows that it drew."""

    baseline: Baseline
    tuning: Tuning
    has_schedule: bool

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The rows that the selection trains on, and the pool to draw from."""
        schedule = {"artifact:schedule"} if self.has_schedule else set[str]()
        return frozenset({"input_ids", "supervised", "supervised_tokens", "uid", "rows:pool"} | schedule)

    @property
    def adds(self) -> frozenset[str]:
        """The tuned model."""
        return frozenset({f"artifact:{self.baseline}"})

    def identity(self) -> dict[str, Any]:
        """The subset and how it is trained."""
        return {"baseline": self.baseline, "version": 1, **self.tuning.identity()}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Draw, train."""
        pool = inputs.rows["pool"]
        reference = scheduled_lengths(inputs)
        indices = self._draw(pool, reference)
        rows = pool.take(["input_ids", "supervised"], indices)
        rows.select("position").write_parquet(out / "rows.parquet")
        draws = np.random.default_rng(derive(self.tuning.seed, self.baseline)).permutation(len(indices))
        return self.tuning.run(token_rows(rows), draws, out, work, tell)

    def _draw(self, pool: Reader, reference: NDArray[np.int64]) -> NDArray[np.int64]:
        from curate.numerics.baselines import length_matched, random_to_tokens

        candidates = Pool(pool.frame(["uid", "supervised_tokens"]), {}, self.tuning.seed)
        lengths, keys = candidates.supervised_tokens(), candidates.keys("baseline", self.baseline)
        if lengths.sum() < reference.sum():
            raise DataError(
                f"baseline `{self.baseline}`: the pool holds {lengths.sum():,} supervised tokens, the selection "
                f"trains on {reference.sum():,}. Without repeats no equal baseline exists; set `baselines: []`."
            )
        if self.baseline == "random":
            return random_to_tokens(lengths, keys, int(reference.sum()))
        return length_matched(lengths, reference, keys)


def scheduled_lengths(inputs: Inputs) -> NDArray[np.int64]:
    """Supervised tokens of each draw of one epoch, int64 [draws]."""
    frame = inputs.pool.frame(["supervised_tokens"])
    draws = scheduled_draws(inputs, frame["position"].to_numpy())
    if draws is None:
        return frame["supervised_tokens"].to_numpy().astype(np.int64)
    return frame["supervised_tokens"].to_numpy().astype(np.int64)[draws]


@dataclass(frozen=True)
class EvaluateHeldOut(ArtifactStage):
    """Writes `eval.json`: held-out loss of the base model, the tuned one, and each baseline."""

    unit: ClassVar[str] = "models"
    spec: Evaluate
    model: ModelHandle

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The held-out rows and the tuned models."""
        tuned = {f"artifact:{name}" for name in ("adapter", *self.spec.baselines)}
        columns = {"input_ids", "supervised", "supervised_tokens", "source", "held_out", "rows:all"}
        return frozenset(tuned | columns)

    @property
    def adds(self) -> frozenset[str]:
        """The evaluation."""
        return frozenset({"artifact:evaluation"})

    def identity(self) -> dict[str, Any]:
        """The base model; the tuned ones are inputs."""
        return {"version": 1, "model": self.model.identity(), "baselines": list(self.spec.baselines)}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """One forward pass over the held-out rows per model."""
        from curate.evaluate import held_out_losses, load_tuned

        everything = inputs.rows["all"]
        held = np.flatnonzero(everything.frame(["held_out"])["held_out"].to_numpy())
        if not len(held):
            raise DataError(
                "no row is held out: the share is too small for these sources. Raise `evaluate.held_out`."
            )
        frame = everything.take(["input_ids", "supervised", "source"], held)
        rows, sources = token_rows(frame), frame["source"].to_list()
        models: Mapping[str, Path | None] = {
            "before": None,
            "selected": inputs.artifacts["adapter"],
            **{name: inputs.artifacts[name] for name in self.spec.baselines},
        }
        tokens = int(sum(len(ids) for ids in frame["input_ids"]))
        losses: dict[str, Any] = {}
        for number, (name, tuned) in enumerate(models.items()):
            tell(number, len(models), number * tokens)
            losses[name] = held_out_losses(load_tuned(self.model.load(), tuned), rows, sources).as_dict()
        tell(len(models), len(models), len(models) * tokens)
        report = {"held_out_rows": len(rows), "unit": "nats per supervised token", "losses": losses}
        (out / "eval.json").write_text(json.dumps(report, indent=1) + "\n")
        return report
