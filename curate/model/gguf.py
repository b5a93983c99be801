"""Convert a GGUF file once to a safetensors folder that loads in a second and hashes like any other."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from curate.errors import ConfigError
from curate.model.folders import file_hash
from curate.model.quiet import no_progress_bars

CONVERSION = 1
"""Bumped when a conversion's result changes, so that older folders are not taken for new ones."""

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """`$CURATE_CACHE/models`, or `~/.cache/curate/models`."""
    root = os.environ.get("CURATE_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "curate") / "models"


def convert(gguf: Path, cache_dir: Path | None = None) -> Path:
    """The safetensors folder of `gguf`, float32 as de-quantised: `<cache>/<name>-<hash of the file>`.

    The first call takes about 15 s for 135M parameters. Written to a temporary folder, synced, then
    renamed, so that a killed conversion leaves nothing that is taken for a model; of two processes
    that convert at once the first to finish wins and the other uses its folder.
    Raises ConfigError where transformers cannot read the file or the `gguf` package is absent.
    """
    cache = cache_folder() if cache_dir is None else cache_dir
    target = cache / f"{gguf.stem}-{file_hash(gguf)[:16]}-{CONVERSION}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    logger.warning("converting %s to safetensors, once, into %s", gguf.name, target)
    working = Path(tempfile.mkdtemp(prefix=f".{gguf.stem}-", dir=cache))
    try:
        with no_progress_bars(), contextlib.redirect_stderr(io.StringIO()):  # a bar that has no switch
            _write(gguf, working)
        _publish(working, target)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return target


def _write(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
    except ImportError as error:
        raise ConfigError(
            f"model {gguf}: reading GGUF needs the package gguf: `pip install gguf`."
        ) from error
    except (ValueError, OSError, KeyError) as error:
        raise ConfigError(f"model {gguf}: transformers cannot read this GGUF file: {error}") from error
    # The weights are plain float32 now; what marks them as quantised would stop save_pretrained.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _publish(working: Path, target: Path) -> None:
    """Sync every file, then rename the folder; a target that appeared meanwhile is as good as ours."""
    for file in working.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            file.chmod(0o644)
    working.chmod(0o755)
    try:
        working.rename(target)
    except OSError:
        if not target.is_dir():
            raise
