"""What packing relies on in transformers: rows end to end, told apart by position_ids that start again.

The conditions: no attention mask and no key-value cache. With the cache on (the default of a model's
configuration) transformers does not tell the rows apart, and says nothing.
"""

import pytest
import torch

from curate.model.load import load_causal_lm, resolve

ROWS = [list(range(20, 33)), [45], list(range(90, 97)), list(range(7, 40))]


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request, tiny_model):
    return load_causal_lm(
        resolve(str(tiny_model)), dtype="float32", device="cpu", attention=request.param
    ).model


@torch.no_grad()
def packed_logits(model, use_cache):
    ids = torch.tensor([[token for row in ROWS for token in row]])
    positions = torch.tensor([[place for row in ROWS for place in range(len(row))]])
    return model(input_ids=ids, position_ids=positions, use_cache=use_cache).logits[0]


@torch.no_grad()
def separate_logits(model):
    return torch.cat([model(input_ids=torch.tensor([row])).logits[0] for row in ROWS])


def test_packed_rows_give_the_logits_of_separate_rows(model):
    torch.testing.assert_close(
        packed_logits(model, use_cache=False), separate_logits(model), atol=1e-5, rtol=1e-5
    )


def test_a_loaded_model_needs_no_argument_for_it(model):
    torch.testing.assert_close(
        packed_logits(model, use_cache=None), separate_logits(model), atol=1e-5, rtol=1e-5
    )


def test_with_the_cache_on_rows_would_see_each_other(model):
    difference = packed_logits(model, use_cache=True) - separate_logits(model)
    assert difference[: len(ROWS[0])].abs().max() < 1e-5
    assert difference[len(ROWS[0]) :].abs().max() > 1e-2


@torch.no_grad()
def test_two_packed_sequences_in_one_batch_are_kept_apart_too(model):
    ids = torch.tensor([[*ROWS[0], *ROWS[2]], [*ROWS[2], *ROWS[0]]])
    positions = torch.tensor([[*range(13), *range(7)], [*range(7), *range(13)]])
    found = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    first, second = (model(input_ids=torch.tensor([row])).logits[0] for row in (ROWS[0], ROWS[2]))
    torch.testing.assert_close(found[0], torch.cat([first, second]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], torch.cat([second, first]), atol=1e-5, rtol=1e-5)
