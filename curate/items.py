"""Items: the stages that the front of a pipeline and each item of its list become."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from curate.cleaner import Deduplicator, Filter
from curate.clusterer import Clusterer
from curate.errors import ConfigError, Problem
from curate.mixer import Mixer, Preparation
from curate.numerics.seeds import derive
from curate.scorer import Scorer
from curate.selector import Selector
from curate.settings import ModelSpec, Resources, SourceSpec
from curate.spec import Config, StageEntry
from curate.stage import Stage
from curate.stages.clean import clean_stages
from curate.stages.cluster import Cluster
from curate.stages.contamination import Contamination, contamination_stages
from curate.stages.embed import Embed, EmbedRows, EmbedTarget
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

TARGET_SOURCE = "target"


def entry_error(entry: int | None, message: str) -> ConfigError:
    """A configuration error that concerns one item of `stages:`, or the whole where entry is None."""
    return ConfigError(problems=[Problem(("stages", entry) if entry is not None else (), message)])


def front(config: Config, model: ModelHandle | None) -> list[Stage]:
    """Ingest; tokenize, where there is a model; hold out and look for leaks, where there is something to hold out."""
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
        seed = derive(config.seed if config.held_out_seed is None else config.held_out_seed, "hold_out")
        stages.append(HoldOut("hold_out", None, Resources(), fraction, reserved, name, seed))
        asked = any(entry.kind == "contamination" for entry in config.stages)
        if config.check_contamination and not asked:
            stages += contamination_stages(Contamination(), None, Resources(), None)
    return stages


def stages_of(
    config: Config,
    model: ModelHandle | None,
    entry: StageEntry,
    index: int,
    known: dict[str, bool | None],
    train: Train | None,
    mixed: bool,
) -> Sequence[Stage]:
    """The stages of item number `index`.

    known: the directions of the scores so far. train: the training, once it has come. mixed: whether a `mix` has.
    Raises ConfigError at the item.
    """
    kind, resources, methods = entry.kind, entry.resources, entry.methods
    nth = sum(
        earlier.kind == kind for earlier in config.stages[:index]
    )  # a stage of another kind moves no seed
    seed = _seed(config, index, kind, str(nth))
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
            rows = _embed_rows(cast(Embed, methods[0]), index, resources, model)
            if not config.target:
                return [rows]
            return [rows, EmbedTarget("embed.target", index, resources, rows, TARGET_SOURCE)]
        if kind == "contamination":
            contamination = cast(Contamination, methods[0])
            embed = _compared(contamination, config.stages[:index])
            rows_embedded = None if embed is None else _embed_rows(embed, index, resources, model)
            return contamination_stages(contamination, index, resources, rows_embedded)
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
        tuning = Tuning(train, model, _seed(config, index, "train"))
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


def _embed_rows(spec: Embed, index: int, resources: Resources, model: ModelHandle | None) -> EmbedRows:
    handle = model if spec.model == "states" else ModelHandle(ModelSpec(path=spec.model))
    if handle is None:
        raise ConfigError("embed: `model: states` reads the run's model, and there is none. Add `model:`.")
    return EmbedRows("embed", index, resources, spec, handle)


def _compared(method: Contamination, earlier: Sequence[StageEntry]) -> Embed | None:
    """The embedding that a `contamination` compares; None where it compares none."""
    if method.similarity is None:
        return None
    if method.model is not None:
        return Embed(model=method.model)
    embeds = [entry.methods[0] for entry in earlier if entry.kind == "embed"]
    if not embeds:
        raise ConfigError(
            "contamination: `similarity` compares embeddings, and there is no `embed` before it. Add one, or `model:` "
            "to this item."
        )
    return cast(Embed, embeds[-1])


def _seed(config: Config, index: int, *names: str) -> int:
    """The seed of an item of the list; from the last `select` on another one for each trial."""
    selects = [place for place, entry in enumerate(config.stages) if entry.kind == "select"]
    repeated = config.trial and index >= max(selects, default=0)
    return derive(config.seed, *names, *([f"trial {config.trial}"] if repeated else []))


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
