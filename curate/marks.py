"""Marks: the file, line and column of every part of a configuration, so that errors can name them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from curate.errors import ConfigError, Problem, Where


@dataclass(frozen=True)
class Mark:
    """A place in a file, line and column counted from 1; or, with line 0, a `--set` argument."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    @property
    def order(self) -> tuple[bool, int, int]:
        """By line, then column; the command line comes last."""
        return (self.line == 0, self.line, self.column)


@dataclass(frozen=True)
class Located:
    """A problem whose place is known."""

    mark: Mark | None
    problem: Problem

    def __str__(self) -> str:
        return f"{self.mark}: {self.problem}" if self.mark else str(self.problem)


@dataclass(frozen=True)
class Marks:
    """Where each part of a configuration stands. Empty for a configuration that came from Python.

    values: for a plain value its own place, for a list or mapping that of the key that introduces it.
    keys: the place of each key.
    """

    values: Mapping[Where, Mark] = field(default_factory=dict)
    keys: Mapping[Where, Mark] = field(default_factory=dict)

    def at(self, where: Where, key: bool = False) -> Mark | None:
        """The place of a part, or of the nearest part around it; None if nothing is known."""
        if key and where in self.keys:
            return self.keys[where]
        for length in range(len(where), -1, -1):
            if where[:length] in self.values:
                return self.values[where[:length]]
        return None

    def error(self, problems: Iterable[Problem], located: Sequence[Located] = ()) -> ConfigError:
        """One error that lists all problems in the order of the file, one a line."""
        found = [*located, *(Located(self.at(each.where, each.at_key), each) for each in problems)]
        found.sort(key=lambda each: each.mark.order if each.mark else (False, 0, 0))
        lines = list(dict.fromkeys(map(str, found)))
        return ConfigError("\n".join(lines), [each.problem for each in found])

    @contextmanager
    def located(self) -> Iterator[None]:
        """Give every problem of a ConfigError that is raised inside its file, line and column."""
        try:
            yield
        except ConfigError as error:
            if not error.problems:
                raise
            raise self.error(error.problems) from error
