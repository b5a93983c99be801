"""Local: one process, one unit after another. The reference semantics, and the one to debug with."""

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from curate.runner import Runner, Task
from curate.settings import Resources


class Local(Runner):
    """Runs everything here and now; `resources` are not needed."""

    def map(
        self, task: Task, units: Sequence[Any], resources: Resources, uses_model: bool
    ) -> Iterator[dict[str, Any]]:
        """One unit after another, in order."""
        if not units:
            return
        state = task.setup()
        for unit in units:
            yield task.run(unit, state)

    def call(
        self, function: Callable[[], dict[str, Any]], resources: Resources, uses_model: bool
    ) -> dict[str, Any]:
        """Run it here."""
        try:
            return function()
        finally:
            if uses_model:
                gc.collect()  # a trained model hangs in a cycle with its trainer

    def workers(self, resources: Resources, uses_model: bool, units: int) -> int:
        """One."""
        return 1

    @property
    def separate(self) -> bool:
        """No."""
        return False

    def describe(self) -> str:
        """This process."""
        return "local, 1 process"

    def close(self) -> None:
        """Nothing to release."""
