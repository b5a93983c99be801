"""Evaluate: held-out loss of a model, per source, by the training's own loss and labels. Pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError, DataError
from curate.model.load import LoadedModel
from curate.model.request import TokenRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RESAMPLES = 2000
PACKED_TOKENS = {True: 256, False: 4096}
"""Tokens of a packed forward, by whether it runs on a CPU."""


@dataclass(frozen=True)
class SourceLoss:
    """loss: mean over the source's supervised tokens, nats. rows, supervised_tokens: what it is over."""

    loss: float
    rows: int
    supervised_tokens: int


@dataclass(frozen=True)
class Losses:
    """Losses of rows.

    row_losses: float64 [rows], each the mean over the row's supervised tokens, nats; row_tokens: int64
    [rows], how many those are; row_sources: the source of each. Two models' `row_losses` over the same
    rows are paired: compare them by `bootstrap_interval(first - second, seed)`.
    """

    row_losses: NDArray[np.float64]
    row_tokens: NDArray[np.int64]
    row_sources: tuple[str, ...]

    @cached_property
    def by_source(self) -> dict[str, SourceLoss]:
        """Per source, in alphabetical order."""
        names = np.array(self.row_sources)
        sums = self.row_losses * self.row_tokens
        found = {}
        for name in sorted(set(self.row_sources)):
            here = names == name
            tokens = int(self.row_tokens[here].sum())
            found[name] = SourceLoss(float(sums[here].sum()) / tokens, int(here.sum()), tokens)
        return found

    @property
    def source_mean(self) -> float:
        """Each source counts the same: the mean of the sources' losses."""
        return float(np.mean([each.loss for each in self.by_source.values()]))

    @property
    def row_mean(self) -> float:
        """Each row counts the same."""
        return float(self.row_losses.mean())

    @property
    def token_mean(self) -> float:
        """Each supervised token counts the same."""
        return float(np.average(self.row_losses, weights=self.row_tokens))

    def where(self, rows: NDArray[np.bool_]) -> "Losses":
        """Those of some of the rows, bool [rows]."""
        sources = tuple(source for source, chosen in zip(self.row_sources, rows, strict=True) if chosen)
        return Losses(self.row_losses[rows], self.row_tokens[rows], sources)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, without the single rows."""
        return {
            "source_mean": self.source_mean,
            "row_mean": self.row_mean,
            "token_mean": self.token_mean,
            "rows": len(self.row_losses),
            "supervised_tokens": int(self.row_tokens.sum()),
            "sources": {name: asdict(each) for name, each in self.by_source.items()},
        }


def held_out_losses(
    model: "PreTrainedModel",
    rows: Sequence[TokenRow],
    sources: Sequence[str],
    batch_tokens: int | None = None,
    tell: Callable[[int, int, int], None] = lambda done, total, tokens: None,
) -> Losses:
    """The loss of each row, in one forward pass over all, in evaluation mode.

    sources: one per row. batch_tokens: tokens of one packed forward (default: 256 on a CPU, where
    attention over what is packed costs its square; 4096 elsewhere); changes the last digits only. tell: is told after
    each forward how many rows are done, of how many, and their tokens.
    Computed by `training.packing.token_losses`, the model's own forward, so that it holds for models that
    scale or cap their logits too. A packed batch that memory cannot hold is halved, and said.
    Raises DataError where there is no row, or a row has no supervised token or a supervised first one;
    CurateError if a loss is not a number.
    """
    import logging

    import torch

    from curate.model.batches import run_with_backoff
    from curate.training.packing import check_rows, flatten, isolates_rows, pack, token_losses

    if not rows or len(rows) != len(sources):
        raise DataError(f"evaluation: needs rows, each with its source. Got {len(rows)} and {len(sources)}.")
    check_rows(rows, range(len(rows)), "evaluation")
    lengths = [len(row.input_ids) for row in rows]
    batch_tokens = batch_tokens or PACKED_TOKENS[model.device.type == "cpu"]
    groups = pack(lengths, batch_tokens) if isolates_rows(model) else [[place] for place in range(len(rows))]

    def losses_of(places: NDArray[np.int64]) -> NDArray[np.float64]:
        with torch.inference_mode():
            packed = flatten([rows[place] for place in places]).to(model.device)
            return token_losses(model, packed).double().cpu().numpy()

    model.train(False)
    row_tokens = np.array([row.supervised.sum() for row in rows], dtype=np.int64)
    row_losses = np.full(len(rows), np.nan)
    warn = logging.getLogger(__name__).warning
    batches = [np.array(group, dtype=np.int64) for group in groups]
    done = tokens = 0
    for places, losses in run_with_backoff(losses_of, batches, lambda notice: warn("evaluation: %s", notice)):
        ends = np.cumsum(row_tokens[places])
        row_losses[places] = [part.mean() for part in np.split(losses, ends[:-1])]
        done, tokens = done + len(places), tokens + sum(lengths[place] for place in places)
        tell(done, len(rows), tokens)
    if not np.isfinite(row_losses).all():
        bad = int(np.flatnonzero(~np.isfinite(row_losses))[0])
        raise CurateError(
            f"evaluation: the loss of held-out row {bad} ({sources[bad]}) is {row_losses[bad]}. The tuned model "
            "is broken: lower `train.learning_rate`, or use `dtype: float32`."
        )
    return Losses(row_losses, row_tokens, tuple(sources))


def bootstrap_interval(values: NDArray[np.float64], seed: int, level: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of `values` at `level`.

    values: float64 [n]. 2,000 resamples of all n with replacement. O(2,000 n). Source: Efron 1979.
    Raises ValueError for no values, for one that is not finite, or a level outside (0, 1).
    """
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values must be finite numbers, at least one. Got {values!r}.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1). Got {level}.")
    generator = np.random.default_rng(seed)
    means = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def load_tuned(loaded: LoadedModel, artifact: Path | None) -> "PreTrainedModel":
    """The model with what a training wrote: an adapter applied to it, or the whole tuned model.

    artifact: the folder that the training wrote; None gives the model as it is. `loaded` is changed in
    place by an adapter. In evaluation mode, on the same device, in the same dtype.
    Raises CurateError if the folder holds neither.
    """
    if artifact is None:
        return loaded.model
    from curate.model.quiet import no_peft_deprecation, no_progress_bars

    if (artifact / "adapter_config.json").exists():
        from peft import PeftModel

        with no_peft_deprecation():
            tuned = PeftModel.from_pretrained(loaded.model, str(artifact))
        return cast("PreTrainedModel", tuned.get_base_model().eval())
    if not (artifact / "config.json").exists():
        raise CurateError(
            f"{artifact}: must hold adapter_config.json or config.json. It holds neither; train again."
        )
    with no_progress_bars():
        whole: Any = type(loaded.model).from_pretrained(
            artifact,
            dtype=loaded.model.dtype,
            attn_implementation=loaded.model.config._attn_implementation,
            local_files_only=True,
        )
    whole.config.use_cache = False
    return cast("PreTrainedModel", whole.to(loaded.device).eval())
