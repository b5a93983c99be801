"""Leakage: the matches of contamination.json as the report shows them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.report.examples import Example, cut

if TYPE_CHECKING:
    from curate.runs import Run

FILE = "contamination.json"
SHOWN = 25
"""Matches whose texts are shown, the strongest."""
CHARACTERS = 1000


@dataclass(frozen=True)
class Match:
    """Two rows that share text. told: what they share, in words; words: the longest run of shared words."""

    id: str
    evaluation_id: str
    words: str
    told: str
    row: Example
    evaluation: Example


@dataclass(frozen=True)
class Leakage:
    """What of the evaluation stands in the pool. rows: a line per evaluation source. more: matches not shown."""

    told: str
    warnings: Sequence[str]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    matches: Sequence[Match]
    more: int


def leakage(run: "Run") -> Leakage | None:
    """None where the run has no contamination.json."""
    path = run.path / FILE
    if not path.exists():
        return None
    found: Mapping[str, Any] = json.loads(path.read_bytes())
    near = found["similarity"]
    how = f"runs of {found['words']} words" + ("" if near is None else f", or a cosine from {near:g} on")
    gone = "were dropped" if found["drop"] else "were kept: the stage warns only"
    share = f", at least {found['min_share']:.0%} of its n-grams" if found["min_share"] else ""
    told = f"{found['matched']:,} of {found['rows']:,} rows share {how} with an evaluation row{share}"
    if found["matched"]:
        told += f", {found['half']:,} of them half of it or more; they {gone}; {found['kept']:,} are in the selection"
    rows = [
        (name, f"{each['rows']:,}", f"{each['found']:,}", f"{each['pool_rows']:,}")
        for name, each in found["evaluation"].items()
    ]
    return Leakage(
        told=f"{told}.",
        warnings=found["warnings"],
        head=("evaluation", "rows", "of these matched", "pool rows that match"),
        rows=rows,
        matches=[_match(each) for each in found["matches"][:SHOWN]],
        more=max(0, found["matched"] - SHOWN),
    )


def _match(found: Mapping[str, Any]) -> Match:
    shared = []
    if found["part"] is not None:
        shared.append(
            f"{found['ngrams']:,} n-grams, {found['share']:.0%} of the evaluation row's, in the {found['part']}"
        )
    if found["similarity"] is not None:
        shared.append(f"cosine {found['similarity']:.3f}")
    if found["others"]:
        shared.append(f"{found['others']:,} further evaluation rows match")
    return Match(
        found["id"],
        found["evaluation_id"],
        found["words"] or "",
        f"{'; '.join(shared)}. The pool's row is {'in' if found['kept'] else 'not in'} the selection.",
        Example(found["id"], found["source"], "pool", *_texts(found, "")),
        Example(
            found["evaluation_id"], found["evaluation_source"], "evaluation", *_texts(found, "evaluation_")
        ),
    )


def _texts(found: Mapping[str, Any], which: str) -> tuple[str, str]:
    return cut(found[f"{which}prompt"], CHARACTERS), cut(found[f"{which}response"], CHARACTERS)
