"""What scorers read from the model's states, batch by batch or all at once, and that the layout changes nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from passes import VOCABULARY, preference_rows, row, small_llama, token_rows

from curate.errors import CurateError
from curate.model import signals as module
from curate.model.forward import prepare
from curate.model.request import HeadProduct, Readout, Signal, StateReadout, TokenRow, View
from curate.model.signals import Throughput, collect_states, compute_signals
from curate.model.views import input_of

FULL: dict[View, frozenset[Signal]] = {View.FULL: frozenset()}
NAN = float("nan")


def read(model: Any, rows: Sequence[TokenRow], readouts: Sequence[Readout], batch_tokens: int = 120) -> Any:
    """The first readout under FULL."""
    return compute_signals(model, rows, FULL, batch_tokens, readouts={View.FULL: readouts}).readings[
        readouts[0].name
    ]


def of_transformers(model: Any, one: TokenRow, layer: int | None) -> torch.Tensor:
    """States of one row by itself: after the final norm, or what a decoder layer puts out."""
    ids = torch.from_numpy(one.input_ids.astype(np.int64))[None]
    found: list[torch.Tensor] = []
    hook = None
    if layer is not None:
        hook = model.model.layers[layer].register_forward_hook(
            lambda module, inputs, output: found.append(output[0] if isinstance(output, tuple) else output)
        )
    with torch.no_grad():
        outputs = model(ids, output_hidden_states=True)
    if hook is None:
        return outputs.hidden_states[-1][0]  # type: ignore[no-any-return]
    hook.remove()
    return found[0][0]


@pytest.mark.parametrize("layer", [None, 0, 1, -1, -2])
@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_states_are_those_of_transformers_also_at_the_last_token(
    layer: int | None, batch_tokens: int
) -> None:
    model, rows = small_llama(dtype=torch.float64), token_rows(7)
    found = collect_states(model, rows, batch_tokens, layer)
    expected = torch.cat([of_transformers(model, one, layer) for one in rows])
    torch.testing.assert_close(found.hidden, expected, rtol=1e-10, atol=1e-10)


def test_the_first_layers_states_are_hidden_states_one() -> None:
    model, one = small_llama(dtype=torch.float64), token_rows(1)[0]
    with torch.no_grad():
        ids = torch.from_numpy(one.input_ids.astype(np.int64))[None]
        expected = model(ids, output_hidden_states=True).hidden_states[1][0]
    torch.testing.assert_close(collect_states(model, [one], 100, layer=0).hidden, expected)


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_collected_states_lie_in_the_order_of_the_rows(batch_tokens: int) -> None:
    rows = token_rows(9)
    found = collect_states(small_llama(), rows, batch_tokens)
    assert found.ids.tolist() == np.concatenate([one.input_ids for one in rows]).tolist()
    assert found.counts.tolist() == [len(one.input_ids) for one in rows]
    assert found.place.tolist() == [place for one in rows for place in range(len(one.input_ids))]
    assert found.example.tolist() == [index for index, one in enumerate(rows) for _ in one.input_ids]


def test_a_token_predicts_where_the_next_is_a_target() -> None:
    rows = [row([5, 6], [7, 8]), row([5], [6]), row([], [7, 8, 9])]
    found = collect_states(small_llama(), rows, 1)
    assert found.predicts.int().tolist() == [0, 1, 1, 0, 1, 0, 1, 1, 0]


def test_rows_without_a_target_are_no_example_of_collected_states() -> None:
    rows = [row([5, 6, 7], []), row([5], [6]), row([8, 9], [])]
    found = collect_states(small_llama(), rows, 100)
    assert (found.ids.tolist(), found.counts.tolist(), found.example.tolist()) == ([5, 6], [2], [0, 0])


def test_no_state_at_all_is_said() -> None:
    with pytest.raises(CurateError, match="no row has a supervised token"):
        collect_states(small_llama(), [row([5, 6], [])], 100)


def test_collected_attention_is_that_of_its_row() -> None:
    model, rows = small_llama(dtype=torch.float64), token_rows(5)
    together = collect_states(model, rows, 10_000, attention_layers=2)
    alone = [collect_states(model, [one], 100, attention_layers=2) for one in rows]
    assert together.focus is not None
    assert together.received is not None
    torch.testing.assert_close(
        together.focus, torch.cat([one.focus for one in alone if one.focus is not None])
    )
    expected = torch.cat([one.received for one in alone if one.received is not None])
    torch.testing.assert_close(together.received, expected)


def test_collected_states_can_be_trained_on() -> None:
    """Tensors of inference mode could not be saved for a backward pass."""
    states = collect_states(small_llama(), token_rows(2), 100).hidden
    weight = torch.ones(32, requires_grad=True)
    (states @ weight).square().sum().backward()
    assert weight.grad is not None


def test_a_batch_read_twice_is_collected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory after the states were seen: the halves are seen again."""
    model, rows = small_llama(), token_rows(6)
    expected = collect_states(model, rows, 10_000)
    on_host = module._on_host

    def limited(values: torch.Tensor) -> Any:
        if len(values) > 2:
            raise torch.OutOfMemoryError("no more")
        return on_host(values)

    monkeypatch.setattr(module, "_on_host", limited)
    found = collect_states(model, rows, 10_000)
    assert found.ids.tolist() == expected.ids.tolist()
    torch.testing.assert_close(found.hidden, expected.hidden)


def test_a_readout_sees_a_row_under_the_view_that_it_asks() -> None:
    model, rows = small_llama(dtype=torch.float64), preference_rows(5)
    asked = [StateReadout("sum", lambda states: states.total(states.hidden))]
    views = {View.FULL: frozenset[Signal](), View.REJECTED: frozenset[Signal]()}
    found = compute_signals(model, rows, views, 200, readouts={View.REJECTED: asked})
    assert not found.readings
    for values, one in zip(found.view(View.REJECTED).readings["sum"], rows, strict=True):
        assert one.rejected is not None
        expected = of_transformers(model, one.rejected, None).sum(0)
        np.testing.assert_allclose(values, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_readings_are_in_the_order_of_the_rows_and_null_without_a_target() -> None:
    rows = [row([5], [6, 7, 8]), row([5, 6], []), row([5], [6])]
    found = read(small_llama(), rows, [StateReadout("count", lambda states: states.counts)])
    np.testing.assert_array_equal(found, [4, NAN, 2])


@pytest.mark.parametrize(("width", "shape"), [(None, (2,)), (3, (2, 3))])
def test_rows_without_states_have_as_many_nulls_as_told(width: int | None, shape: tuple[int, ...]) -> None:
    asked = [StateReadout("none", lambda states: states.hidden[:1, :3], width=width)]
    found = read(small_llama(), [row([5, 6], [])] * 2, asked)
    assert found.shape == shape
    assert np.isnan(found).all()


def test_a_layer_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(CurateError, match=r"below the model's 2 layers. Got 2"):
        collect_states(small_llama(), token_rows(1), 100, layer=2)


def test_attention_over_two_numbers_of_layers_is_refused() -> None:
    asked = [StateReadout(str(depth), lambda s: s.counts, attention_layers=depth) for depth in (1, 2)]
    with pytest.raises(ValueError, match=r"one number of layers. Got \[1, 2\]"):
        read(small_llama(), token_rows(1), asked)


def test_no_hook_stays_on_the_model() -> None:
    model = small_llama()
    collect_states(model, token_rows(2), 100, layer=1, attention_layers=1)
    assert not model.model.layers[1]._forward_hooks
    assert model.config._attn_implementation == "sdpa"


def every_readout() -> list[Readout]:
    """One of each kind: a sum at the last layer and at the first, by place and by what is predicted."""
    return [
        StateReadout("last", lambda s: s.total(s.hidden * (s.place + 1.0)[:, None])),
        StateReadout("first", lambda s: s.total(s.hidden * s.predicts[:, None]), layer=0),
        StateReadout("largest", lambda s: s.largest(s.hidden[:, 0] + s.ids)),
        HeadProduct(
            "product",
            torch.linspace(-1, 1, 32).expand(VOCABULARY, 32).contiguous()
            + torch.arange(VOCABULARY)[:, None] % 7,
        ),
    ]


@pytest.mark.parametrize("batch_tokens", [1, 90, 10_000])
def test_packed_is_padded(batch_tokens: int) -> None:
    """Rows end to end in one sequence, told apart by their positions, as a flash kernel takes them."""
    model, rows = small_llama(), preference_rows(10)
    wanted = {view: frozenset(Signal) for view in View}
    readouts = {view: every_readout() for view in View}
    packed, padded = (
        compute_signals(model, rows, wanted, batch_tokens, readouts=readouts, layout=layout)
        for layout in ("packed", "padded")
    )
    for view in View:
        one, other = packed.view(view), padded.view(view)
        for signal in one.per_token:
            np.testing.assert_allclose(
                one.per_token[signal], other.per_token[signal], rtol=2e-4, atol=2e-5, err_msg=signal
            )
        for signal in one.per_example:
            np.testing.assert_allclose(one.example(signal), other.example(signal), rtol=2e-4, atol=2e-5)
        for name, values in other.readings.items():
            size = float(np.nanmax(np.abs(values)))
            np.testing.assert_allclose(
                one.readings[name], values, rtol=2e-4, atol=2e-5 * size, err_msg=f"{view} {name}"
            )


def test_a_packed_batch_is_its_rows_end_to_end() -> None:
    """Places in each row count from 0: a model with learnt positions reads them."""
    inputs = [
        input_of(one, View.FULL, frozenset(), whole=False)
        for one in (row([5, 6], [7, 8]), row([9], [10, 11]), row([12], [13]))
    ]
    batch = prepare(small_llama(), inputs, "packed", torch.device("cpu"))
    assert batch.position_ids is not None
    assert batch.input_ids.tolist() == [[5, 6, 7, 9, 10, 12]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert batch.before.tolist() == [1, 2, 3, 4, 5]
    assert batch.target_ids.tolist() == [7, 8, 10, 11, 13]


def test_a_packed_pass_has_no_padding() -> None:
    record, rows = Throughput(), token_rows(10)
    compute_signals(
        small_llama(), rows, {View.FULL: {Signal.ENTROPY}}, 80, throughput=record, layout="packed"
    )
    assert record.packed_tokens == record.padded_tokens == record.tokens


def test_attention_statistics_are_taken_over_padded_rows() -> None:
    """Of a packed sequence they would be those of one long row."""
    model, rows = small_llama(), token_rows(6)
    asked = [StateReadout("focus", lambda s: s.total(s.focus), attention_layers=2)]
    packed, padded = (
        compute_signals(model, rows, FULL, 200, readouts={View.FULL: asked}, layout=layout)
        for layout in ("packed", "padded")
    )
    np.testing.assert_allclose(packed.readings["focus"], padded.readings["focus"], rtol=1e-5)
