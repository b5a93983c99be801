"""Full tuning: every parameter trains.

In half precision the parameters and Adam's moments are float32 (16 bytes a parameter with the
gradient), the matrix products run in the model's dtype, and the result is saved in that dtype.
"""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from curate.training.adapter import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from curate.model.load import LoadedModel


class Full(Adapter):
    """All parameters."""

    default_learning_rate: ClassVar[float] = 2e-5
    float32_masters: ClassVar[bool] = True

    def wrap(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """The model itself, all its parameters training."""
        model.requires_grad_(True)
        return model

    def save(self, model: "PreTrainedModel", loaded: "LoadedModel", folder: Path) -> None:
        """Write a folder that `from_pretrained` loads: weights, configuration and tokenizer."""
        import torch

        model.to(getattr(torch, loaded.dtype))
        model.config.name_or_path = ""
        model.config.use_cache = True
        model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
