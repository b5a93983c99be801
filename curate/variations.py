"""Variations: a configuration up to its last `select`, and the same with one thing changed at a time.

Along four axes. seed: another seed for all that is drawn (clusters, earlier selections, references, the selection
itself), the held-out rows the same. dtype: every model that a score or an embedding reads, in bfloat16 and in float32.
dimension: each field that a method names in `dimension_fields`, halved and doubled. proxy: other models in the place
of `model:`. A variation that changes nothing of what any stage computes is left out; an axis without one is told, with
the cause.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import ValidationError

from curate.component import Component
from curate.errors import ConfigError
from curate.pipeline import build
from curate.settings import ModelSpec
from curate.spec import Config, StageEntry
from curate.stage import SourceStage
from curate.stages.models import ModelHandle

Axis = Literal["seed", "dtype", "dimension", "proxy"]
AXES: tuple[Axis, ...] = get_args(Axis)
DTYPES: tuple[Literal["bfloat16"], Literal["float32"]] = ("bfloat16", "float32")
MORE_SEEDS = 2
"""Seeds beside the configuration's own where none are given."""
NOTHING: Mapping[Axis, str] = {
    "seed": "no seed but the configuration's own was given",
    "dtype": "no stage up to the selection reads a model whose precision is chosen here",
    "dimension": "no method up to the selection has a projection or a sketch of a dimension that can be changed",
    "proxy": "no other model was given (`--proxy MODEL`)",
}
"""Why an axis has no variation."""


@dataclass(frozen=True)
class Variation:
    """One thing changed. was: what stood there, as a user writes it; value: what stands there now."""

    axis: Axis
    was: str
    value: str
    config: Config

    @property
    def label(self) -> str:
        """As it stands in tables: `seed 1`; a dimension names itself."""
        return self.value if self.axis == "dimension" else f"{self.axis} {self.value}"


@dataclass(frozen=True)
class Variations:
    """base: the configuration as it is, up to its last `select`; left_out: axis -> why it has no variation."""

    base: Config
    found: Sequence[Variation]
    left_out: Mapping[Axis, str]


def variations(config: Config, seeds: Sequence[int] | None = None, proxies: Sequence[str] = ()) -> Variations:
    """What to run. seeds: the configuration's own among them is the base; None: it and the next two.

    Finds the models, and computes nothing. Raises ConfigError for a list without a `select`, for proxies of no model
    or that no stage reads, and where nothing is left to vary.
    """
    base = up_to_select(config)
    # What an agreement measures of scores is of no use to a variation, and reads the model again.
    plain = base.model_copy(update={"agreement_rows": 0})
    unchanged = _identities(plain)
    if seeds is None:
        seeds = range(config.seed, config.seed + 1 + MORE_SEEDS)
    found = [*_seeds(plain, seeds)]
    for each in (*_dtypes(plain), *_dimensions(plain)):
        if _identities(each.config) != unchanged:
            found.append(each)
    for each in _proxies(plain, proxies):
        if _identities(each.config) == unchanged:
            raise ConfigError(
                f"--proxy {each.value}: no stage up to the last `select` reads the model, or it is the same one. "
                "Leave it out."
            )
        found.append(each)
    left_out = {axis: NOTHING[axis] for axis in AXES if axis not in {each.axis for each in found}}
    if not found:
        causes = "; ".join(f"{axis}: {cause}" for axis, cause in left_out.items())
        raise ConfigError(f"stability: there is nothing to vary. {causes}.")
    return Variations(base, found, left_out)


def up_to_select(config: Config) -> Config:
    """The configuration that stops after the last `select` that it comes to. Raises ConfigError without one."""
    last = len(config.stages) if config.stop_after is None else config.stop_after
    places = [index for index, entry in enumerate(config.stages[:last]) if entry.kind == "select"]
    if not places:
        raise ConfigError("stability: the list has no `select`, so there is no selection. Add one.")
    after = places[-1] + 1
    return config.model_copy(update={"stop_after": None if after == len(config.stages) else after})


def _seeds(config: Config, seeds: Sequence[int]) -> Iterator[Variation]:
    held_out = config.seed if config.held_out_seed is None else config.held_out_seed
    for seed in seeds:
        if seed != config.seed:
            changed = config.model_copy(update={"seed": seed, "held_out_seed": held_out})
            yield Variation("seed", str(config.seed), str(seed), changed)


def _dtypes(config: Config) -> Iterator[Variation]:
    was = "auto" if config.model is None else ModelHandle(config.model).pinned.dtype
    for dtype in DTYPES:
        model = None if config.model is None else config.model.model_copy(update={"dtype": dtype})
        stages = tuple(_with_methods(entry, dtype) for entry in config.stages)
        yield Variation("dtype", was, dtype, config.model_copy(update={"model": model, "stages": stages}))


def _with_methods(entry: StageEntry, dtype: str) -> StageEntry:
    return entry.model_copy(update={"methods": tuple(_in_precision(each, dtype) for each in entry.methods)})


def _in_precision(method: Component, dtype: str) -> Component:
    """The method with the models that its fields name (a rater, a reference, a family) in this precision."""
    changed: dict[str, Any] = {}
    for name in type(method).model_fields:
        value = getattr(method, name)
        if isinstance(value, ModelSpec):
            changed[name] = value.model_copy(update={"dtype": dtype})
        elif isinstance(value, tuple) and value and all(isinstance(each, ModelSpec) for each in value):
            changed[name] = tuple(each.model_copy(update={"dtype": dtype}) for each in value)
    return method.model_copy(update=changed)


def _dimensions(config: Config) -> Iterator[Variation]:
    for place, entry in enumerate(config.stages[: config.stop_after]):
        for index, method in enumerate(entry.methods):
            for name in method.dimension_fields:
                was = getattr(method, name)
                for value in () if was is None else (was // 2, was * 2):
                    changed = _with_field(method, name, value)
                    if changed is None:
                        continue
                    methods = (*entry.methods[:index], changed, *entry.methods[index + 1 :])
                    other = entry.model_copy(update={"methods": methods})
                    stages = (*config.stages[:place], other, *config.stages[place + 1 :])
                    label = f"{method.name}.{name}"
                    yield Variation(
                        "dimension",
                        f"{label} {was}",
                        f"{label} {value}",
                        config.model_copy(update={"stages": stages}),
                    )


def _with_field(method: Component, name: str, value: int) -> Component | None:
    """The method with another value in a field; None where the field does not allow it."""
    fields = {each: getattr(method, each) for each in type(method).model_fields}
    try:
        return type(method).model_validate({**fields, name: value})
    except ValidationError:
        return None


def _proxies(config: Config, proxies: Sequence[str]) -> Iterator[Variation]:
    if proxies and config.model is None:
        raise ConfigError("--proxy: stands in the place of `model:`, and the configuration has none.")
    for proxy in proxies:
        assert config.model is not None
        update = {"path": proxy, "revision": None, "adapter": None}
        model = config.model.model_copy(update=update)
        yield Variation("proxy", config.model.path, proxy, config.model_copy(update={"model": model}))


def _identities(config: Config) -> list[dict[str, Any]]:
    """Of all that is computed from the rows; two configurations of equal ones compute the same."""
    return [
        stage.output_identity(output)
        for stage in build(config)
        if not isinstance(stage, SourceStage)
        for output in stage.outputs
    ]
