"""The trainer: rows in the order of a schedule, through transformers' Trainer.

One item of the Trainer's dataset is one whole optimizer step: its rows, packed into as many micro-batches
as they need. The loss of a step is the mean over all supervised tokens of the step, whatever micro-batch
they are in: each micro-batch's sum, divided by the step's count. So nothing depends on how transformers
counts tokens over accumulated batches.

Precision. An adapter on a half-precision model: frozen weights in bfloat16, the adapter and its optimizer
in float32. Full tuning in bfloat16: parameters and optimizer in float32, starting from the bfloat16
weights, matrix products in bfloat16. float16 is refused: its gradients would need scaling.

Reproducible. On one machine and number of threads the same input gives the same bytes on a CPU, also when
the process is killed and started again: it goes on from the last whole checkpoint, with the state of the
optimizer, the schedule and the generators. (On a GPU some kernels of the backward pass add up in any order.)
"""

import contextlib
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curate.errors import ConfigError, DataError
from curate.model.load import LoadedModel
from curate.model.quiet import no_progress_bars
from curate.model.request import TokenRow
from curate.numerics.seeds import derive
from curate.training.checkpoints import (
    KeepAdapter,
    SealCheckpoint,
    adopt_kept,
    digest,
    last_complete,
    steps_at,
)
from curate.training.loop import Steps, StepTrainer, Tell, TellProgress, arguments
from curate.training.packing import check_rows, isolates_rows, steps
from curate.training.schedule import rate_factor
from curate.training.spec import Train

CURVE = "curve.jsonl"
KEPT = "checkpoints"


@dataclass(frozen=True)
class TrainResult:
    """What a training did.

    steps, rows, tokens, supervised_tokens: of the whole training, repeats counted.
    loss: of the last step, nats per supervised token. seconds: of this process alone.
    packed: False if the model cannot keep packed rows apart, and so each row was a micro-batch.
    """

    steps: int
    rows: int
    tokens: int
    supervised_tokens: int
    loss: float
    seconds: float
    packed: bool
    model: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def train(
    rows: Sequence[TokenRow],
    draws: NDArray[np.int64],
    spec: Train,
    loaded: LoadedModel,
    *,
    seed: int,
    out: Path,
    work: Path,
    tell: Tell,
    step_of: NDArray[np.int64] | None = None,
) -> TrainResult:
    """Tune a model; write the adapter or the whole model, and `curve.jsonl`, into `out`; `save_at` adds `checkpoints/`.

    rows: as stored by the tokenise stage. draws: int64 [draws], indices into `rows`, the order of one
    epoch; a row may repeat or be absent; `epochs` repeats the same order. step_of: int64 [draws], the optimizer step of
    each draw; None to cut by `batch_rows`. loaded: changed in place, of no
    use afterwards. work: checkpoints, which the caller removes when `out` is safe. What is written, and
    what a checkpoint is taken up by, holds no name or place of the base model.
    curve.jsonl: per step {step, epoch, loss (nats per supervised token), learning_rate, gradient_norm,
    rows, tokens, supervised_tokens}; no clock in it.
    Raises DataError for rows or draws that cannot be trained on, ConfigError for float16 or a device that
    the Trainer would not take, CurateError if the loss is not a number.
    """
    _check(rows, draws, loaded)
    with _generators_kept(), no_progress_bars():
        return _train(rows, draws, spec, loaded, seed, out, work, tell, step_of)


def _train(
    rows: Sequence[TokenRow],
    draws: NDArray[np.int64],
    spec: Train,
    loaded: LoadedModel,
    seed: int,
    out: Path,
    work: Path,
    tell: Tell,
    step_of: NDArray[np.int64] | None,
) -> TrainResult:
    begun = time.monotonic()
    order = steps(draws, spec.epochs, spec.batch_rows, spec.max_steps, step_of)
    base: Any = loaded.model
    together = isolates_rows(base)
    torch.manual_seed(derive(seed, "adapter"))
    if spec.adapter.float32_masters:
        base.to(torch.float32)
    model = spec.adapter.wrap(base)

    cuts = [] if step_of is None else [step_of]
    arrays = [draws, *cuts, *(array for row in rows for array in (row.input_ids, row.supervised))]
    plan = digest({**spec.identity(), "seed": seed, "dtype": loaded.dtype}, arrays)
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = last_complete(work, plan)
    dataset = Steps(rows, order, spec.batch_tokens, together)
    kept = steps_at(spec.save_at, len(order))
    trainer = StepTrainer(
        model=model,
        args=arguments(spec, loaded, len(order), derive(seed, "trainer") % 2**32, work),
        train_dataset=dataset,
        callbacks=[
            KeepAdapter(kept, work / KEPT, lambda folder: spec.adapter.save(model, loaded, folder)),
            SealCheckpoint(plan),
            TellProgress(tell, dataset),
        ],
        factor=partial(
            rate_factor,
            steps=len(order),
            warmup_steps=math.ceil(spec.warmup_fraction * len(order)),
            course=spec.schedule,
        ),
    )
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    curve = _curve(trainer.state.log_history, dataset, len(draws))
    spec.adapter.save(model, loaded, out)
    adopt_kept(kept, work / KEPT, out / KEPT)
    (out / CURVE).write_text("".join(json.dumps(point) + "\n" for point in curve))
    return TrainResult(
        steps=len(order),
        rows=int(dataset.counts[:, 0].sum()),
        tokens=int(dataset.counts[:, 1].sum()),
        supervised_tokens=int(dataset.counts[:, 2].sum()),
        loss=curve[-1]["loss"],
        seconds=time.monotonic() - begun,
        packed=together,
        model=loaded.description,
    )


def _curve(history: Sequence[dict[str, Any]], dataset: Steps, epoch_rows: int) -> list[dict[str, Any]]:
    """The Trainer's log, which its checkpoints keep, one point per step."""
    points = [entry for entry in history if "loss" in entry]
    seen = np.cumsum(dataset.counts[:, 0])
    return [
        {
            "step": number + 1,
            "epoch": seen[number].item() / epoch_rows,
            "loss": point["loss"],
            "learning_rate": point["learning_rate"],
            "gradient_norm": point["grad_norm"],
            "rows": dataset.counts[number, 0].item(),
            "tokens": dataset.counts[number, 1].item(),
            "supervised_tokens": dataset.counts[number, 2].item(),
        }
        for number, point in enumerate(points)
    ]


def _check(rows: Sequence[TokenRow], draws: NDArray[np.int64], loaded: LoadedModel) -> None:
    if not len(draws):
        raise DataError("training: the schedule draws no row. Check the selection's budget.")
    if draws.min() < 0 or draws.max() >= len(rows):
        raise DataError(
            f"training: draws must be indices of the {len(rows)} rows. Got {draws.min()} to {draws.max()}."
        )
    check_rows(rows, np.unique(draws).tolist(), "training")
    if loaded.dtype == "float16":
        raise ConfigError("training: the dtype must be float32 or bfloat16. Got float16; set `model.dtype`.")
    if loaded.device not in ("cpu", "cuda", "cuda:0") or torch.cuda.device_count() > 1:
        raise ConfigError(
            f"training: the device must be cpu, or the one visible GPU. Got {loaded.device} with "
            f"{torch.cuda.device_count()} visible GPUs; choose one by CUDA_VISIBLE_DEVICES."
        )


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    """The Trainer seeds the process's global generators; put back what they were."""
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
