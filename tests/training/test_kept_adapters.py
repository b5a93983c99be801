"""Adapters kept on the way: which steps, that they are what the training held then, and that a kill loses none."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from curate.errors import CurateError
from curate.training.checkpoints import steps_at

FIELDS = {"adapter": {"lora": {"r": 2, "dropout": 0.2}}, "batch_rows": 3, "save_at": ["25%", 0.5, 1.0]}
"""Of 24 rows: 8 steps."""
FILES = {"adapter_config.json", "adapter_model.safetensors"}


class Killed(Exception):
    """Stands for a kill."""


def kill_at(step: int) -> Any:
    def tell(done: int, total: int, tokens: int) -> None:
        if done == step:
            raise Killed

    return tell


@pytest.mark.parametrize(
    ("shares", "steps", "expected"),
    [
        ((0.25, 0.5, 0.75, 1.0), 400, [100, 200, 300, 400]),
        ((0.07,), 100, [7]),
        ((0.01, 1.0), 3, [1, 3]),
        ((0.5, 0.6), 2, [1]),
        ((), 5, []),
    ],
)
def test_steps(shares: tuple[float, ...], steps: int, expected: list[int]) -> None:
    assert steps_at(shares, steps) == expected


def test_each_is_a_folder_that_peft_loads(tune: Any) -> None:
    out = tune("out", FIELDS).out
    kept = sorted((out / "checkpoints").iterdir())
    assert [folder.name for folder in kept] == ["step-000002", "step-000004", "step-000008"]
    assert all({file.name for file in folder.iterdir()} == FILES for folder in kept)


def test_the_last_is_the_adapter_itself(tune: Any) -> None:
    out = tune("out", FIELDS).out
    for name in FILES:
        assert (out / "checkpoints" / "step-000008" / name).read_bytes() == (out / name).read_bytes()


def test_one_on_the_way_is_what_a_training_of_so_many_steps_gives(tune: Any) -> None:
    """With a constant learning rate a shorter training is the beginning of a longer one."""
    constant = {**FIELDS, "schedule": "constant", "warmup_fraction": 0.0}
    whole = tune("whole", constant).out / "checkpoints" / "step-000004"
    half = tune("half", {**constant, "max_steps": 4, "save_at": []}).out
    found, expected = (load_file(folder / "adapter_model.safetensors") for folder in (whole, half))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_keeping_changes_nothing_of_the_training(tune: Any) -> None:
    kept = tune("kept", FIELDS).bytes()
    plain = tune("plain", {**FIELDS, "save_at": []}).bytes()
    assert {name: kept[name] for name in plain} == plain


def test_killed_and_resumed_keeps_the_same(tune: Any) -> None:
    fields = {**FIELDS, "checkpoint_every_steps": 2}
    whole = tune("whole", fields)
    for step in (3, 5):
        with pytest.raises(Killed):
            tune("stopped", fields, tell=kill_at(step))
    assert tune("stopped", fields).bytes() == whole.bytes()


def test_killed_before_the_first_checkpoint_keeps_the_same(tune: Any) -> None:
    whole = tune("whole", FIELDS)
    with pytest.raises(Killed):
        tune("stopped", FIELDS, tell=kill_at(5))
    assert tune("stopped", FIELDS).bytes() == whole.bytes()


def test_one_that_was_removed_is_not_made_up(tune: Any, tmp_path: Path) -> None:
    fields = {**FIELDS, "checkpoint_every_steps": 2}
    with pytest.raises(Killed):
        tune("stopped", fields, tell=kill_at(5))
    shutil.rmtree(tmp_path / "stopped-work" / "checkpoints" / "step-000002")
    with pytest.raises(CurateError, match="adapter of step 2 is gone"):
        tune("stopped", fields)


def test_full_tuning_keeps_none(make_spec: Any) -> None:
    with pytest.raises(ValidationError, match="stands apart .* Got full"):
        make_spec({"adapter": "full", "save_at": [0.5]})


@pytest.mark.parametrize("share", [0, 1.2, "120%", "half"])
def test_a_share_is_above_0_and_at_most_1(make_spec: Any, share: Any) -> None:
    with pytest.raises(ValidationError):
        make_spec({"save_at": [share]})
