"""Where a model's files are, and what they hash to. Imports neither torch nor transformers.

A model is named in four ways: a local folder, a `.gguf` file, a hub id, or `package:NAME` for a
model that an installed Python package carries. All end as a `ModelFolder`. GGUF files are
converted once to a cached safetensors folder (see gguf.py).
"""

from __future__ import annotations

import enum
import hashlib
import importlib.util
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from curate.errors import ConfigError

PACKAGE_PREFIX = "package:"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
SHA256 = re.compile(r"[0-9a-f]{64}")

TOKENIZER_PATTERNS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "*.bpe.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
CONFIG_PATTERNS = (
    "config.json",
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "[0-9]_*/config.json",
    "*.py",
)
WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json")
HUB_PATTERNS = (*WEIGHT_PATTERNS, *TOKENIZER_PATTERNS, *CONFIG_PATTERNS)


class ModelKind(enum.StrEnum):
    """What the files are a model of."""

    CAUSAL = "causal"
    """A causal language model with a tokenizer."""
    SENTENCE = "sentence"
    """An encoder that turns a text into one vector."""
    STATIC = "static"
    """A table of token vectors, averaged."""


@dataclass(frozen=True)
class ModelFolder:
    """The files of one model on this machine.

    reference: as the user named it. path: the folder. The three tuples hold every file that can
    change a result: weights, tokenizer (with the chat template) and configuration (with code).
    """

    reference: str
    path: Path
    kind: ModelKind
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]
    config: tuple[Path, ...]

    def check_causal(self) -> None:
        """Raise ConfigError where it is no causal language model."""
        if self.kind is not ModelKind.CAUSAL:
            raise ConfigError(f"model {self.reference!r}: must be a causal language model. Got {self.kind}.")


def resolve(reference: str, revision: str | None = None, cache_dir: Path | None = None) -> ModelFolder:
    """Find, fetch or convert the model that `reference` names, and describe its files.

    reference: a folder of safetensors and tokenizer files; a `.gguf` file or a folder with one; a hub
    id (downloaded to the hub's own cache, or taken from it); or `package:NAME`.
    revision: a hub branch, tag or commit. cache_dir: where converted GGUF models are kept; None takes
    `$CURATE_CACHE/models` or `~/.cache/curate/models`.
    Raises ConfigError naming what was expected, what was found and what to do.
    """
    check_reference(reference)
    local = Path(reference).expanduser()
    if reference.startswith(PACKAGE_PREFIX) or local.exists():
        if revision is not None:
            raise ConfigError(
                f"model {reference!r}: `revision` is for hub ids only. Got {revision!r}; remove it."
            )
        place = _place_in_package(reference) if reference.startswith(PACKAGE_PREFIX) else local
    else:
        place = _download(reference, revision)
    gguf = _gguf_in(place)
    if gguf is not None:
        from curate.model.gguf import convert

        place = convert(gguf, cache_dir)
    return _describe(reference, place)


def check_reference(reference: str) -> None:
    """Raise ConfigError where `resolve` certainly would, without download, conversion or import."""
    if reference.startswith(PACKAGE_PREFIX):
        _place_in_package(reference)
        return
    local = Path(reference).expanduser()
    if local.exists():
        if _gguf_in(local) is None:
            _describe(reference, local)
    elif not _is_hub_id(reference):
        raise ConfigError(
            f"model {reference!r}: no such file or folder. Expected a folder with safetensors, a .gguf "
            "file, a hub id such as 'owner/name', or 'package:NAME'."
        )


def content_hash(folder: ModelFolder) -> str:
    """32 hex digits over weights, configuration, tokenizer and chat template: content, never paths or times.

    Reads every file once (about 1 GB/s a core), except hub blobs, whose names are their SHA-256.
    """
    return _hash_files(folder.path, (*folder.weights, *folder.config, *folder.tokenizer))


def tokenizer_hash(folder: ModelFolder) -> str:
    """32 hex digits over the tokenizer's files and the chat template alone."""
    return _hash_files(folder.path, folder.tokenizer)


def file_hash(path: Path) -> str:
    """Hex digest of one file's content: the SHA-256 in a hub blob's name, else blake2b-128."""
    target = path.resolve()
    if path.is_symlink() and target.parent.name == "blobs" and SHA256.fullmatch(target.name):
        return target.name
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _hash_files(root: Path, files: tuple[Path, ...]) -> str:
    names = sorted((file.relative_to(root).as_posix(), file) for file in files)
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = pool.map(file_hash, [file for _, file in names])
        lines = [f"{name}\x1f{digest}\n" for (name, _), digest in zip(names, digests, strict=True)]
    return hashlib.blake2b("".join(lines).encode(), digest_size=16).hexdigest()


def _is_hub_id(reference: str) -> bool:
    return HUB_ID.fullmatch(reference) is not None and not reference.endswith(".gguf")


def _place_in_package(reference: str) -> Path:
    """The folder inside an installed package that holds a model; the package is not imported."""
    name = reference.removeprefix(PACKAGE_PREFIX)
    module = name.replace("-", "_").replace(".", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"model {reference!r}: the package {name!r} is not installed here. Run `pip install {name}`, "
            "or name a folder, a .gguf file or a hub id."
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    for place in (root, root / "model"):
        if _gguf_in(place) is not None or (place / "config.json").is_file() or _static_files(place):
            return place
    raise ConfigError(
        f"model {reference!r}: the package is installed but carries no model: expected config.json with "
        f"safetensors, one .gguf file, or weights/ and tokenizers/ under {root.name}/ or {root.name}/model/."
    )


def _gguf_in(place: Path) -> Path | None:
    """The GGUF file that `place` is, or the only one that it holds beside no safetensors."""
    if place.is_file() and place.suffix == ".gguf":
        return place
    found = sorted(place.glob("*.gguf"))
    if not found or any(place.glob("*.safetensors")):
        return None
    if len(found) > 1:
        raise ConfigError(
            f"model folder {place}: holds {len(found)} .gguf files ({', '.join(f.name for f in found)}); "
            "name the one to use."
        )
    return found[0]


def _static_files(place: Path) -> tuple[Path, Path] | None:
    """(weights, tokenizer) of a package in wordllama's layout: one table and one tokenizer."""
    tables = sorted(place.glob("weights/*.safetensors"))
    tokenizers = sorted(place.glob("tokenizers/*.json"))
    return (tables[0], tokenizers[0]) if len(tables) == 1 and len(tokenizers) == 1 else None


def _describe(reference: str, place: Path) -> ModelFolder:
    if not place.is_dir():
        raise ConfigError(f"model {reference!r}: expected a folder or a .gguf file. Got {place}.")
    static = _static_files(place)
    if static is not None:
        return ModelFolder(reference, place, ModelKind.STATIC, static[:1], static[1:], ())
    weights, tokenizer, config = (
        tuple(sorted(file for pattern in patterns for file in place.glob(pattern)))
        for patterns in (WEIGHT_PATTERNS, TOKENIZER_PATTERNS, CONFIG_PATTERNS)
    )
    missing = [
        name
        for name, present in (
            ("config.json", (place / "config.json").is_file()),
            ("*.safetensors", any(file.suffix == ".safetensors" for file in weights)),
            ("tokenizer files", bool(tokenizer)),
        )
        if not present
    ]
    if missing:
        raise ConfigError(
            f"model {reference!r}: the folder {place} lacks {', '.join(missing)}. Expected config.json, "
            "safetensors weights and a tokenizer; save a model there with save_pretrained."
        )
    kind = ModelKind.CAUSAL if _is_causal(place) else ModelKind.SENTENCE
    return ModelFolder(reference, place, kind, weights, tokenizer, config)


def _is_causal(place: Path) -> bool:
    """Not a sentence-transformers folder, and its architecture is `…ForCausalLM` or `…LMHeadModel`."""
    if (place / "modules.json").is_file():
        return False
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.get("architectures") or ())


def _download(reference: str, revision: str | None) -> Path:
    """The hub's snapshot of safetensors, tokenizer and configuration, in the hub's own cache."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cache = constants.HF_HUB_CACHE
    try:
        return Path(snapshot_download(reference, revision=revision, allow_patterns=list(HUB_PATTERNS)))
    except GatedRepoError as error:
        raise ConfigError(
            f"model {reference!r}: the hub asks for its terms to be accepted. Accept them on the model's "
            "page and log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise ConfigError(f"model {reference!r}: the hub has no revision {revision!r} of it.") from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"model {reference!r}: neither a file or folder here nor a model on the hub. Check the spelling; "
            "for a private model log in with `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ConfigError(
            f"model {reference!r}: not a file or folder here, not in the hub cache {cache}, and the hub "
            f"cannot be reached ({type(error).__name__}). Go online once, copy the model there, or name a "
            "local folder, a .gguf file or package:NAME."
        ) from error
