"""Conversion of a GGUF file: once, whole or not at all, also by two at once."""

import threading

import pytest

from curate.model import gguf


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "toy.gguf"
    file.write_bytes(b"weights")
    return file


def test_a_file_is_converted_once_for_its_content(monkeypatch, source, tmp_path):
    written = []
    monkeypatch.setattr(gguf, "_write", lambda file, folder: written.append(file))
    first = gguf.convert(source, tmp_path / "cache")
    moved = source.rename(tmp_path / "toy.gguf.moved").rename(source)
    assert gguf.convert(moved, tmp_path / "cache") == first
    assert written == [source]


def test_other_content_is_another_folder(monkeypatch, source, tmp_path):
    monkeypatch.setattr(gguf, "_write", lambda file, folder: None)
    first = gguf.convert(source, tmp_path / "cache")
    source.write_bytes(b"other weights")
    assert gguf.convert(source, tmp_path / "cache") != first


def test_a_failed_conversion_leaves_nothing(monkeypatch, source, tmp_path):
    def write(file, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("killed")

    monkeypatch.setattr(gguf, "_write", write)
    with pytest.raises(RuntimeError, match="killed"):
        gguf.convert(source, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_two_at_once_share_one_whole_folder(monkeypatch, source, tmp_path):
    both = threading.Barrier(2)

    def write(file, folder):
        (folder / "model.safetensors").write_bytes(b"whole")
        both.wait(timeout=20)

    monkeypatch.setattr(gguf, "_write", write)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(gguf.convert(source, tmp_path / "cache"))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert list((tmp_path / "cache").iterdir()) == [found[0]]
    assert (found[0] / "model.safetensors").read_bytes() == b"whole"


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    assert gguf.cache_folder() == tmp_path / "models"
