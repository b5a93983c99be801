"""The errors that reach a user. Each carries the process exit code that `curate` ends with.

A message says where, what was expected, what was found, and what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Where = tuple[str | int, ...]
"""A place in a configuration as the user wrote it: ("stages", 3, "select", "top", "budget")."""


class CurateError(Exception):
    """A failure while running."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration: where, and what. `at_key`: the key itself is wrong."""

    where: Where
    message: str
    at_key: bool = False

    def __str__(self) -> str:
        return f"{written(self.where)}: {self.message}" if self.where else self.message


class ConfigError(CurateError):
    """Wrong usage or configuration, found before any work.

    Give it either a message, or the problems: `ConfigError(problems=[Problem(("stages", 3), "...")])`.
    Who knows the file (`Marks.located`) adds the line and column of each problem.
    """

    exit_code = 2

    def __init__(self, message: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message or "\n".join(map(str, problems)))
        self.problems = tuple(problems)


class DataError(CurateError):
    """The data cannot be used: too many bad rows, an empty pool, a budget larger than the pool."""

    exit_code = 3


def written(where: Where) -> str:
    """A place as text: `stages[3].select.top.budget`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".")
