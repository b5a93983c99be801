"""Adapter: which parameters of a model train, and how the tuned model is written."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from curate.component import Component

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from curate.model.load import LoadedModel


class Adapter(Component, ABC):
    """What all ways of tuning state about themselves. One file in `training/adapters/` per way."""

    default_learning_rate: ClassVar[float]
    """The peak learning rate where a configuration states none."""

    float32_masters: ClassVar[bool]
    """Whether the whole model trains in float32 with half-precision matrix products (autocast).

    Needed where the base weights themselves train: a step of 2e-5 is lost in bfloat16's 8 bits.
    """

    separate: ClassVar[bool] = False
    """Whether what trains stands apart from the base model, so that `save` leaves the model fit to train on."""

    @abstractmethod
    def wrap(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """The model with exactly the parameters that train requiring a gradient.

        Draws from torch's global generator, which the trainer seeds. May change `model` in place.
        """

    @abstractmethod
    def save(self, model: "PreTrainedModel", loaded: "LoadedModel", folder: Path) -> None:
        """Write the tuned model into an existing folder, as bytes that depend on the weights alone.

        model: what `wrap` returned, trained. loaded: the base model's tokenizer and dtype.
        """
