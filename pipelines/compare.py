"""Compare: the list with its last `select` exchanged for each method, at each budget, with each seed.

Every cell is a run of its own, of the same pool, held-out rows, scores and training, and is stored: another method or
seed computes only what is new. All train on equal supervised tokens (the budget, to within a row) in equally many
optimizer steps (`train.steps_per_epoch`). Beside the methods stand, drawn from the rows that the methods choose from,
`random` and, for each method, a length-matched random subset; and `full`: the pool before any stage, shuffled, cut at
the same tokens. Constraints beside the exchanged `select` bind the methods alone. A seed draws selection, mixture and
training anew (`trial`). What is found stands in the comparison's own folder, in comparison.json and comparison.md;
the list's own `select` is run too, by itself.

The intervals are over the seeds, of draw and training, on one set of held-out rows: that other rows might have been
held out is not in them. Each is at 95 % by itself, without correction for the number of methods: of twenty that are
like random about one is said to differ.

Source: paired repeats against random subsets, as Xia et al., "Rethinking data selection at scale", 2024, ask for.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from curate import phrases
from curate.budget import Budget
from curate.comparison import Cell, Comparison, Kind
from curate.component import Component
from curate.engine import Engine
from curate.errors import ConfigError, Problem
from curate.methods import read_method, registry_in
from curate.pipeline import Pipeline, build
from curate.registry import Registry
from curate.runs import Run
from curate.selector import Selector
from curate.selectors.length_matched_random import LengthMatchedRandom
from curate.selectors.random import Random
from curate.settings import ModelSpec
from curate.spec import Config, StageEntry
from curate.stages.evaluate import Evaluate
from curate.training.spec import Train
from curate.view import View
from pipelines.straight import Straight

Baseline = Literal["random", "length_matched_random", "full"]
MATCHED = "{}, lengths"
"""Name of the length-matched subset of a method."""


@dataclass(frozen=True)
class _Trial:
    """A cell, and the configuration that fills it."""

    cell: Cell
    config: Config


class Compare(Pipeline):
    """Methods × budgets × seeds against random, by the same training."""

    compares: ClassVar[bool] = True

    methods: Mapping[str, Any] = Field(
        min_length=1,
        description="name -> selector as under `select`, without its budget: {low_loss: {top: {by: loss}}}",
    )
    budgets: tuple[Budget, ...] = Field(
        min_length=1,
        description='supervised tokens that each selection may have: ["3000 tokens", "1M tokens"]',
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0, 1, 2), min_length=1, description="one repeat of all for each"
    )
    baselines: tuple[Baseline, ...] = Field(
        default=("random", "length_matched_random", "full"), description="what stands beside the methods"
    )
    models: tuple[ModelSpec, ...] = Field(
        default=(), description="models to do all this with, in place of the configuration's own"
    )
    noise: str | None = Field(
        default=None,
        description="metadata field that is empty or `none` for a sound row: the share kept of others is told",
    )

    @model_validator(mode="after")
    def _sound(self, info: ValidationInfo) -> Self:
        found = [
            Problem(
                ("budgets", index),
                f"must be a number of tokens, the same for all: 3000 tokens. Got {budget}.",
            )
            for index, budget in enumerate(self.budgets)
            if budget.unit != "tokens" or budget.is_share
        ]
        for key, listed in (("budgets", self.budgets), ("seeds", self.seeds), ("models", self.models)):
            twice = [index for index, each in enumerate(listed) if each in listed[:index]]
            found += [Problem((key, index), "is listed twice. Remove one.") for index in twice]
        for name, written in self.methods.items():
            if name in ("random", "full") or name.endswith(MATCHED.format("")):
                found.append(
                    Problem(("methods", name), f"`{name}` is the name of a baseline. Choose another.", True)
                )
            try:
                selector_of(written, self.budgets[0], registry_in(info))
            except ValidationError as error:
                problems = phrases.problems(error, Component, written)
                found += [Problem(("methods", name, *each.where), each.message) for each in problems]
        if found:
            raise phrases.raised(found, "compare")
        return self

    def expand(self, config: Config) -> Config:
        """The list as it is; checks that every cell can be built."""
        for trial in self._trials(config):
            build(trial.config)
        return config

    def run(self, config: Config, engine: Engine) -> View:
        """The list itself."""
        return Straight().run(config, engine)

    def conclude(self, config: Config, run: Run, again: Callable[[Config], Run]) -> None:
        """Run every cell; write what is found after each. Nothing where the list itself stops before its end."""
        if config.stop_after is not None and config.stop_after < len(config.stages):
            return
        noise = None if self.noise is None else f"meta.{self.noise}"
        comparison = Comparison(run.path, noise)
        for trial in self._trials(config):
            comparison.add(trial.cell, again(trial.config))

    def _trials(self, config: Config) -> Iterator[_Trial]:
        kinds = [entry.kind for entry in config.stages]
        if missing := [kind for kind in ("select", "train", "evaluate") if kind not in kinds]:
            raise ConfigError(
                f"compare: the list needs a `{missing[0]}`; the last `select` is what is exchanged."
            )
        train = config.stages[kinds.index("train")].methods[0]
        assert isinstance(train, Train)
        if train.steps_per_epoch is None:
            raise ConfigError(
                "compare: `train` needs `steps_per_epoch`, so that every selection is trained in equally many steps."
            )
        place = len(kinds) - 1 - kinds[::-1].index("select")
        if config.stages[place].constraints is not None and "length_matched_random" in self.baselines:
            raise ConfigError(
                "compare: `length_matched_random` would match what a method chooses without the `constraints` of the "
                "`select`. Remove one: `baselines: [random, full]`, or the constraints."
            )
        if self.noise is not None and not any(self.noise in source.metadata for source in config.sources):
            raise ConfigError(
                f"compare: `noise` must be a metadata field of a source. Got {self.noise}. Add `metadata: "
                f"[{self.noise}]` to every source that has it."
            )
        for model in self.models or (config.model,):
            yield from self._of_model(config.model_copy(update={"model": model}), place)

    def _of_model(self, config: Config, place: int) -> Iterator[_Trial]:
        registry = Registry(config.plugins)
        for budget in self.budgets:
            methods = {name: selector_of(each, budget, registry) for name, each in self.methods.items()}
            for seed in self.seeds:
                if "random" in self.baselines:
                    yield _trial(config, place, "random", Random(budget=budget), budget, seed, "baseline")
                if "full" in self.baselines:
                    yield _full(config, budget, seed)
                for name, method in methods.items():
                    yield _trial(config, place, name, method, budget, seed, "method")
                    if "length_matched_random" in self.baselines:
                        matched = LengthMatchedRandom(like=method)
                        yield _trial(config, place, MATCHED.format(name), matched, budget, seed, "matched")


def selector_of(written: Any, budget: Budget, registry: Registry) -> Selector:
    """A selector as it is written, with the budget. Raises pydantic's ValidationError at the user's keys."""
    given = {written: None} if isinstance(written, str) else written
    if isinstance(given, Mapping) and len(given) == 1:
        ((name, fields),) = given.items()
        if isinstance(fields, Mapping) and "budget" in fields:
            problem = Problem((name, "budget"), "must be left out: each of `budgets` is set in turn.", True)
            raise phrases.raised([problem], "compare")
        if fields is None or isinstance(fields, Mapping):
            given = {name: {**(fields or {}), "budget": str(budget)}}
    selector = read_method("selectors", given, registry)
    assert isinstance(selector, Selector)
    return selector


def _trial(
    config: Config,
    place: int,
    name: str,
    selector: Selector,
    budget: Budget,
    seed: int,
    kind: Kind,
) -> _Trial:
    entry = config.stages[place]
    limits = entry.constraints if kind == "method" else None
    chosen = StageEntry(kind="select", methods=(selector,), resources=entry.resources, constraints=limits)
    stages = (*config.stages[:place], chosen, *config.stages[place + 1 :])
    return _Trial(_cell(config, name, kind, budget, seed), _straight(config, stages, seed))


def _full(config: Config, budget: Budget, seed: int) -> _Trial:
    """Rows of the pool before any stage, in random order, to the same tokens."""
    chosen = StageEntry(kind="select", methods=(Random(budget=budget),))
    rest = tuple(entry for entry in config.stages if entry.kind in ("train", "evaluate"))
    cell = _cell(config, "full", "baseline", budget, seed)
    return _Trial(cell, _straight(config, (chosen, *rest), seed))


def _cell(config: Config, name: str, kind: Kind, budget: Budget, seed: int) -> Cell:
    return Cell(name, kind, _label(config.model), str(budget), seed)


def _label(model: ModelSpec | None) -> str:
    """A model's path, and what else is set of it: two may differ in their adapter alone."""
    if model is None:
        return ""
    set_beside = model.model_dump(mode="json", exclude_defaults=True, exclude={"path"})
    more = ", ".join(f"{name} {value}" for name, value in set_beside.items())
    return f"{model.path} ({more})" if more else model.path


def _straight(config: Config, stages: tuple[StageEntry, ...], seed: int) -> Config:
    """The configuration of a cell: no baselines of its own, no other shape."""
    plain = tuple(
        entry.model_copy(update={"methods": (method.model_copy(update={"baselines": ()}),)})
        if isinstance(method := entry.methods[0], Evaluate)
        else entry
        for entry in stages
    )
    return config.model_copy(update={"pipeline": Straight(), "stages": plain, "trial": seed})
