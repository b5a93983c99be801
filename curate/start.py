"""Start: one configuration to one finished run. What `curate run` and `curate.run` call."""

import os
import platform
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast

from curate.config import dump_config
from curate.engine import Engine
from curate.errors import CurateError, DataError
from curate.outputs import write_outputs, write_quarantine, write_rejected
from curate.pipeline import Pipeline, build
from curate.progress import Observer, Silent
from curate.runner import Runner
from curate.runs import Run
from curate.spec import Config
from curate.stages.ingest import Ingest
from curate.stages.models import ModelHandle
from curate.store import fingerprint, hold, write_json

RunnerName = Literal["ray", "local"]
PACKAGES = (
    "curate-llm",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "polars",
    "ray",
    "faiss-cpu",
)


def start(config: Config, runs: Path, runner: RunnerName = "ray", observer: Observer | None = None) -> Run:
    """Run a configuration to its end and open the run. What is stored is not computed again.

    runs: the folder that holds runs and their shared store. Raises ConfigError before any work, DataError
    for unusable data, CurateError for a failure while running; what was finished stays stored.
    """
    ingest = build(config)[0]
    if not isinstance(ingest, Ingest):
        raise CurateError("the first stage must read the sources")
    name = run_id(config, ingest)
    told = observer or Silent()
    # Workers of a cluster start in folders of their own: what they are given is absolute.
    store = runs.resolve() / "store"
    with hold(store / f".lock-run-{name}", lambda: told.note(f"another process runs {name}; waiting for it")):
        run = _run(config, ingest, runs / name, Engine(store, make_runner(runner), told))
        cast(Pipeline, config.pipeline).conclude(
            config, run, lambda other: start(other, runs, runner, observer)
        )
        return run


def _run(config: Config, ingest: Ingest, folder: Path, engine: Engine) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    files = [file.file.label for file in ingest.files]
    facts = {
        "name": config.name,
        "id": folder.name,
        "config": _resolved(config),
        "seed": config.seed,
        "files": files,
        "schemas": ingest.schemas(),
        **_environment(),
    }
    begun = time.monotonic()

    def record(status: str, **more: str) -> None:
        seconds = round(time.monotonic() - begun, 3)
        done = {"status": status, "runner": engine.runner.describe(), "seconds": seconds}
        write_json(folder / "run.json", {**facts, **done, **more, "stages": engine.records})

    def after_stage(stage: Mapping[str, Any]) -> None:
        record("running")
        if stage["quarantined"]:
            causes = write_quarantine(folder, engine.store, engine.records, files)
            _stop_if_bad(causes, engine.records[0], config.max_bad_fraction, folder)

    engine.after_stage = after_stage
    try:
        record("running")
        cast(Pipeline, config.pipeline).run(config, engine)
        model = config.model.path if config.model else None
        write_outputs(folder, engine.store, engine.records, files, model, engine.observer.note)
        record("running")
        _export(folder)
        record("done")
    except KeyboardInterrupt:
        record("interrupted")
        # The last line that a notebook shows; the command line has its own.
        told = (
            f"{folder.name} was stopped. What is finished is stored: run it again, and it goes on from there."
        )
        raise KeyboardInterrupt(told) from None
    except Exception as error:
        record("failed", error=str(error))
        if engine.records:
            write_rejected(folder, engine.store, engine.records, files, engine.observer.note)
        raise
    finally:
        engine.runner.close()
    return Run(folder)


def run_id(config: Config, ingest: Ingest) -> str:
    """`<name>-<8 hex digits>` of the resolved configuration and the content of its inputs, methods' files included."""
    model = ModelHandle(config.model).identity() if config.model else None
    methods = [method.identity() for entry in config.stages for method in entry.methods]
    bounds = [entry.constraints and entry.constraints.with_files() for entry in config.stages]
    ids = [each and each.model_dump(mode="json") for each in bounds]
    return f"{config.name}-{fingerprint([dump_config(config), ingest.identity(), model, methods, ids])[:8]}"


def _resolved(config: Config) -> dict[str, Any]:
    """The configuration as it was run: of the model, its place, commit and precision too."""
    if config.model is None:
        return dump_config(config)
    return dump_config(config.model_copy(update={"model": ModelHandle(config.model).pinned}))


def make_runner(name: RunnerName) -> Runner:
    """The runner of a name."""
    if name == "local":
        from curate.runners.local import Local

        return Local()
    from curate.runners.ray import Ray

    return Ray()


def _export(folder: Path) -> None:
    """The selected rows in their original schema, in the run's own folder."""
    shutil.rmtree(folder / "export", ignore_errors=True)
    Run(folder).export(folder / "export")


def _stop_if_bad(causes: Sequence[str], ingest: Mapping[str, Any], limit: float, folder: Path) -> None:
    total = ingest["rows"] + ingest["quarantined"]
    if len(causes) <= limit * total:
        return
    common = "\n".join(f"  {count:>8,}  {cause}" for cause, count in Counter(causes).most_common(10))
    raise DataError(
        f"{len(causes):,} of {total:,} rows ({len(causes) / total:.1%}) cannot be used, at most {limit:.1%} may "
        f"be (`max_bad_fraction`). Causes:\n{common}\nEach with file and line: {folder / 'quarantine.jsonl'}"
    )


def _environment() -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "commit": _commit(),
        "machine": {
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "processor": platform.machine(),
        },
    }


def _commit() -> str | None:
    """The commit of the working directory, where it is a git checkout."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
