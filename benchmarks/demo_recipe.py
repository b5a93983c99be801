"""Which selection does best on the demo's pool: `python benchmarks/demo_recipe.py`.

Every candidate takes the place of the last selection of configs/demo.yaml, at the same budget, for several
seeds (which also change the 500 rows that the cascade scores, and the order of training). Beside
each stands a length-matched random subset of as many tokens. Held-out loss, mean over the four sources, in
nats per supervised token; lower is better. What was run before is read from the store.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import curate

EASIER = {"band": {"by": "loss", "high": 0.65, "per": "source"}}
EQUAL = {"random": {"per": "source", "allocation": "equal"}}
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "lowest IFD, sources in turn": [{"round_robin": {"by": "ifd", "order": "lowest"}}],
    "lowest loss, sources in turn": [{"round_robin": {"by": "loss", "order": "lowest"}}],
    "lowest EL2N, sources in turn": [{"round_robin": {"by": "el2n", "order": "lowest"}}],
    "highest IFD below 0.95, sources in turn": [
        {"round_robin": {"by": "ifd", "order": "highest", "max": 0.95}}
    ],
    "without the 35% highest loss per source, then random": [EASIER],
    "without the 25% highest loss per source, then random": [
        {"band": {"by": "loss", "high": 0.75, "per": "source"}}
    ],
    "without the 25% highest IFD per source, then random": [
        {"band": {"by": "ifd", "high": 0.75, "per": "source"}}
    ],
    "without the 25% highest EL2N per source, then random": [
        {"band": {"by": "el2n", "high": 0.75, "per": "source"}}
    ],
    "without the 35% highest loss per source, then random, equal per source": [EASIER, EQUAL],
    "without the 35% highest loss per source, then lowest IFD, sources in turn": [
        EASIER,
        {"round_robin": {"by": "ifd", "order": "lowest"}},
    ],
    "without the 35% highest loss per source, then highest IFD, sources in turn": [
        EASIER,
        {"round_robin": {"by": "ifd", "order": "highest"}},
    ],
    "random, equal per source": [EQUAL],
    "random": [{"random": {}}],
}
"""The selections that take turns, each ending with the one that gets the budget."""


def configuration(
    recipe: dict[str, Any], selects: list[dict[str, Any]], budget: str, seed: int, baselines: bool
) -> Any:
    """The recipe with its last selection replaced."""
    stages = recipe["stages"]
    last = max(index for index, stage in enumerate(stages) if "select" in stage)
    chosen = [{"select": dict(select)} for select in selects]
    ((name, fields),) = selects[-1].items()
    chosen[-1] = {"select": {name: {**fields, "budget": budget}}}
    tail = [dict(stage) for stage in stages[last + 1 :]]
    tail[-1] = {
        "evaluate": {**tail[-1]["evaluate"], "baselines": ["length_matched_random"] if baselines else []}
    }
    return {**recipe, "name": "demo_recipe", "seed": seed, "stages": [*stages[:last], *chosen, *tail]}


def main() -> None:
    """Run all, print a table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, metavar="CANDIDATE", help="only these")
    parser.add_argument("--budget", default="3000 tokens", help="for each, whatever was dropped before")
    parser.add_argument("--no-baselines", action="store_true")
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    print("| selection | seed | rows | corrupted | before | selected | length-matched random | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name, selects in CANDIDATES.items():
        if arguments.only and name not in arguments.only:
            continue
        differences = []
        for seed in arguments.seeds:
            config = configuration(recipe, selects, arguments.budget, seed, not arguments.no_baselines)
            run = curate.run(config, runs=arguments.runs, runner="local")
            losses = {key: value["source_mean"] for key, value in run.evaluation["losses"].items()}
            truth = run.selected.join(run.rows.select("position", "meta.corruption"), on="position").collect()
            bad = float((truth["meta.corruption"] != "none").mean() or 0)
            matched = losses.get("length_matched_random", float("nan"))
            differences.append(losses["selected"] - matched)
            print(
                f"| {name} | {seed} | {truth.height} | {bad:.1%} | {losses['before']:.3f} | {losses['selected']:.3f} "
                f"| {matched:.3f} | {differences[-1]:+.3f} |",
                flush=True,
            )
        if len(differences) > 1:
            spread = np.std(differences, ddof=1) / np.sqrt(len(differences))
            print(
                f"| **{name}** | all | | | | | | **{np.mean(differences):+.3f} ± {spread:.3f}** |", flush=True
            )


if __name__ == "__main__":
    main()
