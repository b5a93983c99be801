"""A training that is killed and started again ends with the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import CurateError
from curate.methods import read_component
from curate.registry import Registry
from curate.settings import ModelSpec
from curate.stages.models import ModelHandle
from curate.stages.train import Tuning
from curate.training.checkpoints import SEAL, last_complete, seal
from curate.training.spec import Train

LORA = {"adapter": {"lora": {"dropout": 0.2}}, "checkpoint_every_steps": 2, "batch_rows": 3}
FULL = {"adapter": "full", "checkpoint_every_steps": 2, "batch_rows": 3}


class Killed(Exception):
    """Stands for a kill."""


def stop_after(step: int) -> Any:
    def tell(done: int, total: int, tokens: int) -> None:
        if done == step:
            raise Killed

    return tell


def first_step(tune: Any, name: str, fields: dict[str, Any]) -> tuple[Any, int]:
    """Go on with the training `name`; also the first step that this process computed."""
    told: list[int] = []
    trained = tune(name, fields, tell=lambda done, total, tokens: told.append(done))
    return trained, told[0]


@pytest.mark.parametrize("fields", [LORA, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resumed_is_never_stopped(tune: Any, fields: dict[str, Any], dtype: str) -> None:
    whole = tune("whole", fields, dtype=dtype)
    with pytest.raises(Killed):
        tune("stopped", fields, dtype=dtype, tell=stop_after(5))
    told: list[int] = []
    resumed = tune("stopped", fields, dtype=dtype, tell=lambda done, total, tokens: told.append(done))
    assert told == [5, 6, 7, 8]
    assert resumed.bytes() == whole.bytes()


def test_resuming_again_and_again_across_epochs(tune: Any) -> None:
    fields = {**LORA, "epochs": 2, "checkpoint_every_steps": 1}
    whole = tune("whole", fields)
    for step in (3, 4, 11):
        with pytest.raises(Killed):
            tune("stopped", fields, tell=stop_after(step))
    assert tune("stopped", fields).bytes() == whole.bytes()


def test_a_finished_training_whose_output_was_lost_only_writes(tune: Any) -> None:
    told: list[int] = []
    whole = tune("whole", LORA)
    kept = whole.bytes()
    for file in whole.out.iterdir():
        file.unlink()
    again = tune("whole", LORA, tell=lambda done, total, tokens: told.append(done))
    assert told == []
    assert again.bytes() == kept


def test_killed_in_the_middle_of_a_checkpoint(tune: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import curate.training.loop as loop

    whole = tune("whole", LORA)
    save = loop.StepTrainer._save_rng_state

    def half(self: Any, folder: str) -> None:
        if self.state.global_step == 4:
            raise Killed
        save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(loop.StepTrainer, "_save_rng_state", half)
        with pytest.raises(Killed):
            tune("stopped", LORA)
    resumed, step = first_step(tune, "stopped", LORA)
    assert step == 3
    assert resumed.bytes() == whole.bytes()


def test_a_truncated_checkpoint_is_not_used(tune: Any, tmp_path: Path) -> None:
    whole = tune("whole", LORA)
    with pytest.raises(Killed):
        tune("stopped", LORA, tell=stop_after(5))
    file = tmp_path / "stopped-work" / "checkpoint-4" / "optimizer.pt"
    os.truncate(file, file.stat().st_size // 2)
    resumed, step = first_step(tune, "stopped", LORA)
    assert step == 3
    assert resumed.bytes() == whole.bytes()


def test_a_checkpoint_of_another_training_is_refused(tune: Any) -> None:
    with pytest.raises(Killed):
        tune("stopped", LORA, tell=stop_after(5))
    with pytest.raises(CurateError, match="another training"):
        tune("stopped", LORA, seed=9)


def test_a_checkpoint_goes_on_where_the_model_lies_elsewhere(
    rows: Any, tiny_model: Path, tmp_path: Path
) -> None:
    spec = read_component(Train, {**LORA, "max_steps": 6}, Registry())
    assert isinstance(spec, Train)
    elsewhere = Path(shutil.copytree(tiny_model, tmp_path / "elsewhere"))

    def run(model: Path, out: str, work: str, tell: Any) -> dict[str, bytes]:
        (tmp_path / out).mkdir()
        handle = ModelHandle(ModelSpec(path=str(model), dtype="float32"))
        Tuning(spec, handle, 3).run(rows, np.arange(len(rows)), tmp_path / out, tmp_path / work, tell)
        return {file.name: file.read_bytes() for file in (tmp_path / out).iterdir()}

    told: list[int] = []
    whole = run(tiny_model, "whole", "whole-work", lambda *how_far: None)
    with pytest.raises(Killed):
        run(tiny_model, "killed", "work", stop_after(5))
    assert run(elsewhere, "resumed", "work", lambda done, *how_far: told.append(done)) == whole
    assert told == [5, 6]


def test_at_most_two_checkpoints_are_kept(tune: Any, tmp_path: Path) -> None:
    tune("whole", {**LORA, "checkpoint_every_steps": 1})
    assert len(list((tmp_path / "whole-work").glob("checkpoint-*"))) == 2


def test_the_seal_is_missing_until_all_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-12"
    folder.mkdir()
    (folder / "weights").write_bytes(b"123")
    assert last_complete(tmp_path, "plan") is None
    assert not folder.exists()
    folder.mkdir()
    (folder / "weights").write_bytes(b"123")
    seal(folder, "plan")
    assert json.loads((folder / SEAL).read_text())["sizes"] == {"weights": 3}
    assert last_complete(tmp_path, "plan") == folder


def test_the_latest_is_by_number_and_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        seal(folder, "plan")
    assert last_complete(tmp_path, "plan") == tmp_path / "checkpoint-10"


CHILD = """
import json, os, signal, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(int(sys.argv[4]))
from curate.methods import read_component
from curate.model.load import load_causal_lm, resolve
from curate.model.request import TokenRow
from curate.registry import Registry
from curate.training.spec import Train
from curate.training.trainer import train
stored = np.load(sys.argv[1], allow_pickle=False)
rows = [TokenRow(stored[f"ids{n}"], stored[f"supervised{n}"]) for n in range(len(stored.files) // 2)]
spec = read_component(Train, json.loads(sys.argv[3]), Registry())
def tell(done, total, tokens):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)
out = Path(sys.argv[5]); out.mkdir()
train(rows, np.arange(len(rows)), spec, load_causal_lm(resolve(sys.argv[2], None), "float32", "cpu"),
      seed=3, out=out, work=Path(sys.argv[5] + "-work"), tell=tell)
"""


def test_kill_nine(tune: Any, rows: Any, tiny_model: Path, tmp_path: Path) -> None:
    whole = tune("whole", LORA)
    arrays = {f"ids{n}": row.input_ids for n, row in enumerate(rows)}
    arrays |= {f"supervised{n}": row.supervised for n, row in enumerate(rows)}
    np.savez(tmp_path / "rows.npz", **arrays)
    body = json.dumps({"batch_tokens": 300, "learning_rate": 5e-3, **LORA})
    arguments = [tmp_path / "rows.npz", tiny_model, body, torch.get_num_threads(), tmp_path / "killed"]
    child = subprocess.run([sys.executable, "-c", CHILD, *map(str, arguments)], check=False)
    assert child.returncode == -signal.SIGKILL
    resumed, step = first_step(tune, "killed", LORA)
    assert step == 5
    assert resumed.bytes() == whole.bytes()
