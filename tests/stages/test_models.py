"""ModelHandle: every worker finds the model that was hashed, whatever its working directory."""

import pickle
from pathlib import Path

import pytest

from curate.errors import ConfigError
from curate.model.folders import ModelFolder, ModelKind
from curate.settings import ModelSpec
from curate.stages.models import ModelHandle


def test_a_folder_is_pinned_by_its_whole_path(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_model.parent)
    handle = ModelHandle(ModelSpec(path="llama"))
    assert handle.identity()["dtype"] in ("float32", "bfloat16")
    monkeypatch.chdir("/")
    sent = pickle.loads(pickle.dumps(handle))
    assert sent.folder.path == tiny_model
    assert sent.pinned.dtype == handle.pinned.dtype


def test_a_hub_model_is_pinned_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "models--owner--name" / "snapshots" / "0a1b2c"
    found = ModelFolder("owner/name", place, ModelKind.CAUSAL, (), (), ())
    monkeypatch.setattr("curate.model.load.resolve", lambda reference, revision: found)
    pinned = ModelHandle(ModelSpec(path="owner/name", revision="main", dtype="float32")).pinned
    assert (pinned.path, pinned.revision) == ("owner/name", "0a1b2c")


def test_own_code_is_part_of_the_identity(tiny_model: Path) -> None:
    path = str(tiny_model)
    identities = [
        ModelHandle(ModelSpec(path=path, trust_remote_code=trusted)).identity() for trusted in (False, True)
    ]
    assert identities[0] != identities[1]


def test_a_model_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        ModelHandle(ModelSpec(path=str(tmp_path / "none"))).identity()
