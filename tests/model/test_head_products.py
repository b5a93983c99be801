"""Products of the head's gradient with a direction, and its mean over rows: against autograd, in any memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from passes import VOCABULARY, row, small_llama, token_rows

from curate.model import signals as module
from curate.model.forward import Asked, Batch, Outputs
from curate.model.head import OutputHead
from curate.model.head_pass import HeadPass
from curate.model.request import HeadProduct, Readout, Signal, StateReadout, TokenRow, View
from curate.model.signals import Throughput, collect_states, compute_signals, mean_head_gradient

FULL: dict[View, frozenset[Signal]] = {View.FULL: frozenset()}


def read(model: Any, rows: Sequence[TokenRow], readouts: Sequence[Readout], batch_tokens: int = 120) -> Any:
    """The first readout under FULL."""
    return compute_signals(model, rows, FULL, batch_tokens, readouts={View.FULL: readouts}).readings[
        readouts[0].name
    ]


def gradient(model: Any, one: TokenRow) -> torch.Tensor:
    """d(mean loss)/d[weight | bias] of one row, by autograd through transformers' own logits."""
    ids = torch.from_numpy(one.input_ids.astype(np.int64))
    head = model.lm_head
    parameters = [head.weight] if head.bias is None else [head.weight, head.bias]
    logits = model(ids[None]).logits[0, :-1][torch.from_numpy(one.supervised[1:])]
    loss = torch.nn.functional.cross_entropy(logits, ids[1:][torch.from_numpy(one.supervised[1:])])
    found = torch.autograd.grad(loss, parameters)
    return torch.column_stack(found).detach()


def direction(bias: bool = False, dtype: torch.dtype = torch.float32, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VOCABULARY, 32 + bias, generator=generator, dtype=torch.float64).to(dtype)


def expected_products(model: Any, rows: Sequence[TokenRow], along: torch.Tensor) -> NDArray[np.float64]:
    return np.array([float((gradient(model, one).double() * along).sum()) for one in rows])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_a_product_is_that_with_autograds_gradient(bias: bool, batch_tokens: int) -> None:
    model, rows = small_llama(bias=bias, dtype=torch.float64), token_rows(8)
    along = direction(bias, torch.float64)
    found = read(model, rows, [HeadProduct("product", along)], batch_tokens)
    np.testing.assert_allclose(found, expected_products(model, rows, along), rtol=1e-9, atol=1e-12)


def test_two_directions_are_kept_apart() -> None:
    model, rows = small_llama(dtype=torch.float64), token_rows(4)
    one, other = direction(dtype=torch.float64), direction(dtype=torch.float64, seed=4)
    asked = [HeadProduct("one", one), HeadProduct("other", other)]
    found = compute_signals(model, rows, FULL, 100, readouts={View.FULL: asked}).readings
    for name, along in (("one", one), ("other", other)):
        np.testing.assert_allclose(found[name], expected_products(model, rows, along), rtol=1e-9, atol=1e-12)


def test_a_product_in_bfloat16_is_near_that_in_float32() -> None:
    rows, along = token_rows(12), direction()
    model = small_llama(dtype=torch.bfloat16)
    rounded = read(model, rows, [HeadProduct("product", along)])
    exact = read(model.float(), rows, [HeadProduct("product", along)])
    np.testing.assert_allclose(rounded, exact, atol=0.05 * float(np.abs(exact).max()))


@pytest.mark.parametrize("signals", [frozenset[Signal](), frozenset(Signal)])
@pytest.mark.parametrize("rows_held", [1, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_examples_too_long_to_hold(
    signals: frozenset[Signal], rows_held: int, dtype: torch.dtype
) -> None:
    """Examples of up to 30 targets, in chunks of a few tokens: the same products, whatever else is asked."""
    generator = torch.Generator().manual_seed(0)
    counts = [3, 1, 30, 2, 4]
    head = OutputHead(torch.randn(50, 8, generator=generator).to(dtype), None)
    hidden = torch.randn(sum(counts), 8, generator=generator).to(dtype)
    targets = torch.randint(50, (sum(counts),), generator=generator)
    products = [HeadProduct("product", torch.randn(50, 8, generator=generator))]
    token_bytes = 50 * (4 if dtype == torch.float32 else 2 + 4)
    plenty, scarce = (torch.zeros(50, 8) for _ in range(2))
    one = HeadPass(head, frozenset(), 1 << 20, products, plenty).run(hidden, targets, counts)[2]
    other = HeadPass(head, signals, rows_held * token_bytes, products, scarce).run(hidden, targets, counts)[2]
    np.testing.assert_allclose(other["product"], one["product"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scarce, plenty, rtol=1e-4, atol=1e-5)


def test_a_direction_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(272, 33\). Got \(272, 32\)"):
        read(small_llama(bias=True), token_rows(1), [HeadProduct("product", direction())])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_the_mean_gradient_is_autograds(bias: bool, batch_tokens: int) -> None:
    model, rows = small_llama(bias=bias, dtype=torch.float64), token_rows(6)
    found = mean_head_gradient(model, rows, batch_tokens)
    expected = torch.stack([gradient(model, one) for one in rows]).mean(0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_the_mean_gradient_in_bfloat16_is_near_that_in_float32() -> None:
    model, rows = small_llama(dtype=torch.bfloat16), token_rows(6)
    rounded = mean_head_gradient(model, rows, 100)
    exact = mean_head_gradient(model.float(), rows, 100)
    assert np.linalg.norm(rounded - exact) < 0.03 * np.linalg.norm(exact)


def test_rows_without_a_target_do_not_count_in_the_mean_gradient() -> None:
    model, one = small_llama(dtype=torch.float64), row([5, 6], [7, 8])
    found = mean_head_gradient(model, [one, row([5, 6], []), one], 100)
    np.testing.assert_allclose(found, gradient(model, one), rtol=1e-6, atol=1e-9)


def test_no_batch_is_added_twice_to_the_gradient_when_memory_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, rows = small_llama(dtype=torch.float64), token_rows(9)
    expected = mean_head_gradient(model, rows, 10_000)
    forward = module.forward

    def limited(model: Any, batch: Batch, asked: Asked | None) -> Outputs:
        if len(batch.lengths) > 3:
            raise torch.OutOfMemoryError("no more")
        return forward(model, batch, asked)

    monkeypatch.setattr(module, "forward", limited)
    np.testing.assert_allclose(mean_head_gradient(model, rows, 10_000), expected, rtol=1e-6, atol=1e-12)
    assert "out of memory with a batch of" in caplog.text


def test_memory_that_ends_after_adding_is_an_error_and_no_second_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    run = HeadPass.run

    def limited(head_pass: HeadPass, hidden: torch.Tensor, targets: torch.Tensor, counts: list[int]) -> Any:
        found = run(head_pass, hidden, targets, counts)
        if len(counts) > 1:
            raise torch.OutOfMemoryError("no more")
        return found

    monkeypatch.setattr(HeadPass, "run", limited)
    with pytest.raises(torch.OutOfMemoryError):
        mean_head_gradient(small_llama(), token_rows(9), 10_000)


def test_other_views_are_no_part_of_the_gradient() -> None:
    model, one = small_llama(dtype=torch.float64), row([5, 6, 7, 8], [9, 10])
    total = torch.zeros(VOCABULARY, 32, dtype=torch.float64)
    wanted = {view: frozenset[Signal]() for view in View}
    compute_signals(model, [one], wanted, 100, head_gradient=total)
    torch.testing.assert_close(total, gradient(model, one))


def test_the_product_with_its_own_gradient_is_the_squared_norm() -> None:
    model, one = small_llama(dtype=torch.float64), token_rows(1)[0]
    own = torch.from_numpy(mean_head_gradient(model, [one], 100))
    wanted = {View.FULL: frozenset({Signal.HEAD_GRADIENT_NORM})}
    found = compute_signals(model, [one], wanted, 100, readouts={View.FULL: [HeadProduct("product", own)]})
    assert found.readings["product"][0] == pytest.approx(found.example(Signal.HEAD_GRADIENT_NORM)[0] ** 2)


class Products:
    """Counts products with a weight of the head's shape."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        measure = HeadPass._measure

        def counted(head_pass: HeadPass, hidden: torch.Tensor, *others: Any) -> None:
            self.rows += len(hidden)
            measure(head_pass, hidden, *others)

        monkeypatch.setattr(HeadPass, "_measure", counted)


def test_the_head_is_not_applied_where_states_alone_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    applied = Products(monkeypatch)
    collect_states(small_llama(), token_rows(3), 100)
    assert applied.rows == 0


def test_the_head_is_applied_once_to_each_target_for_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    applied, rows = Products(monkeypatch), token_rows(3)
    read(small_llama(), rows, [HeadProduct("product", direction())])
    assert applied.rows == sum(int(one.supervised.sum()) for one in rows)


def test_operations_of_the_head_are_counted_where_it_is_applied() -> None:
    model, one, records = small_llama(), row([5, 6], [7, 8]), [Throughput(), Throughput()]
    asked = [StateReadout("count", lambda states: states.counts)]
    for record, wanted in zip(records, (frozenset[Signal](), {Signal.ENTROPY}), strict=True):
        compute_signals(
            model, [one], {View.FULL: wanted}, 100, throughput=record, readouts={View.FULL: asked}
        )
    assert records[1].flops - records[0].flops == 2 * VOCABULARY * 32 * 2


@pytest.fixture(scope="module")
def wide() -> tuple[OutputHead, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A head of 150,000 tokens and width 8, 20 states, their targets, a direction."""
    generator = torch.Generator().manual_seed(5)
    weight, along = (torch.randn(150_000, 8, generator=generator) for _ in range(2))
    targets = torch.randint(150_000, (20,), generator=generator)
    return OutputHead(weight, None), torch.randn(20, 8, generator=generator), targets, along


def naive_wide(
    wide: tuple[OutputHead, torch.Tensor, torch.Tensor, torch.Tensor],
) -> dict[str, NDArray[np.float64]]:
    """All logits at once, in float64, as one example."""
    head, hidden, targets, along = wide
    logs = (hidden.double() @ head.weight.double().T).log_softmax(-1)
    own = logs.gather(1, targets[:, None])
    residual = logs.exp().scatter_add(1, targets[:, None], -torch.ones_like(own))
    whole = residual.T @ hidden.double() / 20
    others = logs.scatter(1, targets[:, None], -torch.inf).amax(1).exp()
    found = {
        Signal.LOG_PROBABILITY: own[:, 0],
        Signal.ENTROPY: -(logs.exp() * logs).sum(1),
        Signal.ERROR_NORM: residual.norm(dim=1),
        Signal.MARGIN: own[:, 0].exp() - others,
        Signal.TARGET_RANK: (logs > own).sum(1),
        Signal.HEAD_GRADIENT_NORM: whole.norm()[None],
        Signal.HEAD_WEIGHT_GRADIENT_PRODUCT: (whole * head.weight).sum()[None],
        Signal.HEAD_WEIGHT_NORM: head.weight.double().norm()[None],
        "product": (whole * along).sum()[None],
    }
    return {name: values.double().numpy() for name, values in found.items()}


@pytest.mark.parametrize("rows_held", [3, 20])
def test_a_vocabulary_of_150_000_in_chunks_is_exact(
    wide: tuple[OutputHead, torch.Tensor, torch.Tensor, torch.Tensor], rows_held: int
) -> None:
    head, hidden, targets, along = wide
    head_pass = HeadPass(head, frozenset(Signal), rows_held * 150_000 * 4, [HeadProduct("product", along)])
    tokens, examples, products = head_pass.run(hidden, targets, [20])
    found: dict[str, NDArray[np.float64]] = {**tokens, **examples, **products}
    for name, expected in naive_wide(wide).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
