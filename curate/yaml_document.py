"""YAML -> plain values and marks. YAML 1.2's core types, so that `2e-5` is a number and `on` is text.

Duplicate keys and foreign tags are problems; anchors, aliases and merge keys (`<<`) work.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from curate.errors import ConfigError, Problem, Where
from curate.marks import Located, Mark, Marks

_TAG = "tag:yaml.org,2002:"
_NUMBER_STARTS = list("-+.0123456789")


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the implicit types of YAML 1.2 (and `1_000`)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - so PyYAML declares it


def _resolve(kind: str, pattern: str, starts: list[str]) -> None:
    _Loader.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"^(?:{pattern})$"), starts)


_resolve("null", r"~|null|Null|NULL|", ["~", "n", "N", ""])
_resolve("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"))
_resolve("int", r"[-+]?[0-9]+(_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+", _NUMBER_STARTS)
_resolve(
    "float",
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    _NUMBER_STARTS,
)
_resolve("merge", "<<", ["<"])


@dataclass
class Document:
    """A configuration while it is read: its plain values, where they stand, what is already wrong.

    tree: mappings with text keys, lists, text, int, float, bool, None.
    """

    tree: Any = None
    values: dict[Where, Mark] = field(default_factory=dict)
    keys: dict[Where, Mark] = field(default_factory=dict)
    problems: list[Located] = field(default_factory=list)

    @property
    def marks(self) -> Marks:
        """The places of all parts."""
        return Marks(self.values, self.keys)


def read_yaml(path: Path) -> Document:
    """Read a file. Raises ConfigError where there is none, or where it is not YAML."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise ConfigError(f"{path}: {what}. Expected a YAML file with name, sources and stages.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}:1: must be UTF-8 text. Found {error.reason}.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str) -> Document:
    """Read a text; `file` names it in messages. Raises ConfigError where it is not YAML."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax(error, file)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}:1:1: not valid YAML: {error}".replace("\n", " ")) from error
    document = Document()
    document.values[()] = Mark(file, 1, 1)
    if node is not None:
        document.tree = _Reader(file, document).read(node, (), ())
    return document


def _syntax(error: yaml.MarkedYAMLError, file: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    started = error.context_mark
    context = f" {error.context}" if error.context else ""
    if context and started:
        context += f" that began on line {started.line + 1}"
    return f"{place}: not valid YAML: {error.problem or 'unreadable'}{context}."


@dataclass(frozen=True)
class _Reader:
    file: str
    document: Document

    def read(self, node: yaml.Node, where: Where, around: tuple[yaml.Node, ...]) -> Any:
        self.document.values.setdefault(where, self.mark(node))
        if any(node is outer for outer in around):
            self.problem(node, where, "an anchor must not contain itself.")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, where, (*around, node))
        if isinstance(node, yaml.SequenceNode):
            inside = (*around, node)
            return [self.read(child, (*where, index), inside) for index, child in enumerate(node.value)]
        return self.scalar(node, where)

    def mapping(self, node: yaml.MappingNode, where: Where, around: tuple[yaml.Node, ...]) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        first: dict[str, Mark] = {}
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key, where, "a key must be text. Got a list or a mapping.")
                continue
            name, inside = str(key.value), (*where, str(key.value))
            if name in first:
                said = f"key `{name}` is given twice, first on line {first[name].line}. Remove one."
                self.problem(key, where, said)
                continue
            first[name] = self.document.keys[inside] = self.mark(key)
            if not isinstance(value, yaml.ScalarNode):
                self.document.values[inside] = self.mark(key)
            tree[name] = self.read(value, inside, around)
        for other in merged:
            tree = self.merge(tree, other, where, around)
        return tree

    def merge(
        self, tree: dict[str, Any], node: yaml.Node, where: Where, around: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        """The keys of a merged mapping that are not given here; marks point to where they stand."""
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, where, "`<<` must be followed by a mapping or a list of mappings.")
            return tree
        given = _Reader(self.file, Document())
        added = given.read(node, where, around)
        self.document.problems.extend(given.document.problems)
        for name in added.keys() - tree.keys():
            for source, target in ((given.document.values, self.document.values),
                                   (given.document.keys, self.document.keys)):  # fmt: skip
                inside = (*where, name)
                target.update(
                    {place: mark for place, mark in source.items() if place[: len(inside)] == inside}
                )
        return {**added, **tree}

    def scalar(self, node: yaml.Node, where: Where) -> Any:
        try:
            return self.value(node, where)
        except ValueError:
            self.problem(
                node, where, f"cannot be read as `{node.tag.removeprefix(_TAG)}`. Got {node.value!r}."
            )
            return None

    def value(self, node: yaml.Node, where: Where) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            case "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        self.problem(node, where, f"the YAML tag `{node.tag}` is not supported. Remove it.")
        return None

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def problem(self, node: yaml.Node, where: Where, message: str) -> None:
        self.document.problems.append(Located(self.mark(node), Problem(where, message)))
