"""LoRA: a low-rank update beside frozen weights, W' = W + (alpha / r) B A, by the `peft` library.

B [out, r] starts at zero, so training starts from the base model; A and B are float32 whatever the
base model's dtype. Cost: the backward pass computes no gradient of W, about two thirds of full tuning.
Source: Hu et al. 2021 (LoRA); Kalajdzievski 2023 (rsLoRA: alpha / sqrt r); Liu et al. 2024 (DoRA);
Meng et al. 2024 (PiSSA); Büyükakyüz 2024 (OLoRA).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

from pydantic import Field, model_validator

from curate.training.adapter import Adapter

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

    from curate.model.load import LoadedModel


class Lora(Adapter):
    """Low-rank adaptation."""

    default_learning_rate: ClassVar[float] = 5e-4
    float32_masters: ClassVar[bool] = False
    separate: ClassVar[bool] = True

    r: int = Field(default=8, ge=1, description="rank of the update")
    alpha: float | None = Field(default=None, gt=0, description="scale of the update; default: 2 r")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on the update's input")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        default="all-linear", description="names of the layers to adapt; all-linear: every one but the head"
    )
    use_rslora: bool = Field(default=False, description="scale by alpha / sqrt(r) in place of alpha / r")
    use_dora: bool = Field(
        default=False, description="train each weight's magnitude apart from its direction"
    )
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = Field(
        default="default",
        description="peft's init_lora_weights; pissa and olora move a part of the base weight into the "
        "update, and whoever loads the adapter recomputes that part",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.init == "orthogonal" and self.r % 2:
            raise ValueError(f"r must be even with `init: orthogonal`. Got {self.r}.")
        if isinstance(self.target_modules, tuple) and not self.target_modules:
            raise ValueError("target_modules must name at least one layer. Got none.")
        return self

    def peft_config(self) -> "LoraConfig":
        """The same in peft's terms."""
        from peft import LoraConfig

        alpha = 2 * self.r if self.alpha is None else self.alpha
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=self.r,
            lora_alpha=cast(int, int(alpha) if alpha == int(alpha) else alpha),
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules)
            if isinstance(self.target_modules, tuple)
            else self.target_modules,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            init_lora_weights=True if self.init == "default" else self.init,
        )

    def wrap(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """The model with the update's matrices in place; only they train."""
        from peft import get_peft_model

        from curate.model.quiet import no_peft_deprecation

        with no_peft_deprecation():
            return cast("PreTrainedModel", get_peft_model(model, self.peft_config()))

    def save(self, model: "PreTrainedModel", loaded: "LoadedModel", folder: Path) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`: peft's format, the base model unnamed."""
        from peft import PeftModel

        tuned = cast(PeftModel, model)
        # save_embedding_layers: peft would otherwise look the base model up on the hub.
        tuned.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").unlink()
        file = folder / "adapter_config.json"
        config = json.loads(file.read_text())
        config["base_model_name_or_path"] = None
        for key, value in config.items():  # peft writes sets as lists in the order of this process's hashes
            if isinstance(value, list) and all(isinstance(each, str) for each in value):
                config[key] = sorted(value)
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
