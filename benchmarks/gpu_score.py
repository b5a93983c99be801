"""The one pass on a GPU, without a pool, a download or a tokenizer: needs torch, transformers and numpy alone.

    python benchmarks/gpu_score.py --rows 2000 --attention sdpa --peak-tflops 989 > figures.json

Models of random weights, made on the device: 0.135B (the shape of SmolLM2-135M), 0.5B and 1.5B (of Qwen2.5), all
with tied embeddings. Rows of random tokens, with lengths as in instruction data: fitted to 2,500 rows of the
pool of benchmarks/README.md (353 and 82 characters of prompt and response on average, with a heavy tail), in tokens
of SmolLM2's tokenizer under its chat template. The prompt has 32 tokens of the template and a log-normal number
(median 30, sigma 1.44: mean 85), the response a log-normal number (median 10, sigma 1.22: mean 21, at least
2); each is drawn by itself, and a row is cut to --max-tokens, by default 1,024.

The ways alternate, --repeats times after one round to warm up; medians are compared:

- all signals: `compute_signals` for loss, entropy, EL2N, GraNd and DONOD together, one forward of each row.
- loss: the log-probabilities alone, from which loss, perplexity and bits per character follow.
- bare forward: the same batches with logits at every position, from which nothing is computed. Where they take
  more than --logits-gib, the head runs in chunks, and `bare_logits` says so.
- bare, lean: no mask, cut after the last target, the head at targets alone.
- batch size 1: the public kind of loop over --single-rows of the rows (evenly spaced by length), a forward of
  its own for each method; gradients by autograd through the head alone or by `loss.backward()`.

tokens_per_second counts the tokens of whole rows, without padding. fraction_of_matrix_peak: the operations of the
forward's own matrix products (without padding and without what the scores add), against one large matrix product
measured on this device; fraction_of_data_sheet: against --peak-tflops. JSON on stdout, progress on stderr.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from _passes import LOGITS_BYTES, Way, alternate, bare, bare_batches, bare_lean, logits_bytes, one_at_a_time
from transformers import AutoConfig, AutoModelForCausalLM

from curate.model.cost import forward_flops, matrix_peak_flops
from curate.model.forward import choose_layout
from curate.model.request import Signal, TokenRow, View
from curate.model.signals import Throughput, compute_signals

TEMPLATE_TOKENS = 32
PROMPT = (30.0, 1.44)
RESPONSE = (10.0, 1.22)
"""Median and sigma of log-normal numbers of tokens."""

ALL = frozenset(
    {
        *(Signal.LOG_PROBABILITY, Signal.ENTROPY, Signal.ERROR_NORM),
        *(Signal.HEAD_GRADIENT_NORM, Signal.HEAD_WEIGHT_GRADIENT_PRODUCT, Signal.HEAD_WEIGHT_NORM),
    }
)
LOSS = frozenset({Signal.LOG_PROBABILITY})
METHODS = ("loss", "entropy", "el2n", "grand", "donod")
GRADIENT_METHODS = METHODS[3:]


def shape(
    kind: str, width: int, layers: int, heads: int, key_heads: int, inner: int, vocabulary: int
) -> dict[str, Any]:
    """A configuration's fields."""
    return {
        "model_type": kind,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        "use_cache": False,
    }


SIZES = {
    "tiny": shape("llama", 64, 2, 4, 2, 128, 512),
    "0.135B": shape("llama", 576, 30, 9, 3, 1536, 49_152),
    "0.5B": shape("qwen2", 896, 24, 14, 2, 4864, 151_936),
    "1.5B": shape("qwen2", 1536, 28, 12, 2, 8960, 151_936),
}


def draw_rows(count: int, longest: int, vocabulary: int, seed: int) -> list[TokenRow]:
    """Rows of random tokens, a prompt and a supervised response, with the lengths of the module's docstring."""
    generator = np.random.default_rng(seed)
    prompts = TEMPLATE_TOKENS + generator.lognormal(np.log(PROMPT[0]), PROMPT[1], count)
    responses = np.maximum(2, generator.lognormal(np.log(RESPONSE[0]), RESPONSE[1], count))
    rows = []
    for prompt, response in zip(prompts.astype(int), responses.astype(int), strict=True):
        target = min(int(response), longest // 2)
        length = min(int(prompt) + target, longest)
        ids = generator.integers(0, vocabulary, length, dtype=np.int32)
        rows.append(TokenRow(ids, np.arange(length) >= length - target))
    return rows


def build(size: str, dtype: torch.dtype, device: torch.device, attention: str, seed: int) -> Any:
    """The model, of random weights; the head alone takes gradients."""
    config = AutoConfig.for_model(**SIZES[size])
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    model.eval().requires_grad_(False)
    model.get_output_embeddings().requires_grad_(True)
    return model


def spaced(rows: list[TokenRow], count: int) -> list[TokenRow]:
    """So many of the rows, evenly spaced by length."""
    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    places = (np.arange(min(count, len(rows))) + 0.5) * len(rows) / min(count, len(rows))
    return [ordered[place] for place in places.astype(int).tolist()]


def measure(size: str, arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """All ways with one model."""
    dtype = getattr(torch, arguments.dtype)
    model = build(size, dtype, device, arguments.attention, arguments.seed)
    rows = draw_rows(arguments.rows, arguments.max_tokens, model.config.vocab_size, arguments.seed)
    few = spaced(rows, arguments.single_rows)
    budget, layout = arguments.batch_tokens, choose_layout(model)
    most = int(arguments.logits_gib * (1 << 30))
    whole = bare_batches(model, rows, budget, layout, lean=False)
    lean = bare_batches(model, rows, budget, layout, lean=True)
    record = Throughput()
    compute_signals(model, rows, {View.FULL: LOSS}, budget, throughput=record)

    ways: dict[str, Way] = {
        "all signals": partial(compute_signals, model, rows, {View.FULL: ALL}, budget),
        "loss": partial(compute_signals, model, rows, {View.FULL: LOSS}, budget),
        "bare forward": partial(bare, model, whole, most),
        "bare, lean": partial(bare_lean, model, lean, most),
    }
    for method in METHODS:
        ways[single(method)] = partial(one_at_a_time, model, method, few, True)
    for method in GRADIENT_METHODS:
        ways[single(method, True)] = partial(one_at_a_time, model, method, few, False)
    found = alternate(ways, arguments.repeats, device)

    tokens, few_tokens = (sum(len(row.input_ids) for row in each) for each in (rows, few))
    all_positions = sum(forward_flops(model, batch.lengths, sum(batch.lengths)) for batch in whole)
    alone = sum(forward_flops(model, [len(row.input_ids)], len(row.input_ids)) for row in few)
    flops = dict.fromkeys(("all signals", "loss", "bare, lean"), record.flops)
    flops |= {"bare forward": all_positions, single("loss"): alone}
    peak = matrix_peak_flops(device, dtype)
    figures: dict[str, dict[str, Any]] = {}
    for name, each in found.items():
        on_few = name.startswith("batch size 1")
        per_second = flops[name] / each.median if name in flops else None
        figures[name] = {
            "seconds": each.median,
            "all_seconds": each.seconds,
            "tokens_per_second": (few_tokens if on_few else tokens) / each.median,
            "fraction_of_matrix_peak": per_second and per_second / peak,
            "fraction_of_data_sheet": per_second
            and arguments.peak_tflops
            and per_second / (arguments.peak_tflops * 1e12),
            "peak_memory_bytes": each.peak_bytes,
        }
        print(f"{size} {name}: {figures[name]['tokens_per_second']:.0f} tokens/s", file=sys.stderr)
    seconds = {name: each.median for name, each in found.items()}
    loops = sum(seconds[single(method)] for method in METHODS)
    backward = sum(seconds[single(m, True)] - seconds[single(m)] for m in GRADIENT_METHODS)
    scale = tokens / few_tokens
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "layout": layout,
        "batches": len(whole),
        "padded_tokens": record.padded_tokens,
        "tokens": tokens,
        "supervised_tokens": record.supervised_tokens,
        "bare_logits": "in chunks" if max(logits_bytes(model, b) for b in whole) > most else "whole batches",
        "matrix_peak_tflops": peak / 1e12,
        "ways": figures,
        "seconds_against": {
            "all signals / bare forward": seconds["all signals"] / seconds["bare forward"],
            "all signals / bare, lean": seconds["all signals"] / seconds["bare, lean"],
            "loss / bare forward": seconds["loss"] / seconds["bare forward"],
            "loss / bare, lean": seconds["loss"] / seconds["bare, lean"],
        },
        "times_as_fast_as_batch_size_1": {
            "loss": scale * seconds[single("loss")] / seconds["loss"],
            "all signals, gradients through the head": scale * loops / seconds["all signals"],
            "all signals, gradients by backward": scale * (loops + backward) / seconds["all signals"],
        },
    }


def single(method: str, backward: bool = False) -> str:
    """The name of a loop."""
    return f"batch size 1, {method}" + (" by backward" if backward else "")


def processor() -> str:
    """The name of the CPU, or of its kind where the system does not say it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def hardware(device: torch.device) -> dict[str, Any]:
    """What ran it."""
    on_gpu = device.type == "cuda"
    driver = None
    if on_gpu and shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    return {
        "device": torch.cuda.get_device_name(device)
        if on_gpu
        else platform.processor() or platform.machine(),
        "device_memory_bytes": torch.cuda.get_device_properties(device).total_memory if on_gpu else None,
        "driver": driver,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def main() -> None:
    """Measure each size; print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--single-rows", type=int, default=32, help="rows of the batch-size-1 loops")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["0.135B", "0.5B", "1.5B"])
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--batch-tokens", type=int, help="of a forward; by default 32768 on a GPU, 4096 else")
    parser.add_argument("--attention", choices=("sdpa", "flash_attention_2"), default="sdpa")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--logits-gib", type=float, default=LOGITS_BYTES / (1 << 30))
    parser.add_argument("--peak-tflops", type=float, help="of the device's data sheet, dense, in this dtype")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, least in (("rows", 1), ("single_rows", 1), ("max_tokens", 8), ("repeats", 1)):
        if getattr(arguments, name) < least:
            parser.error(
                f"--{name.replace('_', '-')} must be at least {least}. Got {getattr(arguments, name)}."
            )
    device = torch.device(arguments.device)
    if arguments.batch_tokens is None:
        arguments.batch_tokens = 32_768 if device.type == "cuda" else 4096
    machine = hardware(device)
    found = {size: measure(size, arguments, device) for size in arguments.sizes}
    lengths = np.array(
        [len(row.input_ids) for row in draw_rows(arguments.rows, arguments.max_tokens, 2, arguments.seed)]
    )
    distribution = dict(
        zip(("median", "p90", "p99", "max"), np.quantile(lengths, [0.5, 0.9, 0.99, 1]), strict=True)
    )
    report = {
        "hardware": machine,
        "settings": vars(arguments),
        "lengths": {"mean": lengths.mean(), **distribution},
        "peak_memory": "of each way" if device.type == "cuda" else "of the process, so far",
        "sizes": found,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
