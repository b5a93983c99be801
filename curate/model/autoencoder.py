"""A TopK sparse autoencoder of a model's hidden states, and its files.

    z = TopK(relu(W_e (h - b_pre) + b_e)),   ĥ = W_d z + b_pre

with the k largest entries kept (Gao et al. 2024, Scaling and evaluating sparse autoencoders). For training
one see autoencoder_training.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.errors import ConfigError

MEMORY_BYTES = 256 << 20

_WEIGHTS, _CONFIGS = "sae_weights.safetensors", ("config.json", "cfg.json")
_NAMES = {
    "encoder": {"W_enc": True, "encoder.weight": False},
    "decoder": {"W_dec": False, "decoder.weight": True},
    "encoder_bias": {"b_enc": False, "encoder.bias": False, "latent_bias": False},
    "pre_bias": {"b_dec": False, "pre_bias": False, "b_pre": False},
}
"""Names in a file for each part, and whether a matrix of that name is [width, features] by custom."""


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """encoder, decoder: float [features, width]; encoder_bias [features]; pre_bias [width]; k entries kept.

    Row f of `decoder` is the direction that feature f writes. Raises ValueError for shapes that do not fit
    or k outside 1 to features.
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    pre_bias: Tensor
    k: int

    def __post_init__(self) -> None:
        shape = (len(self.encoder_bias), len(self.pre_bias))
        if self.encoder.shape != shape or self.decoder.shape != shape:
            raise ValueError(
                f"encoder and decoder must be {list(shape)} (features, width). "
                f"Got {list(self.encoder.shape)} and {list(self.decoder.shape)}."
            )
        if not 1 <= self.k <= self.features:
            raise ValueError(f"k must be from 1 to {self.features}, the number of features. Got {self.k}.")

    @property
    def features(self) -> int:
        """Entries of a code."""
        return self.encoder.shape[0]

    @property
    def width(self) -> int:
        """Entries of a state."""
        return self.encoder.shape[1]

    def to(self, device: torch.device | str) -> "SparseAutoencoder":
        """The same on a device."""
        encoder, encoder_bias = self.encoder.to(device), self.encoder_bias.to(device)
        return SparseAutoencoder(
            encoder, encoder_bias, self.decoder.to(device), self.pre_bias.to(device), self.k
        )

    def top(self, states: Tensor, memory_bytes: int = MEMORY_BYTES) -> tuple[Tensor, Tensor]:
        """Codes by their k largest entries: (indices int64 [n, k], values [n, k] at or above 0), unordered.

        states: [n, width], in any floating dtype, on the autoencoder's device. Entries of value 0 are not
        active. memory_bytes: codes held at once, at least those of one state. O(n x features x width).
        """
        if states.shape[1:] != (self.width,):
            raise ValueError(f"states must be [n, {self.width}]. Got {list(states.shape)}.")
        indices = torch.empty((len(states), self.k), dtype=torch.int64, device=states.device)
        values = self.encoder.new_empty((len(states), self.k))
        step = max(1, memory_bytes // (self.features * self.encoder.itemsize))
        with torch.no_grad():
            for first in range(0, len(states), step):
                part = slice(first, first + step)
                centred = states[part].to(self.encoder.dtype) - self.pre_bias
                before = torch.addmm(self.encoder_bias, centred, self.encoder.T)
                largest, indices[part] = before.topk(self.k, dim=1, sorted=False)
                values[part] = largest.clamp(min=0)
        return indices, values

    def encode(self, states: Tensor, memory_bytes: int = MEMORY_BYTES) -> Tensor:
        """Codes z, [n, features] at or above 0, at most k entries of each above it. Arguments: see `top`."""
        indices, values = self.top(states, memory_bytes)
        return values.new_zeros((len(states), self.features)).scatter_(1, indices, values)

    def mean_codes(self, states: Tensor, counts: list[int], memory_bytes: int = MEMORY_BYTES) -> Tensor:
        """Mean code of each example, [examples, features]; NaN for one without a state.

        states: [n, width], those of the examples laid end to end. counts: states of each example, n in all.
        Examples are encoded one at a time, so none depends on another. Raises ValueError for other counts.
        """
        if sum(counts) != len(states):
            raise ValueError(f"counts must add up to {len(states)}, the states. Got {sum(counts)}.")
        means = self.encoder.new_full((len(counts), self.features), torch.nan)
        step = max(1, memory_bytes // (2 * self.features * self.encoder.itemsize))
        for mean, example in zip(means, torch.split(states, counts), strict=True):
            if len(example):
                blocks = [
                    self.encode(block, memory_bytes // 2).sum(0) for block in torch.split(example, step)
                ]
                mean.copy_(torch.stack(blocks).sum(0) / len(example))
        return means

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructed states [n, width] of codes [n, features]."""
        return torch.addmm(self.pre_bias, codes, self.decoder)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parts by the names of the fields, and k: what `of_arrays` makes the same autoencoder from."""
        parts = {name: getattr(self, name).cpu().numpy() for name in _NAMES}
        return {**parts, "k": np.array(self.k)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Tensor]) -> "SparseAutoencoder":
        """From what `arrays` gave, as tensors; others are left alone."""
        return cls(**{name: arrays[name] for name in _NAMES}, k=int(arrays["k"]))

    def save(self, folder: Path) -> None:
        """Write sae_weights.safetensors (W_enc, b_enc, W_dec, b_dec) and config.json; the folder is made."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            "W_enc": self.encoder.T,
            "b_enc": self.encoder_bias,
            "W_dec": self.decoder,
            "b_dec": self.pre_bias,
        }
        save_file({name: part.cpu().contiguous() for name, part in tensors.items()}, folder / _WEIGHTS)
        config = {"architecture": "topk", "d_in": self.width, "d_sae": self.features, "k": self.k}
        (folder / _CONFIGS[0]).write_text(json.dumps({**config, "apply_b_dec_to_input": True}) + "\n")

    @classmethod
    def load(cls, path: Path, k: int | None = None) -> "SparseAutoencoder":
        """Read an autoencoder, in float32 on the CPU.

        path: a folder with one .safetensors file, or that file; config.json or cfg.json lies beside it. The
        tensors are W_enc, b_enc, W_dec, b_dec or encoder.weight, encoder.bias (or latent_bias),
        decoder.weight, pre_bias. k: in place of the configuration's. Raises ConfigError for a file that is
        missing, tensors with other names or shapes, or an encoder of another kind.
        """
        from safetensors.torch import load_file

        file = weights_file(path)
        config: dict[str, Any] = next((json.loads(one.read_text()) for one in _config_files(file)), {})
        tensors = load_file(file)
        names = {part: _name(file, part, tensors) for part in _NAMES}
        others = sorted(set(tensors) - set(names.values()))
        kind = config.get("architecture", "topk")
        if (
            others
            or kind not in ("topk", "standard")
            or config.get("normalize_activations") not in (None, "none")
        ):
            raise ConfigError(
                f"{file}: must be a TopK sparse autoencoder of states as they are. Got architecture {kind}, "
                f"normalize_activations {config.get('normalize_activations')}, further tensors {others}. "
                "Convert it, or train one."
            )
        parts = {part: tensors[name].float() for part, name in names.items()}
        shape = (len(parts["encoder_bias"]), len(parts["pre_bias"]))
        for part in ("encoder", "decoder"):
            turned = _NAMES[part][names[part]]
            parts[part] = _oriented(f"{file}: {names[part]}", parts[part], shape, turned)
        if config.get("apply_b_dec_to_input") is False:
            parts["encoder_bias"] = parts["encoder_bias"] + parts["encoder"] @ parts["pre_bias"]
        kept = k if k is not None else config.get("k", config.get("activation_fn_kwargs", {}).get("k"))
        if not isinstance(kept, int) or not 1 <= kept <= shape[0]:
            raise ConfigError(
                f"{file}: k must be an integer from 1 to {shape[0]}, given or in {' or '.join(_CONFIGS)}. Got {kept}."
            )
        return cls(**parts, k=kept)


def weights_file(path: Path) -> Path:
    """The .safetensors file of a folder that has one, or the file itself. Raises ConfigError for none."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) != 1 or not files[0].is_file():
        raise ConfigError(
            f"{path}: must be a .safetensors file or a folder with one. "
            f"Got {[file.name for file in files] if path.is_dir() else 'no file'}."
        )
    return files[0]


def content_files(path: Path) -> list[Path]:
    """All that `load` reads: the weights, and the configurations beside them. Raises as `weights_file`."""
    file = weights_file(path)
    return [file, *_config_files(file)]


def _config_files(file: Path) -> list[Path]:
    return [file.with_name(name) for name in _CONFIGS if file.with_name(name).is_file()]


def _name(file: Path, part: str, tensors: dict[str, Any]) -> str:
    found = [name for name in _NAMES[part] if name in tensors]
    if len(found) != 1:
        raise ConfigError(
            f"{file}: must have one tensor of {', '.join(_NAMES[part])}. Got {', '.join(sorted(tensors))}."
        )
    return found[0]


def _oriented(where: str, matrix: Tensor, shape: tuple[int, int], turned: bool) -> Tensor:
    """A matrix as [features, width], from the way its name says or else the only way that fits."""
    usual, other = (matrix.T, matrix) if turned else (matrix, matrix.T)
    for found in (usual, other):
        if found.shape == shape:
            return found.contiguous()
    raise ConfigError(
        f"{where} must be {list(shape)} (features, width) or its transpose. Got {list(matrix.shape)}."
    )
