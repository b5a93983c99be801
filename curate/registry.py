"""Registry: name -> class. The file's name is the method's name.

Built-in methods are the files of one package per kind. Plug-ins come from entry points of the group
`curate.<kind>` and from folders that a configuration names (`plugins: [DIR]`, holding `<kind>/<name>.py`).
Listing names imports nothing; a module is imported when its method is asked for.
"""

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from curate.component import PLUGIN_MODULES, Component
from curate.errors import ConfigError

PACKAGES = {
    "scorers": "scorers",
    "selectors": "curate.selectors",
    "mixers": "curate.mixers",
    "cleaners": "curate.clean",
    "clusterers": "curate.clusterers",
    "adapters": "curate.training.adapters",
    "pipelines": "pipelines",
}


@dataclass(frozen=True)
class Registry:
    """The methods that a configuration may name: the built-in ones and those of `plugins`."""

    plugins: tuple[Path, ...] = ()

    def names(self, kind: str) -> list[str]:
        """All names of a kind, sorted. Raises ConfigError if two places define one name."""
        places: dict[str, list[str]] = {}
        for name in _builtin(PACKAGES[kind]):
            places.setdefault(name, []).append(PACKAGES[kind])
        for entry in entry_points(group=f"curate.{kind}"):
            places.setdefault(entry.name, []).append(f"entry point {entry.value}")
        for folder in self.plugins:
            for file in sorted((folder / kind).glob("[!_]*.py")):
                places.setdefault(file.stem, []).append(str(file))
        for name, found in places.items():
            if len(found) > 1:
                raise ConfigError(f"{kind}: `{name}` is defined in {' and in '.join(found)}. Rename one.")
        return sorted(places)

    def get(self, kind: str, name: str) -> type[Component]:
        """The class of a method. Raises ConfigError with a "did you mean" for an unknown name."""
        names = self.names(kind)
        if name not in names:
            raise ConfigError(unknown(f"{kind.removesuffix('s')} name", name, names))
        component = _component(self._module(kind, name))
        if component.method_name() != name:
            raise ConfigError(
                f"{kind}: the entry point `{name}` leads to a file named `{component.method_name()}`. "
                "A method's name is its file's name; rename one."
            )
        return component

    def _module(self, kind: str, name: str) -> ModuleType:
        for folder in self.plugins:
            file = folder / kind / f"{name}.py"
            if file.exists():
                place = blake2b(str(folder).encode(), digest_size=4).hexdigest()
                return _load(file, f"{PLUGIN_MODULES}{place}.{kind}.{name}")
        for entry in entry_points(group=f"curate.{kind}", name=name):
            return importlib.import_module(entry.module)
        return importlib.import_module(f"{PACKAGES[kind]}.{name}")


def unknown(what: str, found: str, known: Sequence[str]) -> str:
    """One sentence for a name that is not known, with the nearest known one."""
    near = difflib.get_close_matches(found, known, n=1)
    hint = f" Did you mean `{near[0]}`?" if near else f" Known: {', '.join(known) or 'none'}."
    return f"unknown {what} `{found}`.{hint}"


@cache
def _builtin(package: str) -> tuple[str, ...]:
    found = pkgutil.iter_modules([str(_folder(package))])
    return tuple(module.name for module in found if not module.name.startswith("_"))


def check_installation() -> None:
    """Raise ConfigError if other code of the name `scorers` or `pipelines` stands before ours."""
    for package in ("scorers", "pipelines"):
        _folder(package)


def _folder(package: str) -> Path:
    """The folder of one of our packages. Raises ConfigError if Python would import another one."""
    ours = Path(__file__).resolve().parents[1].joinpath(*package.split("."))
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ConfigError(f"package `{package}` is not installed; reinstall curate-llm.")
    places = [Path(place) for place in spec.submodule_search_locations or [spec.origin or package]]
    if any(place.resolve() == ours for place in places):
        return ours
    raise ConfigError(
        f"`{package}` is imported from {places[0]}, which shadows curate's own in {ours}. "
        "Rename it, or start from another folder: the working directory comes first on Python's path."
    )


@cache
def _load(file: Path, module_name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    parts = module_name.split(".")
    for depth in range(1, len(parts)):  # pickle looks a class up from the outermost package
        outer = ".".join(parts[:depth])
        sys.modules.setdefault(outer, ModuleType(outer))
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise ConfigError(f"{file}: cannot be imported. {type(error).__name__}: {error}") from error
    return module


def _component(module: ModuleType) -> type[Component]:
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Component)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
        and not value.__name__.startswith("_")
    ]
    if len(found) != 1:
        names = ", ".join(value.__name__ for value in found) or "none"
        raise ConfigError(f"{module.__file__}: expected one public component class. Found {names}.")
    return found[0]
