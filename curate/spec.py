"""The frozen, typed form of a configuration. `config.py` reads YAML into it; everything else reads it.

Imports neither torch nor ray nor polars, so that `curate check` is quick.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from curate.component import Component

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Format = Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "text"]


class Spec(BaseModel):
    """Base of all specs: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSpec(Spec):
    """Where rows come from and how to read them."""

    name: Name = Field(description="name of the source, kept with every row")
    path: str = Field(
        description="file, glob, folder (save_to_disk), fsspec URL, or hub:ORG/NAME[:CONFIG][@SPLIT]; "
        "relative to the working directory"
    )
    format: Format = Field(default="auto", description="schema of the records; detected when auto")
    columns: Mapping[str, str] = Field(
        default_factory=dict,
        description="our name -> field of the record, e.g. {prompt: question, response: answer}; "
        "ours: prompt, response, system, history, messages, rejected, text, tools, id, group",
    )
    metadata: tuple[str, ...] = Field(
        default=(), description="further fields to keep as columns `meta.<field>` (text)"
    )


class ModelSpec(Spec):
    """A model and how to load it."""

    path: str = Field(description="hub id, local folder, a .gguf file, or package:NAME")
    revision: str | None = Field(default=None, description="branch, tag or commit on the hub")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: bfloat16 where the device is fast at it, else float32"
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        default="auto", description="attention implementation; auto: transformers' default"
    )
    trust_remote_code: bool = Field(default=False, description="run code that the model's author ships")


class TokenSpec(Spec):
    """How rows become tokens: the one path that scorers and trainer share."""

    max_tokens: int = Field(default=2048, gt=0, description="longest row, in tokens")
    over_long: Literal["quarantine", "truncate"] = Field(
        default="quarantine", description="what happens to a row of more than max_tokens"
    )
    train_on: Literal["all", "last"] = Field(
        default="all", description="which assistant turns are supervised: all of them, or the last"
    )


class TargetSpec(Spec):
    """Examples of what the tuned model should be good at."""

    path: str = Field(description="as in a source")
    format: Format = Field(default="auto", description="as in a source")
    columns: Mapping[str, str] = Field(default_factory=dict, description="as in a source")


class Resources(Spec):
    """What a stage may use. None of it can change a result."""

    workers: int | None = Field(default=None, ge=1, description="processes (Ray actors) of the stage")
    cpus: float | None = Field(default=None, gt=0, description="processor cores per worker")
    gpus: float | None = Field(default=None, ge=0, description="GPUs per worker")
    batch_tokens: int | None = Field(default=None, ge=1, description="padded tokens per forward pass")


StageKind = Literal["clean", "score", "select", "embed", "cluster", "mix", "train", "evaluate"]
STAGE_KINDS: tuple[StageKind, ...] = (
    "clean", "score", "select", "embed", "cluster", "mix", "train", "evaluate",
)  # fmt: skip


class StageEntry(Spec):
    """One item of `stages:`: its kind, the methods in it, in order, and its resources."""

    kind: StageKind
    methods: tuple[SerializeAsAny[Component], ...] = Field(min_length=1)
    resources: Resources = Resources()


class Config(Spec):
    """A whole run."""

    name: Name = Field(description="name of the run")
    seed: int = Field(default=0, ge=0, description="the one seed; every stage derives its own")
    model: ModelSpec | None = Field(default=None, description="the model that is scored with and tuned")
    tokens: TokenSpec = Field(default=TokenSpec(), description="tokenisation and loss mask")
    sources: tuple[SourceSpec, ...] = Field(min_length=1, description="the pool")
    target: TargetSpec | None = Field(default=None, description="what the tuned model should be good at")
    stages: tuple[StageEntry, ...] = Field(min_length=1, description="in this order")
    pipeline: SerializeAsAny[Component] = Field(description="the shape that wraps the list of stages")
    plugins: tuple[Path, ...] = Field(default=(), description="folders with methods of your own")
    max_bad_fraction: Fraction = Field(
        default=0.01, description="share of unreadable rows above which the run stops"
    )
    max_null_fraction: Fraction = Field(
        default=0.01, description="share of rows without a score above which the run stops"
    )
