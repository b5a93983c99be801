"""Hub: data sets named `hub:ORG/NAME[:CONFIG][@SPLIT]`, fetched by `datasets` into its own cache."""

import re
from typing import Any

from curate.errors import ConfigError, DataError

HUB = "hub:"
_PATTERN = re.compile(r"^hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[^@:]+))?(?:@(?P<split>[\w.-]+))?$")


def fetch(path: str) -> list[tuple[str, str]]:
    """The Arrow files of the data set in the cache, each with the label for messages.

    Raises ConfigError for a malformed name; DataError where the hub cannot be reached, the data set does
    not exist or holds several splits and none is named.
    """
    match = _PATTERN.match(path)
    if match is None:
        raise ConfigError(f"path must be hub:ORG/NAME[:CONFIG][@SPLIT], SPLIT a plain name. Got {path!r}.")
    loaded = _load(path, match["name"], match["config"], match["split"])
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            raise DataError(
                f"{path}: holds the splits {', '.join(loaded)}. Give one: {path}@{next(iter(loaded))}"
            )
        loaded = next(iter(loaded.values()))
    files = [str(file["filename"]) for file in loaded.cache_files]
    return [(file, path if len(files) == 1 else f"{path}#{number}") for number, file in enumerate(files)]


def _load(path: str, name: str, config: str | None, split: str | None) -> Any:
    from datasets import load_dataset  # type: ignore[import-untyped]
    from datasets.exceptions import DatasetNotFoundError  # type: ignore[import-untyped]

    try:
        return load_dataset(name, config, split=split)
    except DatasetNotFoundError as error:
        raise DataError(
            f"{path}: {error} Check the name; for a gated one log in with `hf auth login`."
        ) from error
    except ConnectionError as error:
        raise DataError(
            f"{path}: the hub cannot be reached ({error}), and the data set is not in the local cache. "
            "Connect, unset HF_HUB_OFFLINE, or give a folder that `save_to_disk` wrote elsewhere."
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
