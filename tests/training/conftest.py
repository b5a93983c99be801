"""Fixtures of the training tests: toy rows as tokens, and a way to run one small training."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

from curate.methods import read_component
from curate.model.load import LoadedModel, load_causal_lm, resolve
from curate.model.request import TokenRow
from curate.model.tokens import Encoder, Example, TokenOptions
from curate.registry import Registry
from curate.training.spec import Train
from curate.training.trainer import TrainResult, train


@dataclass
class Trained:
    """What one training left: its folder, its result, its curve, and the model, changed in place."""

    out: Path
    result: TrainResult
    curve: list[dict[str, Any]]
    loaded: LoadedModel

    def bytes(self) -> dict[str, bytes]:
        """Content of every file, by name."""
        return {
            str(file.relative_to(self.out)): file.read_bytes()
            for file in sorted(self.out.rglob("*"))
            if file.is_file()
        }


def spec_of(fields: dict[str, Any]) -> Train:
    """A `train:` body as a user writes it."""
    spec = read_component(Train, fields, Registry())
    assert isinstance(spec, Train)
    return spec


@pytest.fixture
def load(tiny_model: Path) -> Callable[..., LoadedModel]:
    """Load the tiny Llama anew."""

    def run(dtype: str = "float32", folder: Path = tiny_model) -> LoadedModel:
        return load_causal_lm(resolve(str(folder), None), dtype=dtype, device="cpu")

    return run


@pytest.fixture(scope="session")
def rows(tiny_model: Path) -> list[TokenRow]:
    """24 toy conversations as tokens, 100 to 400 each."""
    encoder = Encoder(toys.tiny_tokenizer(), TokenOptions())
    encoded = encoder.encode_rows([Example(row["messages"]) for row in toys.toy_rows(24)])
    return [TokenRow(np.array(each.input_ids, np.int32), np.array(each.supervised)) for each in encoded]


@pytest.fixture
def tune(load: Callable[..., LoadedModel], rows: list[TokenRow], tmp_path: Path) -> Callable[..., Trained]:
    """Train the tiny Llama: `tune("name", {fields of train}, ...)`."""

    def run(
        name: str,
        fields: dict[str, Any],
        draws: np.ndarray | None = None,
        dtype: str = "float32",
        seed: int = 3,
        tell: Callable[[int, int, int], None] = lambda done, total, tokens: None,
        loaded: LoadedModel | None = None,
    ) -> Trained:
        loaded = load(dtype) if loaded is None else loaded
        draws = np.arange(len(rows)) if draws is None else draws
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        work = tmp_path / f"{name}-work"
        spec = spec_of({"batch_rows": 4, "batch_tokens": 300, "learning_rate": 5e-3, **fields})
        result = train(rows, draws, spec, loaded, seed=seed, out=out, work=work, tell=tell)
        curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
        return Trained(out, result, curve, loaded)

    return run


@pytest.fixture
def make_spec() -> Callable[[dict[str, Any]], Train]:
    """`spec_of`, for tests."""
    return spec_of
