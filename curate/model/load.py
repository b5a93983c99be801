"""Load a causal language model and its tokenizer; state which dtype, device and kernel run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import ConfigError
from curate.model.folders import (
    ModelFolder,
    ModelKind,
    check_reference,
    content_hash,
    resolve,
    tokenizer_hash,
)
from curate.model.quiet import no_progress_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "ATTENTIONS",
    "DTYPES",
    "LoadedModel",
    "ModelFolder",
    "ModelKind",
    "check_reference",
    "choose_device",
    "choose_dtype",
    "content_hash",
    "load_causal_lm",
    "load_tokenizer",
    "resolve",
    "tokenizer_hash",
]

DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTIONS = ("auto", "sdpa", "eager", "flash_attention_2")


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode on its device, without key-value cache, and its tokenizer.

    dtype: "float32", "bfloat16" or "float16", resolved. device: "cpu", "cuda" or "cuda:N".
    description: one line for logs: architecture, size, dtype and why, attention kernel, pad token.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    dtype: str
    device: str
    description: str


def choose_device(device: str | None) -> str:
    """The device asked for; None takes "cuda" where a GPU is visible, else "cpu"."""
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device must be one that this machine has. Got {device!r}, but no GPU is visible.")
    return device


def choose_dtype(dtype: str, device: str) -> tuple[str, str]:
    """(the dtype's name, why). "auto" is bfloat16 where the processor multiplies it natively.

    Natively means: a GPU with bf16 units; on a CPU, oneDNN with AMX-BF16, AVX512-BF16 or the ARM bf16
    extension. Elsewhere bf16 is emulated and slower, and "auto" is float32. A question of capability,
    not of a measurement, so that one machine always gives the same answer.
    Measured on two cores of an AVX512-BF16 EPYC without AMX, SmolLM2-135M, batches of 8 x 256 tokens:
    500 tokens/s in float32, 1,000 in bfloat16.
    Raises ConfigError for an unknown name.
    """
    import torch

    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}. Got {dtype!r}.")
    if dtype != "auto":
        return dtype, "as configured"
    if device.startswith("cuda"):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "auto: the GPU has bf16 units"
        return "float32", "auto: the GPU has no bf16 units"
    if device != "cpu":
        return "float32", f"auto: unknown speed of bf16 on {device}"
    capabilities = torch.cpu.get_capabilities()
    names = ("bf16", "sve_bf16") if capabilities["architecture"] == "aarch64" else ("amx_bf16", "avx512_bf16")
    found = [name for name in names if capabilities.get(name)]
    if found and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "bfloat16", f"auto: the processor has {found[0]}"
    return "float32", f"auto: the processor has none of {', '.join(names)}"


def load_tokenizer(folder: ModelFolder, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The folder's fast tokenizer, padding on the right.

    Without a pad token of its own the end token pads (padding is never a target, whatever its id:
    targets come from the `supervised` column). Raises ConfigError for a tokenizer that is not fast
    (no token offsets) or has neither pad nor end token.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        folder.path, local_files_only=True, trust_remote_code=trust_remote_code
    )
    if not tokenizer.is_fast:
        raise ConfigError(
            f"model {folder.reference!r}: needs a fast tokenizer (tokenizer.json), for token offsets. Got "
            f"{type(tokenizer).__name__}; save a converted one into the folder."
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigError(
                f"model {folder.reference!r}: its tokenizer has neither a pad nor an end token. Set one of "
                "them in tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def load_causal_lm(
    folder: ModelFolder,
    dtype: str = "auto",
    device: str | None = None,
    attention: str = "auto",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load model and tokenizer for scoring or training.

    dtype: see `choose_dtype`. device: None takes the GPU where there is one. attention: "auto" is
    torch's sdpa. The key-value cache is switched off: nothing here generates, and transformers tells
    packed rows apart only without it (batches.py).
    Raises ConfigError where the folder is no causal model, a name is unknown, an attention kernel is
    not installed, the model needs `trust_remote_code`, or the tokenizer has more ids than the model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder.check_causal()
    if attention not in ATTENTIONS:
        raise ConfigError(f"attention must be one of {', '.join(ATTENTIONS)}. Got {attention!r}.")
    device = choose_device(device)
    dtype, reason = choose_dtype(dtype, device)
    kernel = "sdpa" if attention == "auto" else attention
    tokenizer = load_tokenizer(folder, trust_remote_code)
    try:
        with no_progress_bars():
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder.path,
                dtype=getattr(torch, dtype),
                attn_implementation=kernel,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
            )
    except (ImportError, ValueError) as error:
        raise ConfigError(f"model {folder.reference!r}: cannot be loaded with {kernel}: {error}") from error
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ConfigError(
            f"model {folder.reference!r}: the tokenizer has {len(tokenizer)} ids, the model {rows}. Resize "
            "the embeddings or take the model's own tokenizer."
        )
    model.config.use_cache = False  # in evaluation mode, as from_pretrained leaves it
    model = model.to(device)
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    description = (
        f"{type(model).__name__}, {millions:.1f}M parameters, {dtype} on {device} ({reason}), {kernel} "
        f"attention, pad token {tokenizer.pad_token!r}"
    )
    return LoadedModel(model, tokenizer, dtype, device, description)
