"""The `train:` body of a configuration."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from curate.training.adapters.full import Full
from curate.training.adapters.lora import Lora


def test_an_adapter_is_a_name_or_a_name_with_fields(make_spec: Any) -> None:
    assert make_spec({"adapter": "full"}).adapter == Full()
    assert make_spec({"adapter": {"lora": {"r": 4}}}).adapter == Lora(r=4)
    assert make_spec({}).adapter == Lora()


def test_an_unknown_adapter_is_named_with_the_nearest(make_spec: Any) -> None:
    with pytest.raises(ValidationError, match="lora"):
        make_spec({"adapter": "lore"})


def test_an_unknown_key_is_refused(make_spec: Any) -> None:
    with pytest.raises(ValidationError, match="lr"):
        make_spec({"lr": 1e-4})


def test_the_learning_rate_defaults_by_adapter(make_spec: Any) -> None:
    assert make_spec({"adapter": "lora"}).peak_learning_rate == 5e-4
    assert make_spec({"adapter": "full"}).peak_learning_rate == 2e-5
    assert make_spec({"adapter": "full", "learning_rate": 1e-3}).peak_learning_rate == 1e-3


def test_the_identity_tells_adapters_and_their_fields_apart(make_spec: Any) -> None:
    bodies: list[dict[str, Any]] = [
        {"adapter": "lora", "learning_rate": 1e-4},
        {"adapter": "full", "learning_rate": 1e-4},
        {"adapter": {"lora": {"r": 4}}, "learning_rate": 1e-4},
        {"adapter": "lora", "learning_rate": 1e-4, "batch_tokens": 7},
    ]
    identities = [make_spec(body).identity() for body in bodies]
    assert all(a != b for index, a in enumerate(identities) for b in identities[:index])


def test_a_default_written_out_is_the_same_training(make_spec: Any) -> None:
    assert make_spec({"learning_rate": 5e-4}).identity() == make_spec({}).identity()


def test_how_often_to_save_is_not_part_of_the_identity(make_spec: Any) -> None:
    assert make_spec({"checkpoint_every_steps": 7}).identity() == make_spec({}).identity()


def test_alpha_is_twice_the_rank_unless_stated() -> None:
    assert Lora(r=6).peft_config().lora_alpha == 12
    assert Lora(r=6, alpha=6).peft_config().lora_alpha == 6


@pytest.mark.parametrize("fields", [{"init": "orthogonal", "r": 3}, {"target_modules": ()}, {"dropout": 1.0}])
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Lora(**fields)


def test_the_spec_imports_no_torch() -> None:
    code = "import sys, curate.training.spec; sys.exit('torch' in sys.modules or 'peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
