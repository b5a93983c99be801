"""Lay out the site's source: pages written by hand, pages generated from the code, and the builder's configuration.

`python -m docs._generate build` writes build/docs and build/mkdocs.yml, from which `zensical build --strict` makes
build/site. Nothing that is generated is kept under version control.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from curate.registry import Registry
from docs._methods import BENCHMARKS, KINDS, ROOT, method_pages
from docs._reference import api_page, commands_page, configuration_page, recipes_page

DOCS = Path(__file__).parent


def generate(out: Path) -> None:
    """Write `out`/docs and `out`/mkdocs.yml."""
    pages = out / "docs"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for file in [*DOCS.glob("*.md"), *DOCS.glob("*.css"), *DOCS.glob("*.svg"), *DOCS.glob("*.html")]:
        shutil.copy(file, pages / file.name)
    registry = Registry()
    written = {
        **dict(method_pages(registry)),
        "configuration.md": configuration_page(),
        "commands.md": commands_page(),
        "python.md": api_page(),
        "recipes.md": recipes_page(),
        "measured.md": BENCHMARKS.read_text("utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
    }
    for name, text in written.items():
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        (pages / name).write_text(text, "utf-8")
    (out / "mkdocs.yml").write_text(yaml.safe_dump(_configuration(registry), sort_keys=False), "utf-8")


def _configuration(registry: Registry) -> dict[str, Any]:
    """docs/mkdocs.yml, with the pages of the methods in its navigation."""
    configuration: dict[str, Any] = yaml.safe_load((DOCS / "mkdocs.yml").read_text("utf-8"))
    methods = [
        {kind.capitalize(): [_place(kind, "index"), *(_place(kind, name) for name in registry.names(kind))]}
        for kind in KINDS
    ]
    navigation = configuration["nav"]
    place = next(index for index, entry in enumerate(navigation) if entry == "methods")
    navigation[place] = {"Methods": methods}
    return configuration


def _place(kind: str, name: str) -> str | dict[str, str]:
    path = f"methods/{kind}/{name}.md"
    return path if name == "index" else {name: path}


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
