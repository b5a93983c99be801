"""Matches: what `contamination` makes of the n-grams that rows of the pool share with evaluation rows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.numerics.ngram_index import NgramIndex, Spread, ngram_hashes, plain_words
from curate.reader import Reader
from curate.stage import DROP, Artifacts, PoolResult, PoolStage
from curate.stages.columns import unlisted
from curate.stages.near_rows import COSINES, NEAR

INDEX = "contamination.index"
HELD = "contamination.held"
MATCHES = "contamination.matches"
COLUMNS = pl.Schema(
    {
        MATCHES: pl.UInt32,
        "contamination.position": pl.Int64,
        "contamination.ngrams": pl.UInt32,
        "contamination.share": pl.Float64,
        "contamination.similarity": pl.Float64,
        "contamination.part": pl.String,
        "contamination.words": pl.String,
    }
)
"""How many evaluation rows the row matches, 0 for none; and of the one that it matches best (null where none): its
position, the n-grams that both have and their share of its own, the cosine (null where not near), where in the pool's
row these n-grams are (prompt, response, both), and the longest run of words that they cover."""
BLOCK_ROWS = 1 << 16
MOST_WORDS = 60
"""Of a run of words that is noted."""
REASON_WORDS = 20
HALF = 0.5
"""Share of an evaluation row's n-grams from which a match is told as one of half the row or more."""
PHRASES = 20
"""Common phrases that are told."""


@dataclass(frozen=True)
class Judgement:
    """What makes a match, and whether it is dropped; see `curate.stages.contamination`."""

    words: int
    max_prompts: int
    min_share: float
    similarity: float | None
    drop: bool


@dataclass(frozen=True)
class FindMatches(PoolStage):
    """Judges what the rows hold: which n-grams are common, which rows match. Drops these, where told to."""

    judgement: Judgement

    @property
    def needs(self) -> frozenset[str]:
        """What the rows hold and are near to, their texts and prompts."""
        near = set[str]() if self.judgement.similarity is None else {NEAR, COSINES}
        return frozenset({HELD, "prompt", "response", "start", f"artifact:{INDEX}"} | near)

    @property
    def adds(self) -> frozenset[str]:
        """The matches."""
        return frozenset(COLUMNS) | ({DROP} if self.judgement.drop else set[str]())

    def identity(self) -> dict[str, Any]:
        """The settings."""
        return {"version": 2, **asdict(self.judgement)}

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Two passes over what the rows hold, block by block: what is common, then what matches."""
        index = NgramIndex.load(artifacts[INDEX])
        evaluation = pl.read_parquet(artifacts[INDEX] / "rows.parquet")
        spread = Spread(len(index.hashes), self.judgement.max_prompts)
        for _, block in _blocks(pool, [HELD, "start"]):
            holding = block.filter(pl.col(HELD).list.len() > 0)
            owner, ngrams = unlisted(holding[HELD])
            spread.add(ngrams.astype(np.int64), prompt_codes(holding["start"])[owner])
        common = spread.above | (index.prompts > self.judgement.max_prompts)
        frames, tally = [], _Tally(evaluation["source"])
        for start, block in _blocks(pool, sorted(self.needs & {HELD, NEAR, COSINES})):
            pairs = self._pairs(block, index, common)
            best = _best(pairs)
            tally.add(pairs, best)
            rows = pool.take(["prompt", "response"], best["row"].to_numpy() + start)
            frames.append(self._columns(best, rows, index, evaluation, block.height))
        judged = np.bincount(index.owners[~common[index.ngrams]], minlength=evaluation.height)
        notes = {
            **asdict(self.judgement),
            "rows": len(pool),
            **tally.told(),
            "unjudged": int((judged == 0).sum()),
            "common": _phrases(index, evaluation, self.judgement.words, common, spread.texts),
        }
        return PoolResult(pl.concat(frames), notes)

    def _pairs(self, block: pl.DataFrame, index: NgramIndex, common: NDArray[np.bool_]) -> pl.DataFrame:
        """Every match of a block: row, evaluation, ngrams and share (null: too few), similarity (null: not near)."""
        owner, ngrams = unlisted(block[HELD])
        row, evaluation, shared = index.shared(owner, ngrams.astype(np.int64), common)
        pairs = pl.DataFrame(
            {
                "row": row,
                "evaluation": evaluation,
                "ngrams": shared,
                "share": shared / index.sizes[evaluation],
            }
        ).filter(pl.col("share") >= self.judgement.min_share)
        if self.judgement.similarity is None:
            return pairs.with_columns(similarity=pl.lit(None, dtype=pl.Float64))
        row, near = unlisted(block[NEAR])
        _, cosines = unlisted(block[COSINES])
        nearby = pl.DataFrame({"row": row, "evaluation": near.astype(np.int64), "similarity": cosines})
        return pairs.join(nearby, on=["row", "evaluation"], how="full", coalesce=True)

    def _columns(
        self, best: pl.DataFrame, rows: pl.DataFrame, index: NgramIndex, evaluation: pl.DataFrame, height: int
    ) -> pl.DataFrame:
        """The stage's columns for a block of `height` rows. best: its matches; rows: their texts."""
        names = evaluation[best["evaluation"].to_list()].select("position", "source", "id")
        parts, words = self._places(best, rows, index)
        matched = best.select(
            "row",
            pl.col("matches").alias(MATCHES),
            names["position"].alias("contamination.position"),
            *(pl.col(name).alias(f"contamination.{name}") for name in ("ngrams", "share", "similarity")),
            pl.Series("contamination.part", parts, dtype=pl.String),
            pl.Series("contamination.words", words, dtype=pl.String),
        )
        if self.judgement.drop:
            told = zip(matched.iter_rows(named=True), names.iter_rows(named=True), strict=True)
            reasons = [self._reason(match, name) for match, name in told]
            matched = matched.with_columns(pl.Series(DROP, reasons, dtype=pl.String))
        every = pl.DataFrame({"row": pl.int_range(height, eager=True, dtype=pl.Int64)})
        frame = every.join(matched, on="row", how="left", maintain_order="left")
        return frame.with_columns(pl.col(MATCHES).fill_null(0)).cast(COLUMNS).drop("row")

    def _places(
        self, best: pl.DataFrame, rows: pl.DataFrame, index: NgramIndex
    ) -> tuple[list[str | None], list[str | None]]:
        """Where in each row the n-grams that it shares are, and the longest run of words that they cover."""
        n = self.judgement.words
        hashes, offsets = ngram_hashes(texts(rows), n)
        found = index.found(hashes)
        parts, runs = list[str | None](), list[str | None]()
        for at, (evaluation, shared) in enumerate(best.select("evaluation", "ngrams").iter_rows()):
            if shared is None:
                parts.append(None)
                runs.append(None)
                continue
            own = index.ngrams[index.offsets[evaluation] : index.offsets[evaluation + 1]]
            both = np.isin(found[offsets[at] : offsets[at + 1]], own)
            said = len(plain_words(rows["prompt"][at]))
            words = plain_words(rows["prompt"][at]) + plain_words(rows["response"][at])
            first = np.flatnonzero(both)
            last = np.minimum(first + n, len(words))
            in_prompt, in_response = bool((last <= said).all()), bool((first >= said).all())
            parts.append("prompt" if in_prompt else "response" if in_response else "both")
            start, stop = _longest(both)
            runs.append(_shown(words[start : stop - 1 + n], MOST_WORDS))
        return parts, runs

    def _reason(self, match: Mapping[str, Any], name: Mapping[str, Any]) -> str:
        of = f"evaluation row {name['id']} of {name['source']}"
        if match["contamination.ngrams"] is None:
            return f"its embedding is near that of {of}: cosine {match['contamination.similarity']:.3f}"
        words = _shown(match["contamination.words"].split(), REASON_WORDS)
        count = match["contamination.ngrams"]
        ngrams = f"{count:,} n-gram{'s' * (count != 1)} of {self.judgement.words} words"
        return f"has {ngrams} of {of}, {match['contamination.share']:.0%} of it: {words}"


class _Tally:
    """Counts over the blocks."""

    def __init__(self, sources: pl.Series) -> None:
        self._sources = sources
        self._found = np.zeros(len(sources), dtype=np.bool_)
        self._rows, self._kinds = Counter[str](), Counter[str]()
        self._half = 0

    def add(self, pairs: pl.DataFrame, best: pl.DataFrame) -> None:
        """The matches of a block."""
        self._found[pairs["evaluation"].to_numpy()] = True
        sources = self._sources.gather(pairs["evaluation"])
        self._rows.update(pairs.select("row", sources.alias("source")).unique()["source"].to_list())
        self._kinds.update(best["kind"].to_list())
        strong = (pl.col("share") >= HALF) | pl.col("similarity").is_not_null()
        self._half += best.filter(strong).height

    def told(self) -> dict[str, Any]:
        """Matched rows, by kind and by evaluation source, as contamination.json has them."""
        found = pl.DataFrame({"source": self._sources, "found": self._found})
        table = found.group_by("source", maintain_order=True).agg(pl.len(), pl.col("found").sum())
        return {
            "matched": self._kinds.total(),
            "half": self._half,
            "kinds": {kind: self._kinds[kind] for kind in ("n-gram", "embedding", "both")},
            "evaluation": {
                source: {"rows": rows, "found": found, "pool_rows": self._rows[source]}
                for source, rows, found in table.iter_rows()
            },
        }


def texts(rows: pl.DataFrame) -> list[str]:
    """What is compared of each row."""
    return rows.select(pl.concat_str("prompt", "response", separator="\n"))["prompt"].to_list()


def prompt_codes(starts: pl.Series) -> NDArray[np.int64]:
    """A number for each hash of a first user turn, int64."""
    return starts.str.head(15).str.to_integer(base=16, dtype=pl.Int64).to_numpy()


def _blocks(pool: Reader, columns: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
    for start in range(0, max(1, len(pool)), BLOCK_ROWS):
        yield start, pool.frame(columns, start, start + BLOCK_ROWS)


def _best(pairs: pl.DataFrame) -> pl.DataFrame:
    """Of each row that matches the strongest match, its kind, and how many there are: matches."""
    kind = (
        pl.when(pl.col("similarity").is_null())
        .then(pl.lit("n-gram"))
        .when(pl.col("share").is_null())
        .then(pl.lit("embedding"))
        .otherwise(pl.lit("both"))
    )
    counted = pairs.with_columns(kind.alias("kind"), pl.len().over("row").alias("matches"))
    strongest = counted.sort(
        "row", "share", "similarity", "evaluation", descending=[False, True, True, False], nulls_last=True
    )
    return strongest.unique("row", keep="first", maintain_order=True)


def _longest(marks: NDArray[np.bool_]) -> tuple[int, int]:
    """First and end of the longest run of true ones, the first of equals."""
    edges = np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])


def _shown(words: list[str], most: int) -> str:
    return " ".join(words[:most]) + (" …" if len(words) > most else "")


def _phrases(
    index: NgramIndex, evaluation: pl.DataFrame, n: int, common: NDArray[np.bool_], rows: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """The common phrases that most rows of the pool hold, each with an evaluation row that has it."""
    told: list[dict[str, Any]] = []
    seen = np.zeros(len(common), dtype=np.bool_)
    held = np.flatnonzero(common & (rows > 0))
    for ngram in held[np.argsort(-rows[held], kind="stable")]:
        if len(told) == PHRASES:
            break
        if seen[ngram]:
            continue
        row = evaluation.row(int(index.texts[index.starts[ngram]]), named=True)
        sequence = index.found(ngram_hashes([f"{row['prompt']}\n{row['response']}"], n)[0])
        place = int(np.flatnonzero(sequence == ngram)[0])
        rare = np.flatnonzero(~common[sequence])
        start = int(rare[rare < place].max(initial=-1)) + 1
        stop = int(rare[rare > place].min(initial=len(sequence)))
        seen[sequence[start:stop]] = True
        words = plain_words(row["prompt"]) + plain_words(row["response"])
        phrase = _shown(words[start : stop - 1 + n], MOST_WORDS)
        told.append({"rows": int(rows[ngram]), "source": row["source"], "id": row["id"], "words": phrase})
    return told
