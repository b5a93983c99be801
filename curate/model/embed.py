"""Embeddings: one vector of unit length per row, from a sentence model, a table, or a causal model's states.

Rows go through the model in batches of like length; results stand in the order of the input and, in
float32, do not depend on the batch (to 1e-5).
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import ConfigError
from curate.model.batches import Indices, length_batches, pad, run_with_backoff
from curate.model.folders import ModelFolder, ModelKind
from curate.model.load import LoadedModel, choose_device, load_tokenizer
from curate.model.quiet import no_progress_bars

if TYPE_CHECKING:
    import tokenizers
    import torch

Vectors = NDArray[np.float32]
Ids = Sequence[int] | NDArray[np.integer]

POOLINGS = ("mean", "cls", "lasttoken")
MODULES = ("Transformer", "Pooling", "Normalize")

logger = logging.getLogger(__name__)


class Embedder(ABC):
    """Texts to vectors. dimension: d of the result; description: one line for logs."""

    dimension: int
    description: str

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [texts, d], each of L2 norm 1, in order; NaN for a text that has no tokens."""


def load_embedder(
    folder: ModelFolder, max_tokens: int = 256, device: str | None = None, batch_tokens: int = 8192
) -> Embedder:
    """A sentence model (float32) or a static table, by the folder's kind.

    max_tokens: what is read of each text, with special tokens; a sentence model's own limit holds too.
    device: None takes the GPU where there is one; a table stays on the CPU. batch_tokens: padded
    tokens of one forward. Raises ConfigError for a causal model or a pooling that is not known.
    """
    if folder.kind is ModelKind.STATIC:
        return StaticEmbedder(folder, max_tokens)
    if folder.kind is ModelKind.SENTENCE:
        return SentenceEmbedder(folder, max_tokens, choose_device(device), batch_tokens)
    raise ConfigError(
        f"model {folder.reference!r}: must be a sentence model or a static table. Got a causal language "
        "model; for the run's own model write `model: states`."
    )


def width(folder: ModelFolder) -> int:
    """The numbers of an embedding by this model, without loading it: its hidden size, or the width of its table."""
    if folder.kind is not ModelKind.STATIC:
        from transformers import AutoConfig

        return int(
            AutoConfig.from_pretrained(folder.path, local_files_only=True).get_text_config().hidden_size
        )
    from safetensors import safe_open

    with safe_open(folder.weights[0], framework="numpy") as tensors:
        (name,) = tensors.keys()
        return int(tensors.get_slice(name).get_shape()[1])


class SentenceEmbedder(Embedder):
    """An encoder with its sentence-transformers folder's own pooling (the mean where it states none)."""

    def __init__(self, folder: ModelFolder, max_tokens: int, device: str, batch_tokens: int) -> None:
        """Loads the model in float32. Raises ConfigError for modules or a pooling that are not known."""
        import torch
        from transformers import AutoModel

        self._layout = _read_layout(folder)
        self._tokenizer: Any = load_tokenizer(folder)
        with no_progress_bars():
            model: Any = AutoModel.from_pretrained(folder.path, dtype=torch.float32, local_files_only=True)
        self._model = model.to(device).eval()
        self._device = device
        self._batch_tokens = batch_tokens
        self._max_tokens = min(max_tokens, self._layout.max_tokens, model.config.max_position_embeddings)
        self.dimension = int(model.config.hidden_size)
        self.description = (
            f"{type(model).__name__}, {self._layout.pooling} of at most {self._max_tokens} tokens, "
            f"float32 on {device}"
        )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [texts, d]. O(tokens) memory beyond the result."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        cased = [text.lower() for text in texts] if self._layout.lower_case else list(texts)
        ids = self._tokenizer(cased, truncation=True, max_length=self._max_tokens)["input_ids"]
        return _in_batches(ids, self.dimension, self._batch_tokens, lambda rows: self._forward(rows))

    def _forward(self, rows: list[Ids]) -> torch.Tensor:
        import torch

        ids, mask = (part.to(self._device) for part in pad(rows, self._tokenizer.pad_token_id))
        states: torch.Tensor = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self._layout.pooling == "mean":
            return _masked_mean(states, mask)
        places = mask.sum(1) - 1 if self._layout.pooling == "lasttoken" else torch.zeros_like(mask[:, 0])
        return states[torch.arange(len(rows)), places]


class StaticEmbedder(Embedder):
    """The mean of a table's token vectors (wordllama): no network, no import of the package."""

    def __init__(self, folder: ModelFolder, max_tokens: int) -> None:
        """Reads the table (float32 [vocabulary, d]) and the tokenizer."""
        import tokenizers
        from safetensors.torch import load_file

        tensors = load_file(folder.weights[0])
        if len(tensors) != 1:
            raise ConfigError(
                f"model {folder.reference!r}: a static table holds one tensor. Got {', '.join(tensors)}."
            )
        (table,) = tensors.values()
        self._table = table.float()
        self._tokenizer: tokenizers.Tokenizer = tokenizers.Tokenizer.from_file(str(folder.tokenizer[0]))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.dimension = self._table.shape[1]
        self.description = f"static table {tuple(table.shape)}, mean of at most {max_tokens} tokens, on cpu"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [texts, d]; NaN for an empty text."""
        import torch

        parts = [np.empty((0, self.dimension), dtype=np.float32)]
        for first in range(0, len(texts), 1024):
            encodings = self._tokenizer.encode_batch_fast(
                list(texts[first : first + 1024]), add_special_tokens=False
            )
            rows = [encoding.ids for encoding in encodings]
            lengths = np.array([len(row) for row in rows], dtype=np.int64)
            ids = np.fromiter(
                (token for row in rows for token in row), dtype=np.int64, count=int(lengths.sum())
            )
            starts = np.cumsum(lengths) - lengths
            means = torch.nn.functional.embedding_bag(
                torch.from_numpy(ids), self._table, torch.from_numpy(starts), mode="mean"
            )
            parts.append(_unit(means).numpy())
        return np.concatenate(parts)


class StateEmbedder:
    """The mean over tokens of a causal model's last hidden states, from stored `input_ids`.

    Independent of the batch to 1e-5 in float32; in bfloat16 only to that type's rounding (about 1e-2).
    """

    def __init__(self, loaded: LoadedModel, max_tokens: int, batch_tokens: int) -> None:
        """loaded: model in evaluation mode. max_tokens: the first so many of each row are read."""
        self._loaded = loaded
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        config: Any = loaded.model.config
        self.dimension = int(config.get_text_config().hidden_size)
        self.description = f"mean of last hidden states of {loaded.description}"

    def embed(self, rows: Sequence[Ids]) -> Vectors:
        """rows: token ids of each. float32 [rows, d], norm 1, in order; NaN for a row without tokens."""
        cut = [row[: self._max_tokens] for row in rows]
        return _in_batches(cut, self.dimension, self._batch_tokens, self._forward)

    def _forward(self, rows: list[Ids]) -> torch.Tensor:
        from curate.model.head import last_hidden_states

        ids, mask = (part.to(self._loaded.device) for part in pad(rows, 0))
        return _masked_mean(last_hidden_states(self._loaded.model, ids), mask)


def load_state_embedder(
    loaded: LoadedModel, max_tokens: int = 256, batch_tokens: int = 8192
) -> StateEmbedder:
    """Embed rows by the model that the run scores with."""
    return StateEmbedder(loaded, max_tokens, batch_tokens)


def _in_batches(
    rows: Sequence[Ids], dimension: int, batch_tokens: int, forward: Callable[[list[Ids]], torch.Tensor]
) -> Vectors:
    """Unit vectors of all rows, in order, from `forward` on batches of like length; NaN for no tokens."""
    import torch

    def run(places: Indices) -> Vectors:
        with torch.inference_mode():
            vectors: Vectors = _unit(forward([rows[place] for place in places]).float()).cpu().numpy()
        return vectors

    found = np.full((len(rows), dimension), np.nan, dtype=np.float32)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    some = np.flatnonzero(lengths)
    batches = [some[batch] for batch in length_batches(lengths[some], batch_tokens)]
    for places, vectors in run_with_backoff(run, batches, lambda notice: logger.warning("%s", notice)):
        found[places] = vectors
    return found


def _masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """float32 [rows, d]: the mean of states [rows, tokens, d] where mask [rows, tokens] is 1."""
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(1) / weights.sum(1)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Rows divided by their L2 norm; a row of zeros has no direction and becomes NaN."""
    unit: torch.Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return unit


@dataclass(frozen=True)
class _Layout:
    """What a sentence-transformers folder says of itself."""

    pooling: str
    max_tokens: int
    lower_case: bool


def _read_layout(folder: ModelFolder) -> _Layout:
    listed = folder.path / "modules.json"
    if not listed.is_file():
        return _Layout("mean", 512, False)
    modules = _read(listed)
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    unknown = [kind for kind in kinds if kind not in MODULES]
    if unknown:
        raise ConfigError(
            f"model {folder.reference!r}: modules must be among {', '.join(MODULES)}. "
            f"Got {', '.join(unknown)}."
        )
    pooling = "mean"
    if "Pooling" in kinds:
        pooling = _pooling(_read(folder.path / modules[kinds.index("Pooling")]["path"] / "config.json"))
    if pooling not in POOLINGS:
        raise ConfigError(
            f"model {folder.reference!r}: pooling must be one of {', '.join(POOLINGS)}. Got {pooling}."
        )
    own = folder.path / "sentence_bert_config.json"
    limits = _read(own) if own.is_file() else {}
    return _Layout(pooling, limits.get("max_seq_length") or 512, bool(limits.get("do_lower_case")))


def _pooling(config: dict[str, Any]) -> str:
    """The pooling's name from either spelling of its file: `pooling_mode`, or one flag for each mode."""
    if "pooling_mode" in config:
        return str(config["pooling_mode"])
    names = {"mean_tokens": "mean", "cls_token": "cls"}
    chosen = [key.removeprefix("pooling_mode_") for key, value in config.items() if value is True]
    return "+".join(names.get(name, name) for name in chosen if name != "include_prompt")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
