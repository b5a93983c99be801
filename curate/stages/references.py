"""References: what a score compares rows with, made once and stored as an artifact."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import ConfigError, DataError
from curate.model.request import Readout, States, TokenRow, TokenSignals, View
from curate.numerics.seeds import uniform
from curate.scorer import Reference, Referenced, Scorer
from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.models import ModelHandle
from curate.stages.rows import SCORED, token_rows

if TYPE_CHECKING:
    from curate.model.load import LoadedModel

FILE = "reference.safetensors"
BATCH_TOKENS = 4096
BATCH_TOKENS_GPU = 32_768


def artifact_of(method: Scorer) -> str:
    """The name of the artifact that holds a scorer's reference."""
    return f"{method.column}.reference"


def load_reference(folder: Path, device: str | None) -> Reference:
    """The arrays of a reference: torch tensors on the device, numpy arrays where it is None."""
    if device is None:
        from safetensors.numpy import load_file

        return load_file(folder / FILE)
    from safetensors.torch import load_file as load_tensors

    return load_tensors(folder / FILE, device=device)


def target_positions(inputs: Inputs, source: str) -> Any:
    """Indices, in `inputs.rows["all"]`, of the rows of the target, int64. Raises DataError for none."""
    sources = inputs.rows["all"].frame(["source"])["source"]
    places = np.flatnonzero((sources == source).to_numpy())
    if not len(places):
        raise DataError(
            "target: none of its rows could be read or tokenised; the causes are in quarantine.jsonl."
        )
    return places


@dataclass(frozen=True)
class MakeReference(ArtifactStage):
    """Makes the reference of one scorer, from the target's rows or from the pool.

    target: the name of the source that holds the target's rows, None where the configuration has none.
    """

    unit = "references"

    method: Scorer
    model: ModelHandle | None
    target: str | None
    seed: int

    def __post_init__(self) -> None:
        if self._referenced.reads_target and self.target is None:
            raise ConfigError(
                f"score: `{self.method.name}` compares rows with a target, and there is none. Add `target:` to "
                "the configuration."
            )

    @property
    def _referenced(self) -> Referenced:
        assert isinstance(self.method, Referenced)
        return self.method

    @property
    def uses_model(self) -> bool:
        """Where the scorer reads a model."""
        return self.model is not None

    @property
    def needs(self) -> frozenset[str]:
        """What the reference is made from."""
        tokens = SCORED | {"uid"} if self.model is not None else frozenset[str]()
        target = {"rows:all", "source"} if self._referenced.reads_target else set[str]()
        return self._referenced.reference_needs() | tokens | target

    @property
    def adds(self) -> frozenset[str]:
        """The reference."""
        return frozenset({f"artifact:{artifact_of(self.method)}"})

    def identity(self) -> dict[str, Any]:
        """The scorer, the model, the seed."""
        model = {} if self.model is None else {"model": self.model.identity()}
        return {**self.method.identity(), **model, "seed": self.seed, "reference": 1}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Make the reference."""
        from safetensors.numpy import save_file

        made = self._referenced.refer(_Examples(self, inputs, out))
        arrays = {name: np.ascontiguousarray(array) for name, array in made.items()}
        save_file(arrays, out / FILE)
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        return {"shapes": shapes, **self._referenced.notes(arrays)}


@dataclass(frozen=True)
class _Examples:
    """What `scorer.Examples` promises, read from the store."""

    stage: MakeReference
    inputs: Inputs
    folder: Path

    @property
    def seed(self) -> int:
        return self.stage.seed

    @cached_property
    def target(self) -> Sequence[TokenRow]:
        assert self.stage.target is not None
        rows = self.inputs.rows["all"]
        return token_rows(rows.take(SCORED, target_positions(self.inputs, self.stage.target)))

    @cached_property
    def model(self) -> "LoadedModel":
        assert self.stage.model is not None
        return self.stage.model.load()

    @property
    def layers(self) -> int:
        return int(self.model.model.config.get_text_config().num_hidden_layers)

    def sample(self, rows: int) -> Sequence[TokenRow]:
        return token_rows(self.inputs.pool.take(SCORED, np.sort(self._drawn()[:rows])))

    def sample_tokens(self, tokens: int) -> Sequence[TokenRow]:
        order = self._drawn()
        counts = self.inputs.pool.frame(["tokens"])["tokens"].to_numpy()[order]
        return self.sample(1 + int(np.searchsorted(np.cumsum(counts), tokens)))

    def _drawn(self) -> NDArray[np.int64]:
        keys = uniform(self.stage.seed, self.inputs.pool.frame(["uid"])["uid"].to_list())
        return np.argsort(keys, kind="stable")

    def columns(self, names: Sequence[str], rows: NDArray[np.int64] | None = None) -> pl.DataFrame:
        return self.inputs.pool.frame(names) if rows is None else self.inputs.pool.take(names, rows)

    def signals(self, rows: Sequence[TokenRow], readouts: Sequence[Readout]) -> TokenSignals:
        from curate.model.signals import compute_signals

        budget = self.stage.resources.batch_tokens or batch_tokens(self.model.device)
        wanted = {View.FULL: frozenset[Any]()}
        return compute_signals(self.model.model, rows, wanted, budget, readouts={View.FULL: readouts})

    def states(self, rows: Sequence[TokenRow], layer: int | None = None, attention_layers: int = 0) -> States:
        from curate.model.signals import collect_states

        budget = self.stage.resources.batch_tokens or batch_tokens(self.model.device)
        return collect_states(self.model.model, rows, budget, layer, attention_layers)

    def mean_head_gradient(self, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
        from curate.model.signals import mean_head_gradient

        budget = self.stage.resources.batch_tokens or batch_tokens(self.model.device)
        return mean_head_gradient(self.model.model, rows, budget)


def batch_tokens(device: str) -> int:
    """The default budget of a forward pass in scoring."""
    return BATCH_TOKENS_GPU if device.startswith("cuda") else BATCH_TOKENS
