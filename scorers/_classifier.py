"""A fastText classifier of texts into good and bad: trained, kept as the bytes of its file, applied to many texts.

One thread and a seed: the same texts in the same order give the same bytes.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.predictive_strength import auc, highest_and_lowest
from curate.numerics.seeds import derive, uniform
from curate.pool import Pool

FEWEST = 10
"""Examples of each kind, below which nothing is learnt."""
LABEL = "__label__"
GOOD, BAD = f"{LABEL}1", f"{LABEL}0"
ROUNDING = 1e-5
"""What fastText adds to a probability before it takes the logarithm."""


def lines(texts: pl.Series) -> pl.Series:
    """Texts as fastText reads them, one line each: what parts words is a space; null stays null.

    Its own words, `</s>` and those that begin like a label, are taken apart: in a text they mean nothing.
    """
    marks = texts.str.replace_all(r"[\t-\r\x00]", " ").str.replace_all(LABEL, "__label ", literal=True)
    return marks.str.replace_all("</s>", "< /s>", literal=True).str.strip_chars()


@dataclass(frozen=True)
class Drawn:
    """The examples. rows: int64 [n], of the pool, in the order in which they are learnt; good, held_out: bool [n]."""

    rows: NDArray[np.int64]
    good: NDArray[np.bool_]
    held_out: NDArray[np.bool_]


def draw(pool: pl.DataFrame, by: str, fraction: float | None, held_out: float, seed: int) -> Drawn:
    """The rows of the highest and of the lowest values, shuffled; `held_out` of them, whole groups, are set apart.

    pool: `by`, `uid` and `group` of all rows. fraction: see `highest_and_lowest`. Raises DataError where `by`
    holds no numbers.
    """
    values = Pool(pool, {}, seed).values(by)
    chance = uniform(derive(seed, "choice"), pool["uid"].to_list())
    highest, lowest = highest_and_lowest(values, chance, fraction)
    rows = np.union1d(highest, lowest)
    order = uniform(derive(seed, "order"), pool["uid"].gather(rows).to_list())
    rows = rows[np.argsort(order, kind="stable")]
    apart = uniform(derive(seed, "held out"), pool["group"].gather(rows).to_list()) < held_out
    return Drawn(rows, np.isin(rows, highest), apart)


def learn(texts: pl.Series, drawn: Drawn, settings: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Train on the examples that are not held out: the model, what it was trained on, and its AUC on the others.

    texts: lines of the drawn rows. settings: fastText's own arguments. Returns `model`, uint8 [bytes]; `trained`
    and `held_out`, int64 [2], good and bad; `auc`, float64 [1], NaN where it cannot be had.
    Raises DataError for too few examples.
    """
    train_on, others = ~drawn.held_out, drawn.good[drawn.held_out]
    counts = np.array([(drawn.good & train_on).sum(), (~drawn.good & train_on).sum()])
    if counts.min() < FEWEST:
        raise DataError(
            f"a classifier needs at least {FEWEST} good and {FEWEST} bad examples beside those held out. "
            f"Got {counts[0]} and {counts[1]}. Score more rows (`sample`), or set `fraction`: without it good "
            "are the rows of the highest value alone, and bad are as many of the lowest."
        )
    model = train(texts.filter(pl.Series(train_on)).to_list(), drawn.good[train_on], settings)
    scores = chance_of_good(load(model), texts.filter(pl.Series(drawn.held_out)))
    known = ~np.isnan(scores)
    return {
        "model": model,
        "trained": counts,
        "held_out": np.array([others.sum(), (~others).sum()]),
        "auc": np.array([auc(scores[known], others[known])]),
    }


def notes(learnt: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What to say of the result of `learn`, as JSON values."""
    area = float(learnt["auc"][0])
    return {
        "trained_on": learnt["trained"].tolist(),
        "held_out": learnt["held_out"].tolist(),
        "held_out_auc": None if np.isnan(area) else round(area, 4),
    }


def train(texts: Sequence[str], good: NDArray[np.bool_], settings: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Train on lines in the order given; the bytes of the model's file, uint8 [bytes].

    good: bool [texts]. settings: fastText's own arguments.
    """
    import fasttext  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        examples, model = Path(folder) / "examples.txt", Path(folder) / "model.bin"
        with examples.open("w", encoding="utf-8") as stream:
            for text, is_good in zip(texts, good.tolist(), strict=True):
                stream.write(f"{GOOD if is_good else BAD} {text}\n")
        trained = fasttext.train_supervised(str(examples), thread=1, verbose=0, label=LABEL, **settings)
        trained.save_model(str(model))
        return np.frombuffer(model.read_bytes(), dtype=np.uint8)


def load(content: NDArray[np.uint8]) -> Any:
    """The fastText model of the bytes."""
    import fasttext

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.bin"
        content.tofile(file)
        return fasttext.load_model(str(file))


def chance_of_good(model: Any, texts: pl.Series) -> NDArray[np.float64]:
    """P(good) of each line, float64 [texts], in [0, 1]; NaN where there is no text. One call for all of them."""
    found = np.full(len(texts), np.nan)
    known = (texts.str.len_bytes() > 0).fill_null(False)
    if known.any():
        labels, chances = model.predict(texts.filter(known).to_list(), k=2)
        first_is_good = np.array([each[0] == GOOD for each in labels])
        both = np.stack(chances).astype(np.float64) - ROUNDING
        found[known.to_numpy()] = np.clip(np.where(first_is_good, both[:, 0], both[:, 1]), 0, 1)
    return found
