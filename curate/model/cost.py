"""Cost: floating-point operations of a forward pass, and what the device can do of them."""

import time
from collections.abc import Sequence

import torch
from torch import nn

from curate.model.head import decoder_of


def forward_flops(model: nn.Module, lengths: Sequence[int], targets: int) -> float:
    """Operations of the matrix products of one forward: 2 per multiply-add, padding not counted.

    lengths: tokens of each row. targets: positions at which the output head is applied. Counts every weight
    matrix of the decoder but the input embedding (for a mixture of experts: all experts, too much), causal
    attention at half of its square, and the head.
    """
    weights, layers, width, head = _sizes(model)
    tokens = sum(lengths)
    attention = 2.0 * layers * width * sum(length * length for length in lengths)
    return 2.0 * weights * tokens + attention + 2.0 * head * targets


def _sizes(model: nn.Module) -> tuple[int, int, int, int]:
    """Weights of the decoder's matrices, layers, width, weights of the head."""
    embedding = model.get_input_embeddings().weight  # type: ignore[operator]
    matrices = sum(
        weight.numel()
        for weight in decoder_of(model).parameters()
        if weight.ndim >= 2 and weight is not embedding
    )
    config = model.config.get_text_config()  # type: ignore[operator,union-attr]
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    return matrices, config.num_hidden_layers, config.hidden_size, head.numel()


def matrix_peak_flops(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """Operations per second of one large square matrix product on the device, the best of four.

    size: of its sides; by default 8192 on a GPU and 2048 on a CPU. What it measures is what the device does
    at the moment, other work included; a GPU's data sheet says more, by 10 to 30 %.
    """
    side = size or (8192 if device.type == "cuda" else 2048)
    generator = torch.Generator(device).manual_seed(0)
    left = torch.randn((side, side), dtype=dtype, device=device, generator=generator)
    best = float("inf")
    for _ in range(4):
        _synchronise(device)
        started = time.perf_counter()
        left @ left
        _synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * side**3 / best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
