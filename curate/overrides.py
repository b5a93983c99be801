"""`--set KEY=VALUE`: change one place of a configuration from the command line.

KEY is a path with dots; VALUE is YAML (`20%`, `2e-5`, `[a, b]`, `{random: {budget: 10%}}`, nothing for null).
A part of the path is a key, or in a list

    an index          stages.3.select.top.budget=20%
    a method's name   stages.3.score.donod.learning_rate=1e-3
    a source's name   sources.math.path=data/math.jsonl

A path that begins with a kind of stage means the one stage of that kind, or the one that holds the
method named next: `select.top.budget=20%` is `stages.<i>.select.top.budget=20%`. Where several fit,
that is an error which names them. Keys that are missing are added, so what they are is checked with
the rest of the configuration; a list never grows.
"""

from collections.abc import Sequence
from typing import Any

from curate.errors import ConfigError, Problem, Where
from curate.marks import Located, Mark
from curate.registry import unknown
from curate.yaml_document import Document, parse_yaml

_TEXT_OF = {"model": "path", "target": "path"}


class _Impossible(Exception):
    """The path leads nowhere; the message says why."""


def override(document: Document, argument: str, fields: Sequence[str], kinds: Sequence[str]) -> None:
    """Apply one `--set` argument to a document in place; what is wrong with it joins the problems.

    fields: the keys of a configuration; kinds: the kinds of stage.
    """
    mark = Mark(f"--set {argument}")
    key, equals, text = argument.partition("=")
    parts = key.strip().split(".")
    try:
        if not equals or not all(parts):
            raise _Impossible("must be KEY=VALUE, as in `seed=1` or `select.top.budget=20%`.")
        try:
            value = parse_yaml(text, mark.source)
        except ConfigError as error:
            raise _Impossible(f"the value is not valid YAML: {text!r}. Quote it for the shell.") from error
        if value.problems:
            raise _Impossible(value.problems[0].problem.message)
        if parts[0] not in fields and parts[0] not in kinds:
            raise _Impossible(unknown("key", parts[0], [*fields, *kinds]))
        if not isinstance(document.tree, dict):
            document.tree = {}
        where = _place(document.tree, parts, kinds)
        _assign(document.tree, where, value.tree)
    except _Impossible as error:
        document.problems.append(Located(mark, Problem((), str(error))))
        return
    for marks in (document.values, document.keys):
        for place in [place for place in marks if place[: len(where)] == where]:
            del marks[place]
    document.values[where] = document.keys[where] = mark


def _place(tree: dict[str, Any], parts: Sequence[str], kinds: Sequence[str]) -> Where:
    """The path as a place in the tree, with indices for the names of list elements."""
    if parts[0] not in kinds:
        where: Where = ()
        rest = list(parts)
    else:
        where = _stage(tree.get("stages"), parts)
        rest = list(parts[1:])
    node = _look(tree, where)
    while rest:
        if isinstance(node, list):
            index, used = _element(node, rest[0], where)
            where, rest = (*where, index), rest[used:]
        else:
            where, rest = (*where, rest[0]), rest[1:]
        node = _look(tree, where)
    return where


def _stage(stages: Any, parts: Sequence[str]) -> Where:
    """The place of the one stage that `KIND` or `KIND.METHOD` means."""
    kind = parts[0]
    items = list(enumerate(stages)) if isinstance(stages, list) else []
    fitting = [(index, item[kind]) for index, item in items if isinstance(item, dict) and kind in item]
    if len(fitting) > 1 and len(parts) > 1:
        fitting = [(index, body) for index, body in fitting if _holds(body, parts[1])] or fitting
    if not fitting:
        raise _Impossible(f"there is no `{kind}` stage to change.")
    if len(fitting) > 1:
        ways = " or ".join(f"stages.{index}.{'.'.join(parts)}" for index, _ in fitting)
        raise _Impossible(f"`{kind}` may mean {len(fitting)} stages. Write {ways}.")
    return ("stages", fitting[0][0], kind)


def _holds(body: Any, name: str) -> bool:
    if isinstance(body, list):
        return any(_holds(element, name) for element in body)
    return body == name or (isinstance(body, dict) and name in body)


def _element(node: list[Any], part: str, where: Where) -> tuple[int, int]:
    """The index of the element that a part of the path means, and how many parts that used up."""
    if part.isdecimal():
        if int(part) >= len(node):
            raise _Impossible(f"index {part} is too large: the list has {len(node)} elements.")
        return int(part), 1
    named = [i for i, each in enumerate(node) if isinstance(each, dict) and each.get("name") == part]
    holding = [i for i, each in enumerate(node) if _holds(each, part)]
    found = named or holding
    if len(found) == 1:
        return found[0], 1 if named else 0
    known = sorted({name for each in node for name in _names(each)})
    if found:
        raise _Impossible(f"`{part}` is there {len(found)} times. Use an index, 0 to {len(node) - 1}.")
    raise _Impossible(unknown("element of the list", part, [*known, f"0 to {len(node) - 1}"]))


def _names(element: Any) -> list[str]:
    if isinstance(element, dict):
        return [element["name"]] if isinstance(element.get("name"), str) else list(element)
    return [element] if isinstance(element, str) else []


def _look(tree: Any, where: Where) -> Any:
    """The value at a place, None where there is none yet."""
    for part in where:
        if isinstance(tree, dict):
            tree = tree.get(str(part))
        elif isinstance(tree, list) and isinstance(part, int):
            tree = tree[part]
        else:
            return None
    return tree


def _assign(tree: dict[str, Any], where: Where, value: Any) -> None:
    """Put a value into the tree; mappings on the way are made, names and shorthands written out."""
    node: Any = tree
    for depth, part in enumerate(where[:-1]):
        inner, following = _look(node, (part,)), where[depth + 1]
        if inner is None:
            inner = {}
        elif inner == following:
            inner = {inner: {}}
        elif isinstance(inner, str) and part in _TEXT_OF:
            inner = {_TEXT_OF[str(part)]: inner}
        elif not isinstance(inner, dict | list):
            raise _Impossible(f"`{following}` cannot be set inside the value {inner!r}.")
        node[part] = inner
        node = inner
    node[where[-1]] = value
