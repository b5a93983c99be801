"""ModelHandle: a model as stages hold it, found and hashed when a fingerprint asks, loaded by a worker."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.spec import ModelSpec

if TYPE_CHECKING:
    from curate.model.load import LoadedModel, ModelFolder


@dataclass(frozen=True)
class ModelHandle:
    """What is found out (place, commit, hashes, precision) travels with the handle to the workers."""

    spec: ModelSpec

    @cached_property
    def pinned(self) -> ModelSpec:
        """The model as every worker finds the same one: absolute path, commit of the hub, precision chosen.

        Raises ConfigError where the model cannot be had.
        """
        from curate.model.load import choose_device, choose_dtype, resolve

        place = resolve(self.spec.path, self.spec.revision).path
        found: dict[str, str] = {"dtype": choose_dtype(self.spec.dtype, choose_device(None))[0]}
        if place.parent.name == "snapshots":
            found["revision"] = place.name
        elif Path(self.spec.path).expanduser().exists():
            found["path"] = str(Path(self.spec.path).expanduser().resolve())
        return self.spec.model_copy(update=found)

    @property
    def folder(self) -> "ModelFolder":
        """The model's folder on this machine; a GGUF is converted once."""
        from curate.model.load import resolve

        return resolve(self.pinned.path, self.pinned.revision)

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

    def identity(self) -> dict[str, Any]:
        """What of the model can change a result: its content and precision, not its place or name."""
        spec = self.pinned
        chosen = {"dtype": spec.dtype, "attention": spec.attention, "own_code": spec.trust_remote_code}
        return {"content": self.content_hash, **chosen}

    def load(self) -> "LoadedModel":
        """Load the causal language model."""
        from curate.model.load import load_causal_lm

        return load_causal_lm(
            self.folder,
            dtype=self.pinned.dtype,
            attention=self.spec.attention,
            trust_remote_code=self.spec.trust_remote_code,
        )
