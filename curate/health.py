"""Health: what the scores of a run look like, and which of them deserve a second look. Pure functions.

Per score the distribution and how much of it is length; between scores how alike they order the rows.
Where a stage measured it, the agreement of a score with itself under another precision or seed.

Cost: k scores of n rows take O(k n log n) for sorting each once, and O(k^2 n) additions for the pairs. A
pair whose missing rows differ is ranked again over the rows that have both. Memory: the ranks of all, 4
bytes each, and some copies of one column. 10 million rows of 6 scores: 16 s on two cores, 0.8 GB.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import polars as pl

LENGTHS = ("supervised_tokens", "characters")
"""The columns that are a row's length, the first one present."""
QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
"""Per cent."""

MAX_NULL_FRACTION = 0.01
MAX_EQUAL_FRACTION = 0.95
FEW_VALUES = 5
FEW_ROWS = 50
"""Of so many rows or fewer, neither the number of values nor a correlation is worth a warning."""
MAX_LENGTH_CORRELATION = 0.9
MAX_PAIR_CORRELATION = 0.999
MIN_AGREEMENT = 0.95


@dataclass(frozen=True)
class ScoreHealth:
    """One score. Of the rows that were scored, `nulls` have none; all else is over the others.

    most_frequent_fraction: the share of rows with the commonest value, which is `most_frequent`.
    quantiles: per cent -> value, linear between neighbours. standard_deviation: of the rows themselves
    (divided by n). skew: the third standardised moment; null where all rows are equal.
    length_pearson, length_spearman: with the row's length; null where either is the same for all rows.
    agreement: Spearman with itself under another precision or seed, on a sample; null if not measured.
    """

    rows: int
    nulls: int
    distinct: int
    most_frequent: float | None
    most_frequent_fraction: float | None
    quantiles: Mapping[str, float | None]
    mean: float | None
    standard_deviation: float | None
    skew: float | None
    length_pearson: float | None = None
    length_spearman: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Warned:
    """A rule that a score, or a pair of them, fell under: nulls, infinite, constant, length, agreement, alike."""

    rule: str
    scores: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Health:
    """The report of a run. length: the column that counts as a row's length, null where there is none.

    supervised_token_fraction: supervised tokens of all scored rows over all their tokens; null where they
    were not tokenised. rank_correlation: score -> score -> Spearman over the rows that have both.
    """

    rows: int
    supervised_token_fraction: float | None
    length: str | None
    scores: Mapping[str, ScoreHealth]
    rank_correlation: Mapping[str, Mapping[str, float | None]]
    warnings: Sequence[Warned]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it, in health.json."""
        return asdict(self)


def health(
    table: pl.LazyFrame,
    rows: Mapping[str, int] | None = None,
    agreement: Mapping[str, float | None] | None = None,
    sparse: Collection[str] = (),
) -> Health:
    """The report of a table with columns `score.*` (float64), one row per scored row.

    The table may have `tokens`, and `supervised_tokens` or `characters` as a row's length. rows: how many
    rows each score was asked of, where that is fewer than the table has (a later stage saw fewer); nulls
    count among those. agreement: score -> Spearman, where it was measured. sparse: scores whose nulls are
    meant, of which no warning is given.
    """
    rows, agreement = rows or {}, agreement or {}
    columns = table.collect_schema().names()
    names = [name for name in columns if name.startswith("score.")]
    length = next((name for name in LENGTHS if name in columns), None)
    lengths = None if length is None else _column(table, length)
    total = int(table.select(pl.len()).collect().item())
    measured, ranks = {}, {}
    for name in names:
        values = _column(table, name)
        ranks[name] = _ranks(values)
        measured[name] = _distribution(values, rows.get(name, total)) | {"agreement": agreement.get(name)}
        if lengths is not None:
            measured[name] |= {"length_pearson": _pearson(values, lengths)}
    if lengths is not None:
        ranks[lengths.name] = _ranks(lengths)
    correlation = _correlations(ranks)
    if lengths is not None:
        with_length = correlation.pop(lengths.name)
        for name in names:
            measured[name] |= {"length_spearman": with_length[name]}
            del correlation[name][lengths.name]
    scores = {name: ScoreHealth(**found) for name, found in measured.items()}
    told = warnings(scores, correlation, length)
    return Health(
        rows=total,
        supervised_token_fraction=_supervised_fraction(table, columns),
        length=length,
        scores=scores,
        rank_correlation=correlation,
        warnings=tuple(each for each in told if each.rule != "nulls" or each.scores[0] not in sparse),
    )


def spearman(columns: Mapping[str, pl.Series]) -> dict[str, dict[str, float | None]]:
    """Spearman's rank correlation of every pair, over the rows that have both; null where one is constant.

    columns: numbers, of one length. Ties share their mean rank.
    """
    return _correlations({name: _ranks(column) for name, column in columns.items()})


def _correlations(ranks: Mapping[str, pl.Series]) -> dict[str, dict[str, float | None]]:
    masks = {name: column.is_null() for name, column in ranks.items()}
    found: dict[str, dict[str, float | None]] = {
        name: {name: 1.0 if column.min() != column.max() else None} for name, column in ranks.items()
    }
    for first, second in combinations(ranks, 2):
        one, other = ranks[first], ranks[second]
        if (masks[first] != masks[second]).any():
            both = ~(masks[first] | masks[second])
            one, other = _ranks(one.filter(both)), _ranks(other.filter(both))
        found[first][second] = found[second][first] = _pearson(one, other)
    return {name: {other: found[name][other] for other in ranks} for name in ranks}


def warnings(
    scores: Mapping[str, ScoreHealth],
    correlation: Mapping[str, Mapping[str, float | None]],
    length: str | None,
) -> tuple[Warned, ...]:
    """What is wrong with scores, by score, then by pair.

    The parts of a score (`score.donod.don`) are looked at for equal values, and for whether one alone
    decides the score; nobody selects by them.
    """
    found = [warned for name, score in scores.items() for warned in _of_one(name, score, length)]
    for first, second in combinations(scores, 2):
        rho = correlation[first][second]
        if not _comparable(first, second) or rho is None or abs(rho) <= MAX_PAIR_CORRELATION:
            continue
        if min(_present(scores[first]), _present(scores[second])) <= FEW_ROWS:
            continue
        how = "the same order" if rho > 0 else "opposite orders"
        text = f"{first} and {second} put the rows in {how} (Spearman {rho:.4f}): one tells all of the other"
        found.append(Warned("alike", (first, second), text))
    return tuple(found)


def _of_one(name: str, score: ScoreHealth, length: str | None) -> list[Warned]:
    found = []

    def warn(rule: str, text: str) -> None:
        found.append(Warned(rule, (name,), f"{name} {text}"))

    part, present = _is_part(name), _present(score)
    if not part and score.nulls > MAX_NULL_FRACTION * score.rows:
        warn("nulls", f"is null for {score.nulls:,} of {score.rows:,} rows ({score.nulls / score.rows:.1%})")
    if present and None in (score.quantiles["0"], score.quantiles["100"]):
        warn("infinite", "is infinite for some rows")
    if present > 1 and (score.most_frequent_fraction or 0) > MAX_EQUAL_FRACTION:
        warn("constant", f"is {score.most_frequent:.4g} for {score.most_frequent_fraction:.1%} of the rows")
    elif present > FEW_ROWS and score.distinct < FEW_VALUES:
        warn("constant", f"has only {score.distinct} distinct values over {present:,} rows")
    rho = score.length_spearman
    if not part and rho is not None and present > FEW_ROWS and abs(rho) > MAX_LENGTH_CORRELATION:
        warn("length", f"orders the rows by their length (Spearman {rho:.3f} with {length})")
    if score.agreement is not None and score.agreement < MIN_AGREEMENT:
        warn(
            "agreement", f"agrees with itself only to Spearman {score.agreement:.3f} when computed otherwise"
        )
    return found


def _is_part(name: str) -> bool:
    return "." in name.removeprefix("score.")


def _comparable(first: str, second: str) -> bool:
    """Two scores, or a score and a part of its own."""
    if not (_is_part(first) or _is_part(second)):
        return True
    return second.startswith(f"{first}.") or first.startswith(f"{second}.")


def _present(score: ScoreHealth) -> int:
    return score.rows - score.nulls


def _column(table: pl.LazyFrame, name: str) -> pl.Series:
    return table.select(pl.col(name).cast(pl.Float64).fill_nan(None)).collect().to_series().rechunk()


def _ranks(values: pl.Series) -> pl.Series:
    """Twice the mean rank, so that ties stay whole numbers of 4 bytes: exact up to 2,147,483,647 rows."""
    return (values.rank("average") * 2).cast(pl.UInt32)


def _distribution(values: pl.Series, rows: int) -> dict[str, Any]:
    """The fields of ScoreHealth that need this score alone."""
    ordered = values.drop_nulls().sort()
    runs = ordered.rle().struct.unnest()
    most = runs.row(runs["len"].arg_max() or 0, named=True) if runs.height else None
    varies = runs.height > 1
    return {
        "rows": rows,
        "nulls": rows - len(ordered),
        "distinct": runs.height,
        "most_frequent": _number(most and most["value"]),
        "most_frequent_fraction": most and most["len"] / len(ordered),
        "quantiles": {str(q): _number(ordered.quantile(q / 100, "linear")) for q in QUANTILES},
        "mean": _number(ordered.mean()),
        "standard_deviation": (_number(ordered.std(ddof=0)) if varies else 0.0) if runs.height else None,
        "skew": _number(ordered.skew()) if varies else None,
    }


def _pearson(one: pl.Series, other: pl.Series) -> float | None:
    """Over the rows that have both; null where either is the same in all of them."""
    both = pl.DataFrame({"one": one, "other": other}).drop_nulls()
    if both.is_empty() or any(column.min() == column.max() for column in both):
        return None
    return _number(both.select(pl.corr("one", "other")).item())


def _supervised_fraction(table: pl.LazyFrame, columns: Sequence[str]) -> float | None:
    if not {"tokens", "supervised_tokens"} <= set(columns):
        return None
    tokens, supervised = (
        table.select(pl.col("tokens", "supervised_tokens").cast(pl.Int64).sum()).collect().row(0)
    )
    return supervised / tokens if tokens else None


def _number(value: Any) -> float | None:
    """A JSON number; null for what is none."""
    return float(value) if value is not None and math.isfinite(value) else None
