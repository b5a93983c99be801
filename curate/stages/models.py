"""ModelHandle: a model as stages hold it, found and hashed when a fingerprint asks, loaded by a worker."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import ConfigError
from curate.settings import ModelSpec

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
        if self.spec.adapter is not None:
            found["adapter"] = str(_adapter_folder(self.spec.adapter))
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
        tuned = {} if spec.adapter is None else {"adapter": _adapter_hash(Path(spec.adapter))}
        return {"content": self.content_hash, **chosen, **tuned}

    def load(self) -> "LoadedModel":
        """Load the causal language model, an adapter merged in."""
        from curate.model.load import load_causal_lm

        loaded = load_causal_lm(
            self.folder,
            dtype=self.pinned.dtype,
            attention=self.spec.attention,
            trust_remote_code=self.spec.trust_remote_code,
        )
        if self.pinned.adapter is None:
            return loaded
        from peft import PeftModel

        from curate.model.quiet import no_peft_deprecation

        with no_peft_deprecation():
            tuned: Any = PeftModel.from_pretrained(loaded.model, self.pinned.adapter).merge_and_unload()
        return replace(loaded, model=tuned.eval())


ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def _adapter_folder(path: str) -> Path:
    folder = Path(path).expanduser().resolve()
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"adapter {path!r}: must be a folder with {' and '.join(ADAPTER_FILES)}, as peft saves one. "
            f"Found no {missing[0]}."
        )
    return folder


def _adapter_hash(folder: Path) -> str:
    """Of weights and configuration, but for the name of the base model, which may be any path to it."""

    config = json.loads((folder / ADAPTER_FILES[0]).read_bytes())
    config.pop("base_model_name_or_path", None)
    digest = blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=16)
    digest.update((folder / ADAPTER_FILES[1]).read_bytes())
    return digest.hexdigest()
