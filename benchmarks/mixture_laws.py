"""Mixture laws against what happens: `python benchmarks/mixture_laws.py POOL.parquet DEV.parquet`.

First, simulated runs of known laws with noise: are predictions, the best mixture and the intervals right?

Then a real small search: a random Llama (--hidden, --layers, --vocabulary pieces made from the pool) is trained from
scratch on --mixtures mixtures of three domains, --tokens supervised tokens each (every token of a text counts), by
ordinary runs of curate. The loss is the mean over the domains of the loss on DEV. Laws are fitted to the first
mixtures; the last ones, the equal and the proportional mixture are predicted. Then the model is trained at each law's
optimum, through the mixer `laws`; "free" lets gamma be above 1 and weights leave the range that was tried. All losses
are means over --seeds, which change the rows drawn and their order.

Both files have the text columns `domain`, `prompt`, `response`; what was run before is read from the store. Without
files: the simulation alone.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import curate
from curate.mixers._mixture_runs import RunTable, read_runs
from curate.numerics.law_fitting import fit_law
from curate.numerics.law_optimum import Objective, best_mixture, intervals
from curate.numerics.law_runs import Runs, predictions
from curate.numerics.mixture_laws import FittedLaw, Form, Law

SIMULATED: list[tuple[Law, int, int, bool, float]] = [
    ("additive", 3, 12, False, 0.0005),
    ("additive", 3, 12, False, 0.005),
    ("additive", 3, 40, False, 0.005),
    ("additive", 4, 40, True, 0.005),
    ("joint", 3, 60, True, 0.005),
    ("exponential", 3, 12, False, 0.0005),
    ("exponential", 3, 12, False, 0.005),
]
"""Law, groups, runs, whether N and D vary, relative noise of a loss."""


def truth(law: Law, k: int, sized: bool, rng: np.random.Generator) -> FittedLaw:
    """A law with an optimum inside the simplex, most of the time."""
    names = tuple(f"group {place}" for place in range(k))
    form = Form(law, names, *((1e8, 1e9) if sized else ()))
    if law == "exponential":
        return FittedLaw(form, np.array([np.log(1.5), *rng.normal(-0.5, 1, k)]))
    theta = [np.log(1.7), *np.log(rng.uniform(0.5, 3, k)), *np.log(rng.uniform(0.2, 0.7, k))]
    for _ in form.sizes:
        theta += [np.log(0.4)] if law == "additive" else [*np.log(rng.uniform(0.2, 1, k)), np.log(1.2)]
        theta += [np.log(0.3)]
    return FittedLaw(form, np.array(theta))


def sampled(law: FittedLaw, count: int, noise: float, rng: np.random.Generator) -> Runs:
    """Runs at random mixtures, weights of at least 0.03."""
    k = len(law.form.groups)
    mixtures = 0.03 + (1 - 0.03 * k) * rng.dirichlet(np.ones(k), count)
    sizes: tuple[NDArray[np.float64], ...] = ()
    if law.form.sizes:
        sizes = (rng.choice([3e7, 1e8, 3e8], count), rng.choice([3e8, 1e9, 3e9, 1e10], count))
    runs = Runs(law.form.groups, mixtures, np.ones(count), *sizes)
    losses = predictions(law, runs) * np.exp(noise * rng.normal(size=count))
    return Runs(law.form.groups, mixtures, losses, *sizes)


def simulate(simulations: int, resamples: int) -> None:
    """Print how laws are recovered, as Markdown."""
    columns = "fit | leave-one-out | new mixtures | loss above the best: predicted / equal | in 90 %: weights, law, run"
    print(f"| law | groups | runs | noise | {columns} |\n|{'---|' * 9}")
    for law, k, count, sized, noise in SIMULATED:
        found = []
        for seed in range(simulations):
            rng = np.random.default_rng(seed)
            true = truth(law, k, sized, rng)
            runs, new = sampled(true, count, noise, rng), sampled(true, 200, 0, rng)
            fit = fit_law(law, runs, seed)
            least, most = np.full(k, 0.03), np.ones(k)
            objective, real = Objective((fit.law,), np.ones(1)), Objective((true,), np.ones(1))
            if sized:  # the largest size, as the mixer takes it
                objective, real = (Objective(each.laws, np.ones(1), 3e8, 1e10) for each in (objective, real))
            best, optimum = best_mixture(real, least, most), best_mixture(objective, least, most)
            spread = intervals([fit], objective, optimum, least, most, resamples, seed)
            at_optimum = real(optimum.mixture)[0]
            one_run = at_optimum * np.exp(noise * rng.normal())
            low, high = spread.weights.T
            inside = ((low <= best.mixture + 1e-6) & (best.mixture <= high + 1e-6)).mean()
            found.append(
                [
                    fit.diagnostics.mean_relative_error,
                    fit.diagnostics.leave_one_out_error,
                    np.abs(predictions(fit.law, new) / new.losses - 1).mean(),
                    at_optimum - best.loss,
                    real(np.full(k, 1 / k))[0] - best.loss,
                    inside,
                    spread.loss[0] <= at_optimum <= spread.loss[1],
                    spread.run[0] <= one_run <= spread.run[1],
                ]
            )
        mid, mean = np.median(found, axis=0), np.mean(found, axis=0)
        print(
            f"| {law}{', N and D' if sized else ''} | {k} | {count} | {noise:.2%} | {mid[0]:.3%} | {mid[1]:.3%} | "
            f"{mid[2]:.3%} | {mid[3]:.4f} / {mid[4]:.4f} | {mean[5]:.0%}, {mean[6]:.0%}, {mean[7]:.0%} |",
            flush=True,
        )


def make_model(folder: Path, texts: list[str], vocabulary: int, hidden: int, layers: int) -> None:
    """A random Llama and a byte-level BPE tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|pad|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|end|>", pad_token="<|pad|>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024, initializer_range=0.05,
        bos_token_id=0, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def prepare(arguments: argparse.Namespace, work: Path) -> dict[str, int]:
    """Write the texts of each domain and the model, once; returns the rows of each domain in the pool."""
    sizes: dict[str, int] = {}
    texts = []
    for name, path, most in (("pool", arguments.pool, arguments.rows), ("dev", arguments.dev, 150)):
        table = pl.read_parquet(path, columns=["domain", "prompt", "response"]).drop_nulls()
        text = pl.format("{}\n{}", "prompt", "response").alias("text")
        table = table.select("domain", text).filter(pl.col("text").str.len_chars().is_between(40, 500))
        table = table.unique(maintain_order=True).sample(fraction=1, shuffle=True, seed=0)
        for domain in arguments.domains:
            rows = table.filter(table["domain"] == domain).select("text")
            if name == "pool":
                sizes[domain] = rows.height
                texts += rows["text"].head(1500).to_list()
            rows.head(most).write_ndjson(work / f"{name}-{domain}.jsonl")
    model = work / f"model-{arguments.vocabulary}-{arguments.hidden}-{arguments.layers}"
    if not (model / "config.json").exists():
        make_model(model, texts, arguments.vocabulary, arguments.hidden, arguments.layers)
    return sizes


def trained(
    arguments: argparse.Namespace, work: Path, mix: dict[str, Any], seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """The loss on each domain's DEV rows, in nats, of the model trained by a mixer's schedule; and its notes."""
    source = {"format": "text", "columns": {"text": "text"}}
    held_out = [
        {"name": f"dev-{domain}", "path": str(work / f"dev-{domain}.jsonl"), **source}
        for domain in arguments.domains
    ]
    config = {
        "name": "mixture-laws",
        "seed": seed,
        "model": {
            "path": str(work / f"model-{arguments.vocabulary}-{arguments.hidden}-{arguments.layers}"),
            "dtype": "float32",
        },
        "tokens": {"max_tokens": 512},
        "sources": [
            {"name": domain, "path": str(work / f"pool-{domain}.jsonl"), **source}
            for domain in arguments.domains
        ],
        "stages": [
            {"mix": mix},
            {
                "train": {
                    "adapter": "full",
                    "batch_rows": arguments.batch_rows,
                    "learning_rate": arguments.learning_rate,
                    "schedule": "cosine",
                    "batch_tokens": 2048,
                }
            },
            {"evaluate": {"held_out": 0, "sources": held_out, "baselines": []}},
        ],
    }
    run = curate.run(config, runs=arguments.runs, runner="local")
    found = run.evaluation["losses"]["selected"]["sources"]
    (notes,) = [stage["notes"] for stage in run.stages if stage["name"].startswith("mix.")]
    return {domain: found[f"dev-{domain}"]["loss"] for domain in arguments.domains}, dict(notes)


def mixtures_of(domains: list[str], count: int) -> NDArray[np.float64]:
    """One near each corner, the others at random; weights of at least 0.03, in whole percent."""
    k = len(domains)
    random = 0.03 + (1 - 0.03 * k) * np.random.default_rng(1).dirichlet(np.ones(k), count - k)
    rounded = np.vstack([0.1 + (1 - 0.1 * k) * np.eye(k), random]).round(2)
    rounded[:, -1] = 1 - rounded[:, :-1].sum(axis=1)
    return np.asarray(rounded.round(2))


def search(arguments: argparse.Namespace) -> None:
    """Train, fit, predict, train at the optimum; print tables as Markdown."""
    work = arguments.runs / "mixture-laws-data"
    work.mkdir(parents=True, exist_ok=True)
    domains, sizes = arguments.domains, prepare(arguments, work)
    draws = {"draws": f"{arguments.tokens} tokens"}
    proportional = np.array([sizes[domain] for domain in domains], dtype=np.float64)
    baselines = {
        "equal": np.full(len(domains), 1 / len(domains)),
        "proportional": proportional / proportional.sum(),
    }
    measured: list[dict[str, Any]] = []
    by_seed: list[list[float]] = []

    def measure(name: str, mixture: NDArray[np.float64]) -> None:
        weights = dict(zip(domains, mixture.tolist(), strict=True))
        mix = {"weights": {"weights": weights, **draws}}
        losses = [trained(arguments, work, mix, seed)[0] for seed in arguments.seeds]
        means = {f"loss.{domain}": float(np.mean([each[domain] for each in losses])) for domain in domains}
        measured.append({"run": name, **weights, **means})
        by_seed.append([float(np.mean(list(each.values()))) for each in losses])
        shown = " ".join(f"{weight:.2f}" for weight in mixture)
        print(f"{name}: {shown}: {np.mean(by_seed[-1]):.4f} {by_seed[-1]}", file=sys.stderr, flush=True)

    for number, mixture in enumerate(mixtures_of(domains, arguments.mixtures)):
        measure(f"m{number:02d}", mixture)
    for name, mixture in baselines.items():
        measure(name, mixture)
    everything, fitted = work / "all.csv", work / "runs.csv"
    pl.DataFrame(measured).write_csv(everything)
    pl.DataFrame(measured).head(arguments.mixtures - arguments.held_back).write_csv(fitted)
    table, whole = read_runs(fitted), read_runs(everything)
    laws: tuple[Law, ...] = ("additive", "exponential")
    if len(arguments.seeds) > 1:
        noise = np.sqrt(np.var(by_seed, axis=1, ddof=1).mean() / len(arguments.seeds))
        print(f"Standard error of a measured loss, from the seeds: {noise:.4f} nats.\n")
    print(
        f"| law, one per domain | {' | '.join(('fit', 'leave-one-out', 'held back', 'equal', 'proportional'))} |"
    )
    print(f"|{'---|' * 6}")
    for law in laws:
        print(held_back(law, table, whole))
    print(
        f"\n| mixture | {', '.join(domains)} | predicted | 90 %: law; one run | measured | each seed |\n|{'---|' * 6}"
    )
    free = {"max_gamma": 20, "extrapolate": True, "min_weight": 0.02}
    for law, name, more in (*((law, law, {}) for law in laws), ("additive", "additive, free", free)):
        mix = {"laws": {"runs": str(fitted), "law": law, **more, **draws}}
        report(arguments, work, f"optimum, {name}", mix)
    for name, mixture in baselines.items():
        weights = dict(zip(domains, mixture.tolist(), strict=True))
        report(arguments, work, name, {"weights": {"weights": weights, **draws}})


def held_back(law: Law, table: RunTable, whole: RunTable) -> str:
    """A row of the table of errors: of the mean over domains, relative."""
    fits = [fit_law(law, table.runs(target), seed=0) for target in table.losses]
    count = len(table.mixtures)
    measured = np.mean([whole.losses[target] for target in table.losses], axis=0)
    predicted = np.mean([fit.law.predict(whole.mixtures) for fit in fits], axis=0)
    without = np.mean([fit.left_out_predicted for fit in fits], axis=0)
    errors = predicted / measured - 1
    loo = np.abs(without / measured[:count] - 1).mean()
    cells = [np.abs(errors[:count]).mean(), loo, np.abs(errors[count:-2]).mean()]
    return (
        f"| {law} | {' | '.join(f'{cell:.2%}' for cell in cells)} | {errors[-2]:+.2%} | {errors[-1]:+.2%} |"
    )


def report(arguments: argparse.Namespace, work: Path, name: str, mix: dict[str, Any]) -> None:
    """Train with each seed and print a row; what is predicted is what the first seed's run says."""
    found = [trained(arguments, work, mix, seed) for seed in arguments.seeds]
    losses = [np.mean(list(each.values())) for each, _ in found]
    ((_, fields),) = mix.items()
    predicted, weights = "| | ", fields.get("weights")
    notes = found[0][1]
    if "law" in notes:
        weights, spread = notes["mixture"], notes["intervals"]
        law, run = (f"{low:.3f} to {high:.3f}" for low, high in (spread["loss"], spread["loss_of_a_run"]))
        predicted = f"| {notes['predicted_loss']:.3f} | {law}; {run} "
    shown = ", ".join(f"{weight:.2f}" for weight in weights.values())
    several = ", ".join(f"{loss:.3f}" for loss in losses)
    print(f"| {name} | {shown} {predicted}| {np.mean(losses):.3f} | {several} |", flush=True)


def main() -> None:
    """Simulate, then search."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pool", type=Path, nargs="?")
    parser.add_argument("dev", type=Path, nargs="?")
    parser.add_argument("--domains", nargs="+", default=["math", "code", "chat"])
    parser.add_argument("--rows", type=int, default=4000, help="of a domain, at most")
    parser.add_argument("--tokens", type=int, default=240_000, help="that each mixture trains on")
    parser.add_argument("--mixtures", type=int, default=20)
    parser.add_argument("--held-back", type=int, default=4, help="of the mixtures, predicted and not fitted")
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch-rows", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--simulations", type=int, default=20, help="of each law; 0: none")
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    if arguments.simulations:
        simulate(arguments.simulations, arguments.resamples)
        print()
    if arguments.pool is not None:
        if arguments.dev is None:
            parser.error("a search needs DEV.parquet beside POOL.parquet")
        search(arguments)


if __name__ == "__main__":
    main()
