"""The functions of the Python API: `curate.run` and `curate.open`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.config import load_config, read_config
from curate.progress import observer
from curate.runs import Run
from curate.start import RunnerName, start


def run(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    runs: str | Path = "runs",
    runner: RunnerName = "ray",
    progress: bool = False,
) -> Run:
    """Run a configuration, a YAML file or plain values of the same shape, to its end.

    overrides: as `--set`, e.g. `["seed=1"]`. progress: print what is done, one line a stage (bars on a terminal).
    Raises ConfigError, DataError or CurateError as the command line would report them.
    """
    told = observer() if progress else None
    if isinstance(config, Mapping):
        loaded = read_config(config, overrides=overrides)
    else:
        loaded = load_config(Path(config), overrides)
    with loaded.marks.located():
        return start(loaded.config, Path(runs), runner, told)


def open(path: str | Path) -> Run:
    """Open a run's folder: a finished run, a running one, or one that failed."""
    return Run(Path(path))
