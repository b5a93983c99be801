"""The recipes and the configurations of the benchmarks are sound, and so is what the README names."""

import re
import shlex
from pathlib import Path

import pytest

from curate.config import load_config
from curate.pipeline import build

ROOT = Path(__file__).parent.parent
RECIPES = sorted([*(ROOT / "configs").glob("*.yaml"), *(ROOT / "benchmarks").glob("*.yaml")])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_passes_check(recipe: Path) -> None:
    assert build(load_config(recipe).config)


def test_the_override_of_the_readme_fits_the_demo() -> None:
    (override,) = re.findall(r"configs/demo\.yaml --set\s+(.+?)`", (ROOT / "README.md").read_text())
    assert build(load_config(ROOT / "configs" / "demo.yaml", shlex.split(override)).config)


def test_every_file_in_the_tree_of_the_readme_exists() -> None:
    tree = (ROOT / "README.md").read_text().split("## The house")[1].split("```")[1]
    inside = tree.split("scorers/ ")[0]
    for name in re.findall(r"[a-z_]+\.py|^  [a-z_]+/", inside, re.MULTILINE):
        assert (ROOT / "curate" / name.strip()).exists(), name
    python = {path.name for path in (ROOT / "curate").glob("*.py")} - {
        "__init__.py",
        "__main__.py",
        "errors.py",
    }
    assert python <= set(re.findall(r"[a-z_]+\.py", inside))
