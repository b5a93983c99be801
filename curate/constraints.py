"""Constraints: bounds on what a selector may choose, written beside it. See admission.py for how they are kept.

Imports neither torch nor ray nor polars, so that `curate check` is quick.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from curate.budget import Budget
from curate.errors import ConfigError
from curate.settings import Spec

Bounds = Budget | Mapping[str, Budget]
"""One bound for every group, or one for each that is named."""


class Constraints(Spec):
    """The `constraints:` beside a `select`: every one must hold in what is kept.

    A bound is a number of rows, a share of the selection's budget in its own unit ("40%"; of a maximum rounded down,
    of a minimum up), or a number of tokens or characters; those two are supervised ones. One bound for every group
    leaves rows without a value alone, for they are no group; `{null: 20}` bounds them.
    """

    max_per: Mapping[str, Bounds] = Field(
        default_factory=dict,
        description="most of each group of a column, or of the groups named: {source: 40%, cluster: 20, group: 1, "
        "meta.level: {hard: 500}}; {group: 1} keeps one row of each duplicate group",
    )
    min_per: Mapping[str, Bounds] = Field(
        default_factory=dict,
        description="least of each group of a column, or of the groups named: {source: {code: 200, math: 10%}}",
    )
    include: tuple[str, ...] = Field(default=(), description="ids (or uids) of rows that must be kept")
    exclude: tuple[str, ...] = Field(default=(), description="ids (or uids) of rows that must not be kept")
    include_file: Path | None = Field(
        default=None, description="text file with more ids to include, one a line"
    )
    exclude_file: Path | None = Field(
        default=None, description="text file with more ids to exclude, one a line"
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        both = sorted(set(self.include) & set(self.exclude))
        if both:
            raise ValueError(f"`{both[0]}` is in `include` and in `exclude`. Remove it from one of them.")
        if self == Constraints.model_construct():
            raise ValueError("must constrain something: max_per, min_per, include or exclude")
        return self

    def with_files(self) -> "Constraints":
        """The same with the ids of the files among the others. Raises ConfigError for a file that cannot be read."""
        include = (*self.include, *_ids(self.include_file))
        exclude = (*self.exclude, *_ids(self.exclude_file))
        if both := sorted(set(include) & set(exclude)):
            raise ConfigError(f"constraints: `{both[0]}` is to be included and to be excluded.")
        files = {"include_file": None, "exclude_file": None}
        return self.model_copy(update={"include": include, "exclude": exclude, **files})


def _ids(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"constraints: {file} must be a text file with an id a line. {error}") from error
    return tuple(line.strip() for line in lines if line.strip())
