"""Settings: the frozen, typed parts of a configuration that are values alone. See spec.py for the whole.

Imports neither torch nor ray nor polars, so that `curate check` is quick.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


def _fraction(value: Any) -> Any:
    """5% as 0.05; what is no percentage is left to the checks of a number."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]*\.?[0-9]+ *%", value.strip()):
        return float(value.strip().removesuffix("%")) / 100
    return value


Fraction = Annotated[
    float,
    Field(ge=0, le=1),
    BeforeValidator(_fraction),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": "^ *[0-9]*[.]?[0-9]+ *% *$"},
            ]
        }
    ),
]
"""A share from 0 to 1; a user may also write `5%`."""

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


class PathOrMapping(Spec):
    """A spec that may be written as its path alone.

    pydantic hands what a validator like this one has seen to the fields as Python values, of which it
    refuses a list for a tuple: keep the fields to text, numbers, choices and mappings.
    """

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


class ModelSpec(PathOrMapping):
    """A model and how to load it; text alone is its path."""

    path: str = Field(description="hub id, local folder, a .gguf file, or package:NAME")
    revision: str | None = Field(default=None, description="branch, tag or commit on the hub")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: bfloat16 where the device is fast at it, else float32"
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        default="auto", description="attention implementation; auto: transformers' default"
    )
    trust_remote_code: bool = Field(default=False, description="run code that the model's author ships")
    adapter: str | None = Field(
        default=None, description="folder of a LoRA adapter of this model (peft), merged in when it is loaded"
    )


class TokenSpec(Spec):
    """How rows become tokens: the one path that scorers and trainer share."""

    max_tokens: int = Field(default=2048, gt=0, description="longest row, in tokens")
    over_long: Literal["quarantine", "truncate"] = Field(
        default="quarantine", description="what happens to a row of more than max_tokens"
    )
    train_on: Literal["all", "last"] = Field(
        default="all", description="which assistant turns are supervised: all of them, or the last"
    )


class TargetSpec(PathOrMapping):
    """Examples of what the tuned model should be good at; text alone is their path."""

    path: str = Field(description="as in a source")
    format: Format = Field(default="auto", description="as in a source")
    columns: Mapping[str, str] = Field(default_factory=dict, description="as in a source")


class Resources(Spec):
    """What a stage may use. None of it can change a result."""

    workers: int | None = Field(default=None, ge=1, description="processes (Ray actors) of the stage")
    cpus: float | None = Field(default=None, gt=0, description="processor cores per worker")
    gpus: float | None = Field(default=None, ge=0, description="GPUs per worker")
    batch_tokens: int | None = Field(default=None, ge=1, description="padded tokens per forward pass")
