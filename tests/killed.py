"""A run that kills its own process, with SIGKILL, in the middle of one stage.

python killed.py LABEL CONFIG RUNS: dies when stage LABEL has finished its first shard, checkpoint or file.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import curate
from curate.store import Entry
from curate.training import checkpoints


def main(label: str, config: str, runs: str) -> None:
    finish, seal = Entry._finish, checkpoints.seal

    def finish_and_die(entry: Entry, *arguments: Any, **more: Any) -> Any:
        shard = finish(entry, *arguments, **more)
        if entry.stage == label:
            os.kill(os.getpid(), signal.SIGKILL)
        return shard

    def seal_and_die(folder: Path, plan: str) -> None:
        seal(folder, plan)
        if any(part.startswith(f".work-{label}-") for part in folder.parts):
            os.kill(os.getpid(), signal.SIGKILL)

    Entry._finish = finish_and_die  # type: ignore[method-assign]
    checkpoints.seal = seal_and_die
    curate.run(config, runs=runs, runner="local")


if __name__ == "__main__":
    main(*sys.argv[1:])
