"""Contamination: does a row of the pool hold what the model is evaluated on, or what the selection aims at?

Formula: a row's text is its prompt and response; its words and n-grams are as `numerics.ngram_index` says. A row of the
    pool matches an evaluation row where both have an n-gram that is not common and that share of the evaluation row's
    different n-grams, common ones included, is at least `min_share`; or where the cosine of their embeddings is at
    least `similarity`. An n-gram is common (a phrase, a template, a licence) if it comes under more than `max_prompts`
    different prompts (first user turns), of the pool or of the evaluation rows; so copies of a row, and many answers to
    one prompt, make nothing common. A row of fewer than n words matches only a row of just the same words.
Evaluation rows: those that `hold_out` set aside, the files of `evaluate: {sources: …}`, and `target`.
Cost: no model, O(bytes of the pool), in memory O(evaluation rows' text) beside a few numbers per row; with `similarity`
    a product of each row's embedding with each evaluation row's, and with `model` 1 forward of each.
Source: any shared n-gram of 8 to 13 words, those that more than 10 documents hold left aside, after Brown et al.,
    Language Models are Few-Shot Learners, 2020 (arXiv 2005.14165), appendix C. A share: Touvron et al., Llama 2, 2023
    (arXiv 2307.09288), A.6, and Lambert et al., Tülu 3, 2024 (arXiv 2411.15124), where 8 words and half of the
    evaluation row's tokens make a match: `{words: 8, min_share: 50%}`.
Deviations: more than 10 prompts, where the first counts documents; the share is of n-grams, where the latter two count
    tokens that some n-gram covers. n is the same for all evaluation rows; a shorter one is found in its like alone.

Where the list has no `contamination`, one with the defaults stands right behind `hold_out`: it warns, drops nothing,
and adds no column that a later stage reads, so that no fingerprint after it changes. There it sees the whole pool,
which the baselines are drawn from too, and is computed once for all lists over one pool. `check_contamination:
false` leaves it out. With `drop`, later items see no matched row; the baselines of `evaluate` draw from the pool as it
was before, matched rows included.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl
from pydantic import Field, model_validator

from curate.component import Component
from curate.numerics.ngram_index import NgramIndex, make_index, ngram_hashes
from curate.settings import Fraction, Resources
from curate.stage import Artifacts, ArtifactStage, Inputs, RowStage, Stage, Tell
from curate.stages.columns import listed
from curate.stages.embed import EmbedRows
from curate.stages.hold_out import held_out_rows
from curate.stages.matches import HELD, INDEX, FindMatches, Judgement, prompt_codes, texts
from curate.stages.near_rows import EmbedEvaluation, NearRows


class Contamination(Component):
    """The `contamination:` item of a configuration."""

    words: int = Field(default=13, ge=1, description="words of an n-gram; 8 to 13 are usual")
    max_prompts: int = Field(
        default=10,
        ge=1,
        description="an n-gram under more different prompts than this, of pool or evaluation, is a common phrase and "
        "no match",
    )
    min_share: Fraction = Field(
        default=0.0,
        description="least share of an evaluation row's n-grams in a match; 0: one n-gram is enough",
    )
    similarity: Fraction | None = Field(
        default=None,
        gt=0,
        description="least cosine of embeddings that is a match too, e.g. 0.95; left out: they are not compared",
    )
    model: str | None = Field(
        default=None,
        description="sentence model for `similarity`, as in `embed`; left out: the embeddings of the `embed` before it",
    )
    drop: bool = Field(default=False, description="drop the rows that match; left out: they are told only")

    @model_validator(mode="after")
    def _compared(self) -> Self:
        if self.model is not None and self.similarity is None:
            raise ValueError(
                "`model` is there for `similarity`, which is left out. Set it, or remove `model`."
            )
        return self


def contamination_stages(
    method: Contamination, entry: int | None, resources: Resources, embed: EmbedRows | None
) -> list[Stage]:
    """The engine's stages. embed: whose embeddings are compared; None for none."""
    stages: list[Stage] = [
        IndexEvaluation(INDEX, entry, resources, method.words),
        HoldNgrams("contamination.ngrams", entry, resources, method.words),
    ]
    if embed is not None and method.similarity is not None:
        stored = method.model is None
        stages += [
            EmbedEvaluation("contamination.embedding", entry, resources, embed),
            NearRows("contamination.near", entry, resources, embed, stored, method.similarity),
        ]
    judgement = Judgement(method.words, method.max_prompts, method.min_share, method.similarity, method.drop)
    return [*stages, FindMatches("contamination", entry, resources, judgement)]


@dataclass(frozen=True)
class IndexEvaluation(ArtifactStage):
    """Writes the n-grams of the evaluation rows (`NgramIndex`), and `rows.parquet`: position, source, id and texts."""

    unit = "evaluation rows"

    words: int

    @property
    def reads_pool(self) -> bool:
        """No: the evaluation rows alone."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """Which rows are for evaluation, their texts, prompts and names."""
        return frozenset({"held_out", "prompt", "response", "start", "source", "id", "rows:all"})

    @property
    def adds(self) -> frozenset[str]:
        """The index."""
        return frozenset({f"artifact:{INDEX}"})

    def identity(self) -> dict[str, Any]:
        """The length of an n-gram."""
        return {"version": 1, "words": self.words}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Index them, in pool order."""
        rows = held_out_rows(inputs, ["prompt", "response", "start", "source", "id"])
        hashes, offsets = ngram_hashes(texts(rows), self.words)
        index = make_index(hashes, offsets, prompt_codes(rows["start"]))
        index.save(out)
        rows.drop("start").write_parquet(out / "rows.parquet")
        return {"rows": rows.height, "ngrams": len(index.hashes)}

    def rehearsal(self) -> ArtifactStage:
        """Itself: evaluation rows are few."""
        return self


@dataclass(frozen=True)
class HoldNgrams(RowStage):
    """Adds `contamination.held`: the n-grams of the index that the row has, list of uint32, ascending, each once."""

    words: int

    @property
    def needs(self) -> frozenset[str]:
        """The text, and the index."""
        return frozenset({"prompt", "response", f"artifact:{INDEX}"})

    @property
    def adds(self) -> frozenset[str]:
        """The n-grams."""
        return frozenset({HELD})

    def identity(self) -> dict[str, Any]:
        """The length of an n-gram."""
        return {"version": 1, "words": self.words}

    def setup(self, artifacts: Artifacts) -> NgramIndex:
        """Load the index."""
        return NgramIndex.load(artifacts[INDEX])

    def apply(self, rows: pl.DataFrame, state: NgramIndex, outputs: frozenset[str]) -> pl.DataFrame:
        """Look each row's n-grams up."""
        owner, ngrams = state.held(*ngram_hashes(texts(rows), self.words))
        return pl.DataFrame({HELD: listed(ngrams, owner, rows.height, pl.UInt32)})
