"""Component: what every method (scorer, selector, mixer, cleaner, clusterer, stage) is.

A frozen pydantic model. Its fields are exactly the keys that a user may write in YAML, each with a
`Field(description=...)`; its name is its file's name; nothing else registers it.
"""

import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

PLUGIN_MODULES = "curate_plugins."
"""Prefix of the module names of files in plug-in folders."""


class Component(BaseModel):
    """A method with typed, described, frozen fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    version: ClassVar[int] = 1
    """Bumped when the formula changes, so that stored results of the old formula are not reused."""

    execution_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change the result (batch size, workers) and so stay out of the fingerprint."""

    dimension_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that are the dimension of a projection or a sketch that its result is computed by (hashed n-grams, a
    sparse code). `curate compare --stability` halves and doubles them."""

    @classmethod
    def method_name(cls) -> str:
        """The name that a user writes: the file's name."""
        return cls.__module__.rpartition(".")[2]

    @property
    def name(self) -> str:
        """The name that a user writes: the file's name."""
        return self.method_name()

    def identity(self) -> dict[str, Any]:
        """Everything about this component that can change its result, as JSON values.

        A component in a field (the adapter of a training) contributes its own identity, version included.
        """
        fields = self.model_dump(mode="json", exclude=set(self.execution_fields))
        for name in fields:
            value = getattr(self, name)
            if isinstance(value, Component):
                fields[name] = value.identity()
            elif isinstance(value, tuple) and any(isinstance(each, Component) for each in value):
                fields[name] = [each.identity() for each in value]
        return {"method": self.name, "version": self.version, **_plugged_in(type(self)), **fields}


def _plugged_in(component: type[Component]) -> dict[str, str]:
    """The hash of a plug-in's file: its author need not remember to bump a version."""
    if not component.__module__.startswith(PLUGIN_MODULES):
        return {}
    file = sys.modules[component.__module__].__file__
    return {"code": blake2b(Path(str(file)).read_bytes(), digest_size=16).hexdigest()}
