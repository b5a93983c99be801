"""The site is built without a warning, and has a page for all that it should."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from code_blocks import blocks

import curate
from curate.cli import app
from curate.registry import PACKAGES, Registry
from curate.spec import Config

ROOT = Path(__file__).parents[2]


def build(out: Path) -> subprocess.CompletedProcess[str]:
    """Run the builder, strictly, on what was generated."""
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(out / "mkdocs.yml")],
        capture_output=True,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site's source; the site is in `site`."""
    from docs._generate import generate

    out = tmp_path_factory.mktemp("site")
    generate(out)
    done = build(out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.parametrize("kind", PACKAGES)
def test_every_method_has_a_page(built: Path, kind: str) -> None:
    pages = {file.stem for file in (built / "site" / "methods" / kind).glob("*.html")}
    assert pages == {*Registry().names(kind), "index"}


def test_a_page_says_what_the_docstring_says(built: Path) -> None:
    page = (built / "site" / "methods" / "scorers" / "el2n.html").read_text()
    for said in (
        "||e_t||^2 = sum_v p_t(v)^2 - 2 p_t(y_t) + 1",
        "one model as it is",
        "Paul et al.",
        "two-sided",
    ):
        assert said in page or said.capitalize() in page


def test_a_page_has_the_measured_figures(built: Path) -> None:
    (row,) = re.findall(r"^\| `el2n` .*\|$", (ROOT / "benchmarks" / "README.md").read_text(), re.M)
    assert row in (built / "docs" / "methods" / "scorers" / "el2n.md").read_text()


def test_a_field_has_type_default_and_description(built: Path) -> None:
    page = (built / "docs" / "methods" / "selectors" / "band.md").read_text()
    assert re.search(r"^\| `low` \| number, ≥ 0, ≤ 1 \| `0.0` \| lower quantile.* \|$", page, re.M)


def test_every_key_of_a_configuration_is_told(built: Path) -> None:
    page = (built / "docs" / "configuration.md").read_text()
    assert [name for name in Config.model_fields if f"| `{name}` |" not in page] == []


def test_every_command_and_public_name_is_told(built: Path) -> None:
    commands = (built / "docs" / "commands.md").read_text()
    names = typer.main.get_command(app).commands
    assert [name for name in names if f"\n## {name}\n" not in commands] == []
    python = (built / "docs" / "python.md").read_text()
    assert [name for name in curate.__all__ if f"\n## {name}\n" not in python] == []


def test_the_code_on_generated_pages_is_recipes(built: Path) -> None:
    """Those tests/test_recipes.py checks; other code would be run by nothing."""
    by_hand = {file.name for file in (ROOT / "docs").glob("*.md")}
    for page in (built / "docs").rglob("*.md"):
        for block in [] if page.name in by_hand and page.parent.name == "docs" else blocks(page, page.name):
            assert block.language == "yaml", block
            assert block.title is not None, block
            assert block.text.strip() == (ROOT / block.title).read_text().strip()


def test_nothing_is_fetched_from_elsewhere(built: Path) -> None:
    for page in (built / "site").rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|iframe)[^>]* src="?(https?:[^" >]+)', page.read_text())
        styles = re.findall(
            r'<link[^>]* rel="?(?:stylesheet|preconnect)"?[^>]* href="?(https?:[^" >]+)', page.read_text()
        )
        assert fetched + styles == [], page


def test_a_broken_link_stops_the_build(built: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Page\n\n[there](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text(
        re.sub(r"^nav:\n(?:[- ].*\n)*", "", (built / "mkdocs.yml").read_text(), flags=re.M)
    )
    assert build(tmp_path).returncode != 0
