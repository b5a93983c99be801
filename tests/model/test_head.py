"""The head in chunks: closed forms, and the same result whatever the memory allows."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from curate.model.head import OutputHead
from curate.model.head_pass import HeadPass, gradient_norm
from curate.model.request import Signal

ALL = frozenset(Signal)
GRADIENT = frozenset({Signal.HEAD_GRADIENT_NORM})


def draw(
    tokens: int, vocabulary: int, width: int, bias: bool = False
) -> tuple[OutputHead, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    head = OutputHead(
        torch.randn(vocabulary, width, generator=generator),
        torch.randn(vocabulary, generator=generator) if bias else None,
    )
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    return head, torch.randn(tokens, width, generator=generator), targets


def from_logits(logits: list[list[float]], targets: list[int], signals: frozenset[Signal] = ALL):  # type: ignore[no-untyped-def]
    """Signals of one example with these logits: the head is their transpose, the states are one-hot."""
    weight = torch.tensor(logits, dtype=torch.float32).T.contiguous()
    return HeadPass(OutputHead(weight, None), signals, 1 << 20).run(
        torch.eye(len(logits)), torch.tensor(targets), [len(logits)]
    )


@pytest.mark.parametrize("vocabulary", [2, 7, 1000])
def test_uniform_prediction(vocabulary: int) -> None:
    tokens, _, _ = from_logits([[3.0] * vocabulary], [1])
    assert tokens[Signal.LOG_PROBABILITY][0] == pytest.approx(-math.log(vocabulary), rel=1e-6)
    assert tokens[Signal.ENTROPY][0] == pytest.approx(math.log(vocabulary), rel=1e-6)
    assert tokens[Signal.ERROR_NORM][0] == pytest.approx(math.sqrt(1 - 1 / vocabulary), rel=1e-6)


def test_right_and_sure() -> None:
    tokens, examples, _ = from_logits([[0.0, 200.0, 0.0]], [1])
    assert [tokens[signal][0] for signal in sorted(set(tokens) - {Signal.MARGIN})] == [0, 0, 0, 0]
    assert tokens[Signal.MARGIN][0] == 1
    assert examples[Signal.HEAD_GRADIENT_NORM][0] == 0


def test_wrong_and_sure() -> None:
    tokens, _, _ = from_logits([[0.0, 90.0, 0.0]], [2])
    assert tokens[Signal.ERROR_NORM][0] == pytest.approx(math.sqrt(2))
    assert tokens[Signal.LOG_PROBABILITY][0] == pytest.approx(-90)


def test_a_nearly_certain_token_keeps_its_digits() -> None:
    """Sum p^2 - 2 p_y + 1 in float32 would give 0 or 3e-4 here."""
    tokens, _, _ = from_logits([[10.0, 0.0]], [0])
    wrong = 1 / (1 + math.exp(10))
    assert tokens[Signal.ERROR_NORM][0] == pytest.approx(math.sqrt(2) * wrong, rel=0.01)
    assert tokens[Signal.LOG_PROBABILITY][0] == pytest.approx(-wrong, rel=0.01)


def test_large_logits_do_not_overflow() -> None:
    tokens, _, _ = from_logits([[1e4, 1e4 - 1.0]], [1])
    assert tokens[Signal.LOG_PROBABILITY][0] == pytest.approx(-math.log(1 + math.e), rel=1e-5)


def test_entropy_is_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(2000, 50, generator=generator) * 30).tolist()
    tokens, _, _ = from_logits(logits, [0] * 2000, frozenset({Signal.ENTROPY}))
    assert tokens[Signal.ENTROPY].min() >= 0


def test_a_single_token_has_the_product_of_norms() -> None:
    head, hidden, targets = draw(1, 50, 8)
    tokens, examples, _ = HeadPass(head, ALL, 1 << 20).run(hidden, targets, [1])
    expected = tokens[Signal.ERROR_NORM][0] * float(hidden.norm())
    assert examples[Signal.HEAD_GRADIENT_NORM][0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tokens", [1, 5, 40])
def test_both_forms_of_the_gradient_norm_are_the_definition(tokens: int) -> None:
    generator = torch.Generator().manual_seed(1)
    residuals = torch.randn(tokens, 9000, generator=generator, dtype=torch.float64)
    states = torch.randn(tokens, 12, generator=generator, dtype=torch.float64)
    expected = float(torch.linalg.norm(residuals.T @ states / tokens))
    for gram in (True, False, None):
        assert float(gradient_norm(residuals, states, gram)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", [4, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_changes_nothing(bias: bool, width: int, dtype: torch.dtype) -> None:
    counts = [3, 1, 30, 2, 4]
    head, hidden, targets = draw(sum(counts), 50, width, bias)
    head = OutputHead(head.weight.to(dtype), None if head.bias is None else head.bias.to(dtype))
    plenty = HeadPass(head, ALL, 1 << 20).run(hidden.to(dtype), targets, counts)
    for rows in (1, 3, 7):
        scarce = HeadPass(head, ALL, rows * 50 * dtype.itemsize).run(hidden.to(dtype), targets, counts)
        for one, other in zip(plenty, scarce, strict=True):
            for signal in one:
                np.testing.assert_allclose(other[signal], one[signal], rtol=2e-5, atol=1e-6)


def test_one_pass_after_another_gives_the_same() -> None:
    head, hidden, targets = draw(9, 50, 8)
    head_pass = HeadPass(head, ALL, 1 << 20)
    first = head_pass.run(hidden, targets, [4, 5])[1][Signal.HEAD_GRADIENT_NORM]
    head_pass.run(-hidden, targets, [9])
    np.testing.assert_array_equal(head_pass.run(hidden, targets, [4, 5])[1][Signal.HEAD_GRADIENT_NORM], first)


class Largest(TorchDispatchMode):
    """Remembers the largest result of any operation, in elements."""

    elements = 0
    product_elements = 0
    """As `elements`, of matrix products alone."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
            if func is torch.ops.aten.mm.default:
                self.product_elements = max(self.product_elements, result.numel())
        return result


@pytest.mark.parametrize(("tokens", "width", "largest"), [(10, 40, 10 * 10), (40, 10, 8192 * 10)])
def test_the_cheaper_form_of_the_gradient_norm_is_taken(tokens: int, width: int, largest: int) -> None:
    residuals, states = torch.ones(tokens, 9000), torch.ones(tokens, width)
    with Largest() as seen:
        gradient_norm(residuals, states)
    assert seen.product_elements == largest


@pytest.mark.parametrize("counts", [[60], [20, 20, 20]])
@pytest.mark.parametrize("signals", [ALL, frozenset({Signal.ENTROPY})])
def test_no_more_logits_than_allowed_exist(counts: list[int], signals: frozenset[Signal]) -> None:
    head, hidden, targets = draw(60, 5000, 4)
    head_pass = HeadPass(head, signals, 25 * 5000 * 4)
    with Largest() as largest:
        head_pass.run(hidden, targets, counts)
    assert 10 * 5000 < largest.elements <= 25 * 5000


def test_only_what_is_asked_is_returned() -> None:
    head, hidden, targets = draw(4, 50, 8)
    for signal in Signal:
        tokens, examples, _ = HeadPass(head, frozenset({signal}), 1 << 20).run(hidden, targets, [4])
        assert {*tokens, *examples} == {signal}


def test_gradients_are_not_computed_unasked() -> None:
    head, hidden, targets = draw(4, 50, 8)
    head_pass = HeadPass(head, ALL - GRADIENT, 1 << 20)
    with torch.profiler.profile() as profile:
        head_pass.run(hidden, targets, [4])
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::mm") == 1


def test_memory_for_less_than_a_token_is_refused() -> None:
    head, _, _ = draw(1, 50, 8)
    with pytest.raises(ValueError, match=r"at least 200 \(one token of 50 logits\). Got 199"):
        HeadPass(head, ALL, 199)
