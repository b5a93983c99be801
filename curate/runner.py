"""Runner: maps a task over units of work. It knows neither rows nor stages."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from curate.settings import Resources


class Task(Protocol):
    """Something that workers do unit by unit. Pickled to each worker; results are small."""

    def setup(self) -> Any:
        """Runs once per worker."""
        ...

    def run(self, unit: Any, state: Any) -> dict[str, Any]:
        """Does one unit, writes what it makes to the store, returns a few numbers."""
        ...


class Runner(ABC):
    """Where tasks run."""

    @abstractmethod
    def map(
        self, task: Task, units: Sequence[Any], resources: Resources, uses_model: bool
    ) -> Iterator[dict[str, Any]]:
        """Do every unit, in any order; yield each result as it comes. The first error is raised."""

    @abstractmethod
    def call(
        self, function: Callable[[], dict[str, Any]], resources: Resources, uses_model: bool
    ) -> dict[str, Any]:
        """Run one function to its end in a worker."""

    @abstractmethod
    def workers(self, resources: Resources, uses_model: bool, units: int) -> int:
        """How many workers `map` would give so many units, above 0."""

    @property
    def separate(self) -> bool:
        """Whether workers are processes of their own."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """One phrase for the run's record: what it runs on."""

    @abstractmethod
    def close(self) -> None:
        """Release the workers."""
