"""The reference: every key of a configuration, every command, every public name, every recipe."""

import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer
from pydantic import BaseModel

import curate
from curate.cli import app
from curate.constraints import Constraints
from curate.methods import METHODS_OF, SEVERAL, STAGE_CLASSES, STAGE_KINDS, stage_class
from curate.settings import ModelSpec, Resources, SourceSpec, TargetSpec, TokenSpec
from curate.spec import Config
from docs._methods import recipe_block, recipes
from docs._text import article, cell, docstring_html, field_table

EXIT_CODES = {
    0: "done",
    1: "a failure while running; of `doctor`, a problem found",
    2: "wrong usage or configuration",
    3: "unusable data",
    130: "stopped by Ctrl-C; the same command goes on",
}

PARTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("model", "May be written as its path alone: `model: HuggingFaceTB/SmolLM2-135M-Instruct`.", ModelSpec),
    (
        "tokens",
        "The one path from messages to tokens and loss mask, for scorers and trainer alike.",
        TokenSpec,
    ),
    ("source", "An entry of `sources:`.", SourceSpec),
    ("target", "May be written as its path alone.", TargetSpec),
    *((kind, f"The body of the stage `{kind}:`.", stage_class(kind)) for kind in STAGE_CLASSES),
    ("constraints", "Beside a `select:`.", Constraints),
    ("resources", "Beside any stage. None of it can change a result.", Resources),
)


def configuration_page() -> str:
    """Every key that a configuration may have."""
    parts = [
        "# Configuration",
        "Every key, generated from the code. `curate schema` prints the same as a JSON Schema, for completion in an "
        "editor; `curate check CONFIG` names every error with its line. `--set a.b=c` overrides one value.",
        "## The file\n\n"
        + field_table(Config).replace("list of [StageEntry](#stageentry)", "list of [stages](#stages)"),
        "## stages\n\nAn entry of `stages:` is a mapping of one kind of stage to its body, and may have `resources:` "
        "beside it. Each stage sees the rows that the one before kept.\n\n" + _stages(),
    ]
    parts += [f"## {name}\n\n{told}\n\n{field_table(model)}" for name, told, model in PARTS]
    return "\n\n".join(parts) + "\n"


def _stages() -> str:
    lines = ["| kind | its body |", "|---|---|"]
    for kind in STAGE_KINDS:
        if kind in STAGE_CLASSES:
            body = f"the keys of [{kind}](#{kind})"
        else:
            methods = METHODS_OF[kind]
            number = "one or a list" if kind in SEVERAL else "one"
            body = f"{number} of the [{methods}](methods/{methods}/index.md)"
        lines.append(f"| `{kind}` | {body} |")
    return "\n".join(lines)


def commands_page() -> str:
    """Every command with its arguments and options."""
    codes = "\n".join(
        ["| code | meaning |", "|---|---|", *(f"| {code} | {said} |" for code, said in EXIT_CODES.items())]
    )
    parts = ["# Commands", "Generated from `curate COMMAND --help`.", f"## Exit codes\n\n{codes}"]
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        usage = " ".join([f"curate {name}", *(_usage(each) for each in command.params)])
        rows = [_parameter(each) for each in command.params]
        table = "\n".join(["| | meaning | default |", "|---|---|---|", *rows])
        parts += [
            f"## {name}",
            f"`{' '.join(usage.split())}`",
            article(inspect.cleandoc(command.help)),
            table,
        ]
    return "\n\n".join(parts) + "\n"


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        name += " …" if parameter.nargs == -1 else ""
        return name if parameter.required else f"[{name}]"
    return f"{parameter.opts[0]} {parameter.metavar or 'VALUE'}" if parameter.required else ""


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name, default = parameter.metavar or parameter.name.upper(), "required" if parameter.required else ""
    else:
        flags = ", ".join([*parameter.opts, *parameter.secondary_opts])
        name = flags if parameter.is_flag else f"{flags} {parameter.metavar or 'VALUE'}"
        default = "required" if parameter.required else _default(parameter)
    told = cell(parameter.help or "")
    return f"| `{name}` | {told}{'; may be repeated' if getattr(parameter, 'multiple', False) else ''} | {default} |"


def _default(option: Any) -> str:
    value = option.default.value if isinstance(option.default, enum.Enum) else option.default
    if option.is_flag:
        return f"`{option.opts[0] if value else option.secondary_opts[0]}`" if option.secondary_opts else ""
    return "" if value is None or value == () else f"`{value}`"


def api_page() -> str:
    """Every public name of the package."""
    parts = ["# Python", "The names of `import curate`, from their docstrings."]
    for name in curate.__all__:
        value = getattr(curate, name)
        home = importlib.import_module(value.__module__).__name__
        parts.append(f"## {name}\n\n`{_signature(name, value)}`")
        parts.append(f"From `{home}`." if home != "curate" else "")
        parts.append(_docstring(value))
        parts += _members(value) if inspect.isclass(value) else []
    return "\n\n".join(part for part in parts if part) + "\n"


def recipes_page() -> str:
    """Every recipe."""
    parts = [
        "# Recipes",
        "One for each method or paper; put your own sources into it. `curate run configs/NAME.yaml`.",
    ]
    parts += [f"## {file.stem}\n\n{recipe_block(file)}" for file in recipes()]
    return "\n\n".join(parts) + "\n"


def _members(cls: type) -> Iterator[str]:
    """The public attributes that a class and its bases in this project define."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if (
            not base.__module__.startswith("curate.")
            or base.__module__ == "curate.component" != cls.__module__
        ):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if isinstance(plain, property):
                returned = _annotation(inspect.signature(plain.fget).return_annotation) if plain.fget else ""
                yield f"### {cls.__name__}.{name}\n\n`{name}: {returned}`\n\n{_docstring(plain)}"
            elif inspect.isfunction(plain):
                yield f"### {cls.__name__}.{name}\n\n`{_signature(name, plain)}`\n\n{_docstring(plain)}"


def _docstring(value: Any) -> str:
    text = inspect.getdoc(value) or ""
    return docstring_html("Docstring", text) if text else ""


class _Written(str):
    """An annotation that is shown as it is written."""

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, value: Any) -> str:
    """How it is called. Of what has no signature of its own, the name."""
    try:
        signature = inspect.signature(value)
    except ValueError:
        return name
    given = [
        each.replace(annotation=_annotation(each.annotation))
        for each in signature.parameters.values()
        if each.name not in ("self", "cls")
    ]
    empty = inspect.Signature.empty
    returned = empty if inspect.isclass(value) else _annotation(signature.return_annotation)
    return f"{name}{signature.replace(parameters=given, return_annotation=returned)}"


def _annotation(annotation: Any) -> Any:
    """An annotation without the modules that its names come from."""
    if annotation is inspect.Parameter.empty:
        return annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _Written(re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", text.strip("'\"")))
