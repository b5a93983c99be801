"""A configuration file -> `Config`: every error at once, each with its place and what would be right.

    configs/demo.yaml:14:36: stages[4].select.top.budget: a budget must be rows (500), ... Got 'ten'.

What a file may hold is stated by `curate.spec`; what stands where by `curate.marks`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from curate import phrases
from curate.errors import Problem
from curate.marks import Marks
from curate.methods import STAGE_KINDS
from curate.overrides import override
from curate.registry import Registry
from curate.spec import Config
from curate.yaml_document import Document, read_yaml


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where its parts stand.

    Checks that come later name a place by its keys, `ConfigError(problems=[Problem(("stages", 3), "...")])`,
    and get its line within `with loaded.marks.located():`.
    """

    config: Config
    marks: Marks


def load_config(path: Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a YAML file and apply `--set` arguments (`curate.overrides`), in their order.

    Folders of `plugins` are relative to the file's folder. Raises ConfigError with all problems,
    one a line, in the order of the file.
    """
    return _load(read_yaml(path), path.parent, overrides)


def read_config(
    values: Mapping[str, Any], folder: Path = Path(), overrides: Sequence[str] = ()
) -> LoadedConfig:
    """As `load_config`, for a configuration given as plain values: what `dump_config` returns.

    folder: what `plugins` are relative to. Raises ConfigError.
    """
    return _load(Document(json.loads(json.dumps(values))), folder, overrides)


def dump_config(config: Config) -> dict[str, Any]:
    """The configuration with all defaults filled in, as JSON values; `read_config` gives it back."""
    return config.model_dump(mode="json")


def _load(document: Document, folder: Path, overrides: Sequence[str]) -> LoadedConfig:
    for argument in overrides:
        override(document, argument, list(Config.model_fields), STAGE_KINDS)
    tree = document.tree
    if not isinstance(tree, dict):
        got = "an empty file" if tree is None else phrases.shown(tree)
        problem = Problem((), f"must be a mapping with name, sources and stages. Got {got}.")
        raise document.marks.error([problem], document.problems)
    plugins, problems = _plugins(tree.get("plugins"), folder)
    if plugins:
        tree["plugins"] = [str(plugin) for plugin in plugins]
    try:
        config = Config.model_validate_json(json.dumps(tree), strict=True, context=Registry(plugins))
    except ValidationError as error:
        problems += phrases.problems(error, Config, tree)
        raise document.marks.error(problems, document.problems) from error
    if problems or document.problems:
        raise document.marks.error(problems, document.problems)
    return LoadedConfig(config, document.marks)


def _plugins(given: Any, folder: Path) -> tuple[tuple[Path, ...], list[Problem]]:
    """The plug-in folders, absolute, and what is wrong with them; what is no list of text is left alone."""
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        return (), []
    found = tuple((folder / each).resolve() for each in given)
    return found, [
        Problem(("plugins", index), f"must be a folder, relative to the configuration. Got {given[index]!r}.")
        for index, plugin in enumerate(found)
        if not plugin.is_dir()
    ]
