"""The loop over optimizer steps: transformers' Trainer, told that one item of its data is one whole step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from curate.errors import CurateError
from curate.model.load import LoadedModel
from curate.model.request import TokenRow
from curate.training.packing import Packed, micro_batches, token_losses
from curate.training.spec import Train

Tell = Callable[[int, int, int], None]
"""(steps done, steps in all, tokens so far)."""


class Steps(torch.utils.data.Dataset[dict[str, Any]]):
    """The optimizer steps, in order. counts: int64 [steps, 3], rows, tokens and supervised tokens."""

    def __init__(
        self, rows: Sequence[TokenRow], order: Sequence[NDArray[np.int64]], batch_tokens: int, together: bool
    ) -> None:
        self.rows, self.order, self.batch_tokens, self.together = rows, order, batch_tokens, together
        lengths = np.array(
            [[1, len(row.input_ids), int(row.supervised.sum())] for row in rows], dtype=np.int64
        )
        self.counts = np.stack([lengths[drawn].sum(axis=0) for drawn in order])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> dict[str, Any]:
        rows = [self.rows[index] for index in self.order[step]]
        return {
            "micro_batches": micro_batches(rows, self.batch_tokens, self.together),
            "supervised_tokens": int(self.counts[step, 2]),
        }


class StepTrainer(transformers.Trainer):
    """The Trainer, told how to run one item of `Steps`. factor: of the peak learning rate, by step."""

    def __init__(
        self,
        model: Any,
        args: transformers.TrainingArguments,
        train_dataset: Steps,
        callbacks: list[transformers.TrainerCallback],
        factor: Callable[[int], float],
    ) -> None:
        super().__init__(model, args, _only, train_dataset, callbacks=callbacks)
        self.remove_callback(transformers.PrinterCallback)
        self.factor = factor

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Ours, in which the first step counts."""
        chosen = optimizer or self.optimizer
        if chosen is None:
            raise ValueError("the optimizer must exist before its schedule. Got none.")
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, self.factor)
        return self.lr_scheduler

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward over the step's micro-batches; the step's mean loss, float32 []."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        packed: Packed
        for packed in inputs["micro_batches"]:
            try:
                losses = token_losses(model, packed.to(self.args.device))
                loss = losses.sum() / inputs["supervised_tokens"]
                self.accelerator.backward(loss)
            except torch.OutOfMemoryError as error:
                raise CurateError(
                    f"training: a micro-batch of {packed.input_ids.shape[1]} tokens does not fit in memory. Lower "
                    "`train.batch_tokens`, set `train.gradient_checkpointing: true`, or take a smaller model."
                ) from error
            total += loss.detach()
        if not torch.isfinite(total):
            raise CurateError(
                f"training: the loss of step {self.state.global_step + 1} is {total.item()}, at learning rate "
                f"{self._get_learning_rate():.3g}. Lower `train.learning_rate`, or use `dtype: float32`."
            )
        return total

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not estimated."""
        return 0


class TellProgress(transformers.TrainerCallback):
    """Says after each optimizer step how far the training is."""

    def __init__(self, tell: Tell, dataset: Steps) -> None:
        self.tell, self.tokens = tell, np.cumsum(dataset.counts[:, 1])

    def on_step_end(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Called by the Trainer."""
        done = state.global_step
        self.tell(done, len(self.tokens), int(self.tokens[done - 1]))


def _only(step: list[dict[str, Any]]) -> dict[str, Any]:
    """The one item of a batch of one."""
    (one,) = step
    return one


def arguments(
    spec: Train, loaded: LoadedModel, steps_in_all: int, seed: int, work: Path
) -> transformers.TrainingArguments:
    """The Trainer's settings: one item a step, in order, silent."""
    return transformers.TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        max_steps=steps_in_all,
        train_sampling_strategy="sequential",
        learning_rate=spec.peak_learning_rate,
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=spec.adapter.float32_masters and loaded.dtype == "bfloat16",
        activation_checkpointing=spec.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if spec.gradient_checkpointing else None,
        save_strategy="steps",
        save_steps=spec.checkpoint_every_steps,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=loaded.device == "cpu",
        seed=seed,
    )
