"""The command line. Each command is a plain function that is registered here and imports what it needs
when it runs, so that `curate check` and `--help` load neither torch nor ray.

Exit codes: 0 done, 1 a failure while running, 2 wrong usage or configuration, 3 unusable data,
130 stopped by Ctrl-C.
"""

import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from curate import commands
from curate.compare_command import compare
from curate.errors import ConfigError, CurateError
from curate.options import RUNS, AsJson, ConfigFile, Overrides, Plugins, RunsFolder
from curate.plan_command import plan
from curate.registry import PACKAGES, Registry, check_installation, unknown
from curate.report_command import report

INTERRUPTED = 130

app = typer.Typer(
    name="curate",
    help="Choose training examples: score, select, mix, tune, and remember why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit with its code. A CurateError is printed without its traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        check_installation()
        app([each for each in given if each != "--debug"], prog_name="curate")
    except CurateError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stopped:
        if stopped.code == INTERRUPTED:
            print("Stopped. The same command goes on after the last finished shard.", file=sys.stderr)
        raise


def _version(asked: bool) -> None:
    if asked:
        print(version("curate-llm"))
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error; anywhere")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Choose training examples: score, select, mix, tune, and remember why."""


@app.command()
def check(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a configuration without reading any data: every error, each with its line."""
    from curate.config import dump_config, load_config

    loaded = load_config(config, overrides or [])
    with loaded.marks.located():
        from curate.pipeline import build, expanded

        build(loaded.config)
    if as_json:
        print(json.dumps(dump_config(loaded.config), indent=2))
        return
    stages = " > ".join(
        f"{entry.kind} ({', '.join(method.name for method in entry.methods)})"
        if entry.kind in ("clean", "score", "select", "cluster", "mix")
        else entry.kind
        for entry in expanded(loaded.config).stages
    )
    print(f"{config}: ok. {stages}")


@app.command()
def schema(plugins: Plugins = None) -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from curate.schema import json_schema

    print(json.dumps(json_schema(Registry(tuple(plugins or ()))), indent=2))


@app.command("list")
def list_methods(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join([*PACKAGES, "runs"]))],
    plugins: Plugins = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """List the methods of a kind (scorers, selectors, mixers, cleaners, clusterers, adapters, pipelines), or runs."""
    from rich.console import Console

    from curate.listing import methods, print_methods

    if kind == "runs":
        commands.list_runs(runs, as_json)
        return
    if kind not in PACKAGES:
        raise ConfigError(f"list: {unknown('kind', kind, [*PACKAGES, 'runs'])}")
    found = methods(kind, Registry(tuple(plugins or ())))
    if as_json:
        print(json.dumps([asdict(method) for method in found], indent=2))
        return
    print_methods(found, Console())


@app.command()
def doctor(runs: RunsFolder = RUNS, as_json: AsJson = False) -> None:
    """Examine this machine and installation: what runs will use, and each problem with its remedy.

    Exit code 1 where there is a problem.
    """
    from rich.console import Console

    from curate.doctor import examine

    findings = []
    console = Console()
    styles = {"ok": "green", "warning": "yellow", "problem": "bold red"}
    for found in examine(runs):
        findings.append(found)
        if not as_json:
            console.print(
                f"[{styles[found.status]}]{found.status:<8}[/] {found.subject:<10} {escape(found.text)}"
            )
            if found.remedy:
                console.print(f"{'':20}{escape(found.remedy)}")
    if as_json:
        print(json.dumps([asdict(found) for found in findings], indent=2))
    if any(found.status == "problem" for found in findings):
        raise typer.Exit(1)


for command in (plan, commands.run, commands.show, compare, commands.export, report):
    app.command()(command)


if __name__ == "__main__":
    main()
