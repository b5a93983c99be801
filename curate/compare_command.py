"""The command `compare`: methods by a configuration, or finished runs with each other. Registered by `curate.cli`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Column, Table

from curate.commands import find_run
from curate.errors import ConfigError
from curate.options import RUNS, AsJson, Overrides, RunnerName, RunnerOption, RunsFolder
from curate.runs import Run

if TYPE_CHECKING:
    from curate.overlap import Overlaps

Compared = Annotated[
    list[str], typer.Argument(metavar="CONFIG|RUN...", help="one YAML file, or two or more runs")
]


def compare(
    compared: Compared,
    overrides: Overrides = None,
    runs: RunsFolder = RUNS,
    stability: Annotated[
        bool,
        typer.Option("--stability", help="tell how a selection depends on seed, dtype, dimension, proxy"),
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="0,1,2", help="of --stability; default: its own and two more"),
    ] = None,
    proxies: Annotated[
        list[str] | None,
        typer.Option("--proxy", metavar="MODEL", help="of --stability: a model in the place of `model:`"),
    ] = None,
    runner: RunnerOption = RunnerName.RAY,
    as_json: AsJson = False,
) -> None:
    """Compare methods, budgets and seeds with random subsets; or tell how alike finished runs are.

    A configuration needs `pipeline: {compare: …}`. Cells that are stored are not computed again. With --stability any
    configuration with a `select`: it runs up to the last one, as it is and with one thing changed at a time.
    """
    if stability:
        _stability(compared, overrides or [], runs, runner, seeds, proxies or [], as_json)
        return
    for option, given in (("--seeds", seeds), ("--proxy", proxies)):
        if given:
            raise ConfigError(f"compare: {option} belongs to --stability. Add that, or leave it out.")
    if len(compared) == 1 and Path(compared[0]).suffix in (".yaml", ".yml"):
        finished = _run(Path(compared[0]), overrides or [], runs, runner, as_json)
        if not (finished.path / "comparison.json").exists():
            raise ConfigError(
                "compare: `stop_after` ends the list before its end, so nothing was compared. Remove it."
            )
        told = json.loads((finished.path / "comparison.json").read_bytes())
        if as_json:
            print(json.dumps(told, indent=1))
        else:
            print_comparison(told, finished.path)
        return
    if overrides:
        raise ConfigError("compare: --set changes a configuration, and runs are given. Leave it out.")
    from curate.overlap import overlaps

    found = overlaps([find_run(name, runs) for name in compared])
    if as_json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print_overlaps(found)


def _run(config: Path, overrides: list[str], runs: Path, runner: RunnerName, as_json: bool) -> Run:
    from curate.config import load_config
    from curate.pipeline import Pipeline
    from curate.progress import Silent, observer
    from curate.start import start

    loaded = load_config(config, overrides)
    if not cast(Pipeline, loaded.config.pipeline).compares:
        raise ConfigError(
            f"{config}: nothing to compare: its `pipeline` is {loaded.config.pipeline.name}. Write `pipeline: "
            "{compare: {methods: …, budgets: …}}`."
        )
    with loaded.marks.located():
        return start(loaded.config, runs, runner.value, Silent() if as_json else observer())


def _stability(
    compared: list[str],
    overrides: list[str],
    runs: Path,
    runner: RunnerName,
    seeds: str | None,
    proxies: list[str],
    as_json: bool,
) -> None:
    from curate.config import load_config
    from curate.progress import Silent, observer
    from curate.stability import stability

    if len(compared) != 1 or Path(compared[0]).suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"compare: --stability takes one configuration (a .yaml file), whose variations it runs. Got "
            f"{', '.join(compared)}."
        )
    numbers = None if seeds is None else _numbers(seeds)
    loaded = load_config(Path(compared[0]), overrides)
    with loaded.marks.located():
        told = Silent() if as_json else observer()
        base = stability(loaded.config, runs, runner.value, told, numbers, list(dict.fromkeys(proxies)))
    if as_json:
        print(json.dumps(base.stability, indent=1))
    else:
        print_stability(base)


def _numbers(seeds: str) -> list[int]:
    parts = [part.strip() for part in seeds.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ConfigError(f"--seeds: must be numbers from 0 with commas between: 0,1,2. Got {seeds!r}.")
    return list(dict.fromkeys(int(part) for part in parts))


def print_stability(base: Run) -> None:
    """Print of each variation what fits a terminal, and the verdicts; the file has all."""
    from curate.stability import HEAD, PRINTED, TABLE, cells, least_alike, sentences

    console, told = Console(), base.stability
    table = Table(Column(PRINTED[0], overflow="fold"), *PRINTED[1:], box=None)
    for each in told["variations"]:
        found = {**dict(zip(HEAD, cells(each), strict=True)), "scores": least_alike(each)}
        if each["axis"] == "dimension":
            found["varied"] = each["varied"].rpartition(".")[2]  # the method's name stands in the verdict
        table.add_row(*(found[name] for name in PRINTED))
    console.print(table)
    for sentence in sentences(told):
        console.print(sentence, highlight=False)
    console.print(f"{base.path / TABLE}", highlight=False)


def print_comparison(told: dict[str, Any], folder: Path) -> None:
    """Print the columns of a comparison that fit a terminal, and its verdicts; the file has all."""
    from curate.comparison import HEAD, PRINTED, cells, tables

    console = Console()
    for title, summaries in tables(told):
        table = Table(*PRINTED, box=None, title=title)
        for summary in summaries:
            found = dict(zip(HEAD, cells(summary), strict=True))
            table.add_row(*(found[name] for name in PRINTED))
        console.print(table)
    for verdict in told["verdicts"]:
        console.print(verdict, highlight=False)
    console.print(f"{folder / 'comparison.md'}", highlight=False)


def print_overlaps(found: "Overlaps") -> None:
    """Print what finished runs kept, and how alike each two are."""
    console = Console()
    table = Table("run", "kept", "held-out loss before", "after", box=None)
    for fact in found.runs:
        losses = (f"{fact[name]:.4f}" if name in fact else "-" for name in ("before", "selected"))
        table.add_row(fact["run"], f"{fact['kept']:,}", *losses)
    console.print(table)
    pairs = Table("run", "run", "shared", "Jaccard", "Spearman of scores", box=None)
    for pair in found.pairs:
        rhos = ", ".join(f"{name} {rho:.3f}" for name, rho in pair.spearman.items())
        pairs.add_row(pair.first, pair.second, f"{pair.shared:,}", f"{pair.jaccard:.3f}", rhos or "-")
    console.print(pairs)
