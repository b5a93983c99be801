"""Pipeline: an ordered list of stages, built from a configuration, checked, planned, run.

The list is that of `stages:` with what the engine adds itself in front: ingest, tokenize (where there
is a model), hold out (where there is an evaluation). Other shapes of pipeline wrap the same list, put items
into it (`expand`), or stages among those that it became (`arrange`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from curate.component import Component
from curate.engine import Engine
from curate.errors import ConfigError, Where
from curate.items import entry_error, front, stages_of
from curate.settings import Resources
from curate.spec import Config
from curate.stage import Stage
from curate.stages.characters import CountCharacters
from curate.stages.contamination import Contamination
from curate.stages.embed import TARGET_EMBEDDING
from curate.stages.models import ModelHandle
from curate.stages.target_rows import TARGET_ROWS
from curate.training.spec import Train
from curate.view import View

if TYPE_CHECKING:
    from curate.runs import Run

PROVIDERS = {
    "cluster": "a `cluster` stage before it",
    "cluster_distance": "a `cluster` stage before it",
    "artifact:adapter": "a `train` stage before it",
    "artifact:schedule": "a `mix` stage before it",
    f"artifact:{TARGET_EMBEDDING}": "an `embed` stage before it, and `target:`",
    f"artifact:{TARGET_ROWS}": "`target:` to the configuration",
    "embedding": "an `embed` stage before it",
    "held_out": "`evaluate` to `stages`, or `target:` to the configuration",
    "rank": "a `select` stage before it",
    **dict.fromkeys(
        ("input_ids", "supervised", "tokens", "supervised_tokens", "supervised_characters"),
        "`model:` to the configuration",
    ),
}


class Pipeline(Component, ABC):
    """A shape of pipeline: how the list of stages is run (once, in rounds, per method …)."""

    compares: ClassVar[bool] = False
    """Whether it leaves a comparison (comparison.json) in its run's folder."""

    def expand(self, config: Config) -> Config:
        """The configuration with the stages that this shape puts into the list.

        Those of the user stay the same objects. Called by `expanded` alone. Raises ConfigError.
        """
        return config

    def arrange(self, stages: Sequence[Stage]) -> Sequence[Stage]:
        """The stages of the list, in order, with those that this shape exchanges for others or puts among them.

        What takes the place of a stage keeps its `entry`. Called by `build` alone, before it checks that every
        need is met. Finds no files. Raises ConfigError.
        """
        return stages

    @abstractmethod
    def run(self, config: Config, engine: Engine) -> View:
        """Run the stages of `config` on the engine; return the last view."""

    def conclude(self, config: Config, run: "Run", again: "Callable[[Config], Run]") -> None:
        """What this shape does when its run is done: other runs in the same folder (`again`), files beside its own."""


def expanded(config: Config) -> Config:
    """The configuration with what its pipeline puts into the list; `stop_after` ends before the same item as before."""
    full = cast(Pipeline, config.pipeline).expand(config)
    if config.stop_after is None or config.stop_after >= len(config.stages):
        return full.model_copy(update={"stop_after": None})
    first_left = config.stages[config.stop_after]
    places = [place for place, entry in enumerate(full.stages) if entry is first_left]
    return full.model_copy(update={"stop_after": places[0]})


def build(config: Config) -> tuple[Stage, ...]:
    """The stages of a configuration, in order, checked: every column that one needs, an earlier one adds.

    Those that its pipeline puts in are among them. Finds no files and loads no model. Raises ConfigError naming
    the item of `stages:`, or the pipeline for an item that it put in.
    """
    full = expanded(config)
    try:
        return _build(full)
    except ConfigError as error:
        if not error.problems:
            raise
        problems = [replace(each, where=_place(each.where, config, full)) for each in error.problems]
        raise ConfigError(problems=problems) from error


def _place(where: Where, config: Config, full: Config) -> Where:
    """Where the user finds what stands at this place of the expanded configuration."""
    if where[:1] != ("stages",) or len(where) < 2:
        return where
    entry = full.stages[int(where[1])]
    own = [index for index, each in enumerate(config.stages) if each is entry]
    return ("stages", own[0], *where[2:]) if own else ("pipeline",)


def _build(config: Config) -> tuple[Stage, ...]:
    model = ModelHandle(config.model) if config.model else None
    stages = front(config, model)
    known: dict[str, bool | None] = {}
    train: Train | None = None
    mixed = False
    for index, entry in enumerate(config.stages):
        if entry.kind == "contamination" and any(e.kind == entry.kind for e in config.stages[:index]):
            raise entry_error(index, "there must be at most one `contamination`. Remove one.")
        if train is not None and entry.kind != "evaluate":
            raise entry_error(index, f"`{entry.kind}` comes after `train`; only `evaluate` may.")
        drops = isinstance(entry.methods[0], Contamination) and entry.methods[0].drop
        if mixed and (entry.kind in ("clean", "select") or drops):
            raise entry_error(
                index, f"`{entry.kind}` comes after `mix` and would break its schedule. Move it before."
            )
        if entry.kind == "train":
            train = cast(Train, entry.methods[0])
        elif entry.kind == "evaluate" and train is None:
            raise entry_error(index, "`evaluate` needs a `train` stage before it.")
        before = len(stages)
        stages += stages_of(config, model, entry, index, known, train, mixed)
        mixed = mixed or entry.kind == "mix"
        added = {name: better for stage in stages[before:] for name, better in stage.directions.items()}
        if twice := sorted(known.keys() & added.keys()):
            raise entry_error(
                index,
                f"`{twice[0]}` is computed by an earlier `score` too. Score it once, where it is needed first.",
            )
        known |= added
    if model is None and any("supervised_characters" in stage.needs for stage in stages):
        stages.insert(1, CountCharacters("characters", None, Resources(), config.tokens.train_on))
    arranged = cast(Pipeline, config.pipeline).arrange(stages)
    _check(arranged)
    last = len(config.stages) if config.stop_after is None else config.stop_after
    return tuple(stage for stage in arranged if stage.entry is None or stage.entry < last)


def _check(stages: Sequence[Stage]) -> None:
    """Every need is met by an earlier stage. Raises ConfigError naming the column and what adds it."""
    present: set[str] = set()
    for stage in stages:
        for need in sorted(stage.needs):
            if need not in present:
                provider = PROVIDERS.get(need)
                if provider is None and need.startswith("score."):
                    provider = f"`score: [{need.split('.')[1]}]` before it"
                if provider is None and need.startswith("meta."):
                    provider = f"`metadata: [{need.removeprefix('meta.')}]` to every source that has it"
                advice = f"Add {provider}." if provider else "No stage adds that."
                message = f"`{stage.label}` needs `{need}`, which nothing before it adds. {advice}"
                raise entry_error(stage.entry, message)
        present |= stage.adds | {f"rows:{name}" for name in stage.names_rows}
