"""Arguments and options that several commands share."""

import enum
from pathlib import Path
from typing import Annotated

import typer


class RunnerName(enum.Enum):
    """Where work runs."""

    RAY = "ray"
    LOCAL = "local"


class Format(enum.Enum):
    """What an export writes."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    HF = "hf"


RUNS = Path("runs")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="the YAML file of the run")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="change one value, as in select.top.budget=20%"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON in place of a table")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugins", metavar="DIR", help="a folder with methods of your own")
]
RunsFolder = Annotated[
    Path, typer.Option("--runs", metavar="DIR", help="the folder of all runs and their store")
]
ProbeOption = Annotated[
    bool, typer.Option("--probe/--no-probe", help="try what never ran here on a few rows")
]
MaxHours = Annotated[
    float | None,
    typer.Option(
        "--max-hours", metavar="H", min=0, help="do not start where it will take longer; it is probed"
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        "--max-memory-gib",
        metavar="GIB",
        min=0,
        help="do not start where a stage needs more memory than this; default: what is available",
    ),
]
RunnerOption = Annotated[
    RunnerName, typer.Option("--runner", help="ray, or local: one process, to debug with")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="a run's folder, or its name under --runs")]
