"""Pipeline: an ordered list of stages, built from a configuration, checked, planned, run.

The list is that of `stages:` with what the engine adds itself in front: ingest, tokenize (where there
is a model), hold out (where there is an evaluation). Other shapes of pipeline wrap the same list, put items
into it (`expand`), or stages among those that it became (`arrange`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from curate.cleaner import Deduplicator, Filter
from curate.clusterer import Clusterer
from curate.component import Component
from curate.engine import Engine
from curate.errors import ConfigError, Problem, Where
from curate.mixer import Mixer, Preparation
from curate.numerics.seeds import derive
from curate.scorer import Scorer
from curate.selector import Selector
from curate.settings import ModelSpec, Resources, SourceSpec
from curate.spec import Config, StageEntry
from curate.stage import Stage
from curate.stages.characters import CountCharacters
from curate.stages.clean import clean_stages
from curate.stages.cluster import Cluster
from curate.stages.embed import TARGET_EMBEDDING, Embed, EmbedRows, EmbedTarget
from curate.stages.evaluate import Evaluate, TuneBaseline, evaluate_stages
from curate.stages.hold_out import HoldOut
from curate.stages.ingest import Ingest
from curate.stages.mix import Mix
from curate.stages.models import ModelHandle
from curate.stages.score import Scoring, score_stages
from curate.stages.select import Select, directions
from curate.stages.target_rows import TARGET_ROWS, TargetRows
from curate.stages.tokenize import Tokenize
from curate.stages.train import TrainSelection, Tuning
from curate.training.spec import Train
from curate.view import View

TARGET_SOURCE = "target"

PROVIDERS = {
    "cluster": "a `cluster` stage before it",
    "cluster_distance": "a `cluster` stage before it",
    "artifact:adapter": "a `train` stage before it",
    "artifact:schedule": "a `mix` stage before it",
    f"artifact:{TARGET_EMBEDDING}": "an `embed` stage before it, and `target:`",
    f"artifact:{TARGET_ROWS}": "`target:` to the configuration",
    "embedding": "an `embed` stage before it",
    "rank": "a `select` stage before it",
    **dict.fromkeys(
        ("input_ids", "supervised", "tokens", "supervised_tokens", "supervised_characters"),
        "`model:` to the configuration",
    ),
}


class Pipeline(Component, ABC):
    """A shape of pipeline: how the list of stages is run (once, in rounds, per method …)."""

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


def entry_error(entry: int | None, message: str) -> ConfigError:
    """A configuration error that concerns one item of `stages:`, or the whole where entry is None."""
    return ConfigError(problems=[Problem(("stages", entry) if entry is not None else (), message)])


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
    stages = _front(config, model)
    known: dict[str, bool | None] = {}
    train: Train | None = None
    mixed = False
    for index, entry in enumerate(config.stages):
        if train is not None and entry.kind != "evaluate":
            raise entry_error(index, f"`{entry.kind}` comes after `train`; only `evaluate` may.")
        if mixed and entry.kind in ("clean", "select"):
            raise entry_error(
                index, f"`{entry.kind}` comes after `mix` and would break its schedule. Move it before."
            )
        if entry.kind == "train":
            train = cast(Train, entry.methods[0])
        elif entry.kind == "evaluate" and train is None:
            raise entry_error(index, "`evaluate` needs a `train` stage before it.")
        before = len(stages)
        stages += _expand(config, model, entry, index, known, train, mixed)
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


def _front(config: Config, model: ModelHandle | None) -> list[Stage]:
    evaluations = [
        (index, method)
        for index, entry in enumerate(config.stages)
        for method in entry.methods
        if isinstance(method, Evaluate)
    ]
    if len(evaluations) > 1:
        raise ConfigError("stages: there must be at most one `evaluate`. Found several.")
    for index, evaluate in evaluations:
        if not evaluate.held_out and not evaluate.sources:
            raise entry_error(
                index,
                "`evaluate` has no rows to evaluate on: `held_out` is 0 and `sources` is empty. Set one of them.",
            )
    held = evaluations[0][1].sources if evaluations else ()
    target: tuple[SourceSpec, ...] = ()
    if config.target is not None:
        spec = config.target
        target = (SourceSpec(name=TARGET_SOURCE, path=spec.path, format=spec.format, columns=spec.columns),)
    sources = (*config.sources, *held, *target)
    names = [source.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"sources: names must differ. Found {', '.join(twice)} more than once.")
    stages: list[Stage] = [Ingest("ingest", None, Resources(), sources)]
    if model is not None:
        stages.append(Tokenize("tokenize", None, Resources(), model, config.tokens))
    if evaluations or target:
        reserved = tuple(source.name for source in (*held, *target))
        fraction = evaluations[0][1].held_out if evaluations else 0.0
        name = TARGET_SOURCE if target else None
        seed = derive(config.seed, "hold_out")
        stages.append(HoldOut("hold_out", None, Resources(), fraction, reserved, name, seed))
    return stages


def _expand(
    config: Config,
    model: ModelHandle | None,
    entry: StageEntry,
    index: int,
    known: dict[str, bool | None],
    train: Train | None,
    mixed: bool,
) -> Sequence[Stage]:
    kind, resources, methods = entry.kind, entry.resources, entry.methods
    nth = sum(
        earlier.kind == kind for earlier in config.stages[:index]
    )  # a stage of another kind moves no seed
    seed = derive(config.seed, kind, str(nth))
    try:
        if kind == "clean":
            cleaners = cast(tuple[Filter | Deduplicator, ...], methods)
            return [stage for method in cleaners for stage in clean_stages(method, index, resources)]
        if kind == "score":
            scorers = cast(tuple[Scorer, ...], methods)
            shared = Scoring(
                model,
                config.tokens,
                TARGET_SOURCE if config.target else None,
                config.max_null_fraction,
                config.agreement_rows,
                directions(known),
            )
            return score_stages(scorers, index, resources, shared, derive(config.seed, "score"))
        if kind == "select":
            selector, limits = cast(Selector, methods[0]), entry.constraints
            selector.check(known)
            if limits is not None and not selector.takes_constraints:
                raise ConfigError(f"select: `{selector.name}`, as it is set, cannot keep `constraints`.")
            select = Select(
                f"select.{selector.name}", index, resources, selector, seed, directions(known), limits
            )
            if f"artifact:{TARGET_ROWS}" not in selector.needs() or not config.target:
                return [select]
            return [TargetRows("target_rows", index, resources, TARGET_SOURCE), select]
        if kind == "embed":
            spec = cast(Embed, methods[0])
            handle = model if spec.model == "states" else ModelHandle(ModelSpec(path=spec.model))
            if handle is None:
                raise ConfigError(
                    "embed: `model: states` reads the run's model, and there is none. Add `model:`."
                )
            rows = EmbedRows("embed", index, resources, spec, handle)
            if not config.target:
                return [rows]
            return [rows, EmbedTarget("embed.target", index, resources, rows, TARGET_SOURCE)]
        if kind == "cluster":
            clusterer = cast(Clusterer, methods[0])
            return [Cluster(f"cluster.{clusterer.name}", index, resources, clusterer, seed)]
        if kind == "mix":
            mixer = cast(Mixer, methods[0])
            before = mixer.prepare(_preparation(config, model, index, seed))
            tokenize = Tokenize("tokenize", None, Resources(), model, config.tokens) if model else None
            if mixer.composes and tokenize is None:
                raise ConfigError(f"mix: `{mixer.name}` makes examples that must be tokenised. Add `model:`.")
            mix = Mix(
                f"mix.{mixer.name}", index, resources, mixer, seed, directions(known),
                tokenize if mixer.composes else None,
            )  # fmt: skip
            return [*before, mix]
        if model is None or train is None:
            raise ConfigError(f"{kind}: there is no model to tune. Add `model:` to the configuration.")
        tuning = Tuning(train, model, derive(config.seed, "train"))
        if kind == "train":
            return [TrainSelection("train", index, resources, tuning, mixed)]
        evaluate = cast(Evaluate, methods[0])
        target = TARGET_SOURCE if config.target else None
        only_tuned = replace(tuning, spec=train.model_copy(update={"save_at": ()}))
        baselines = [
            TuneBaseline(f"train.{name}", index, resources, name, only_tuned, mixed)
            for name in evaluate.baselines
        ]
        return [*baselines, *evaluate_stages(evaluate, index, resources, model, target)]
    except ConfigError as error:
        raise entry_error(index, str(error)) from error


def _preparation(config: Config, model: ModelHandle | None, index: int, seed: int) -> Preparation:
    later = [entry.methods[0] for entry in config.stages[index:] if entry.kind == "train"]
    return Preparation(
        index,
        config.stages[index].resources,
        seed,
        model,
        cast(Train, later[0]) if later else None,
        TARGET_SOURCE if config.target else None,
        any(entry.kind == "evaluate" for entry in config.stages),
    )


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
