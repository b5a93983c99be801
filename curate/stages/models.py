"""ModelHandle: a model as stages hold it, found and hashed when a fingerprint asks, loaded by a worker."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from curate.spec import ModelSpec

if TYPE_CHECKING:
    from curate.model.load import LoadedModel, ModelFolder


@dataclass(frozen=True)
class ModelHandle:
    """What is found out (hashes, precision) travels with the handle to the workers."""

    spec: ModelSpec

    @property
    def folder(self) -> "ModelFolder":
        """The model's folder on this machine; a GGUF is converted once.

        Raises ConfigError where the model cannot be had.
        """
        from curate.model.load import resolve

        return resolve(self.spec.path, self.spec.revision)

    @cached_property
    def content_hash(self) -> str:
        """Of weights, configuration, tokenizer and template."""
        from curate.model.load import content_hash

        return content_hash(self.folder)

    @cached_property
    def tokenizer_hash(self) -> str:
        """Of tokenizer and template. Raises ConfigError where the model is no causal language model."""
        from curate.model.load import tokenizer_hash

        self.folder.check_causal()
        return tokenizer_hash(self.folder)

    @cached_property
    def dtype(self) -> str:
        """The precision, `auto` resolved on the machine that drives the run."""
        from curate.model.load import choose_device, choose_dtype

        return choose_dtype(self.spec.dtype, choose_device(None))[0]

    def identity(self) -> dict[str, Any]:
        """What of the model can change a result: its content and precision, not its place or name."""
        return {"content": self.content_hash, "dtype": self.dtype, "attention": self.spec.attention}

    def load(self) -> "LoadedModel":
        """Load the causal language model."""
        from curate.model.load import load_causal_lm

        return load_causal_lm(
            self.folder,
            dtype=self.dtype,
            attention=self.spec.attention,
            trust_remote_code=self.spec.trust_remote_code,
        )
