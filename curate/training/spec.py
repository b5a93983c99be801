"""Train: the `train:` stage of a configuration. Imports no torch, so that `curate check` is quick."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from curate.component import Component
from curate.methods import MethodOf
from curate.settings import Fraction
from curate.training.adapter import Adapter
from curate.training.adapters.lora import Lora
from curate.training.schedule import Course


class Train(Component):
    """How to tune the model on the rows of a schedule."""

    version: ClassVar[int] = 2

    execution_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint_every_steps"})

    adapter: Annotated[Adapter, MethodOf("adapters")] = Field(
        default=Lora(), description="what trains: lora, full, or {lora: {r: 16}}"
    )
    epochs: float = Field(default=1.0, gt=0, description="passes over the schedule; 0.5 is its first half")
    max_steps: int | None = Field(default=None, ge=1, description="stop after so many optimizer steps")
    batch_rows: int = Field(default=16, ge=1, description="examples per optimizer step")
    steps_per_epoch: int | None = Field(
        default=None,
        ge=1,
        description="optimizer steps per pass over the schedule, of about equal supervised tokens each, in place of "
        "`batch_rows`: what makes selections of equal tokens but other rows comparable. Searches and rounds before the "
        "training itself go by `batch_rows`",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="peak learning rate; default: 5e-4 for lora, 2e-5 for full"
    )
    schedule: Course = Field(default="linear", description="course of the learning rate after the warm-up")
    warmup_fraction: float = Field(
        default=0.05, ge=0, le=1, description="share of the steps in which the learning rate rises from 0"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's decay; not on biases and norms")
    max_grad_norm: float = Field(
        default=1.0, ge=0, description="clip the gradient to this norm; 0: no clipping"
    )
    batch_tokens: int = Field(
        default=1024,
        ge=1,
        description="tokens per forward pass: the rows of a step are laid end to end in so few passes. "
        "Bounds memory, and changes the result in the last digits. A longer row goes alone",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute activations again in the backward pass, to save memory"
    )
    save_at: tuple[Annotated[Fraction, Field(gt=0)], ...] = Field(
        default=(),
        description="shares of the steps after which the adapter is kept too, as `checkpoints/step-000012`",
    )
    checkpoint_every_steps: int = Field(
        default=100, ge=1, description="steps between checkpoints, from which a killed training goes on"
    )

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if self.save_at and not self.adapter.separate:
            raise ValueError(
                f"`save_at` keeps an adapter that stands apart from the model, such as lora. Got {self.adapter.name}."
            )
        return self

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after warm-up, the adapter's default resolved."""
        return self.adapter.default_learning_rate if self.learning_rate is None else self.learning_rate

    def identity(self) -> dict[str, Any]:
        """All that can change the result, with the learning rate that is really used."""
        return {**super().identity(), "learning_rate": self.peak_learning_rate}
