"""Plot: charts of a run, as `run.plot.scores("el2n")`. Its tables come from `plotted`, the pictures from `charts`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from curate import plotted
from curate.errors import ConfigError
from curate.phrases import near
from curate.schedule_view import view_schedule

if TYPE_CHECKING:
    from curate.runs import Run

COLOURS = ("source", "cluster", "kept")
STRETCHES = 60


@dataclass(frozen=True)
class Plot:
    """Charts of a run: each method returns an Altair chart, to be shown in a notebook or saved.

    Data are binned, cut at the largest N (the rest is one) or sampled: a chart of 100,000 rows is under 400 kB of JSON,
    a map with its texts under 2 MB. The background is transparent and the text grey, legible on light and dark;
    `chart.configure(...)` replaces that. Raises CurateError where the run lacks the stage that a chart needs.
    """

    run: "Run"

    def scores(self, name: str | None = None) -> Any:
        """The distribution of a score, kept rows against dropped ones, as shares of either; of each, without a name.

        Of the rows that were scored. name: `el2n` or `score.el2n`. Raises ConfigError for a score that the run lacks.
        """
        from curate.charts import distributions, style

        names = plotted.score_names(self.run)
        if name is not None:
            names = [self._known("score", name if name.startswith("score.") else f"score.{name}", names)]
        return style.finished(distributions.scores(*plotted.scored(self.run, names)))

    def correlation(self) -> Any:
        """Spearman's rank correlation of every pair of scores, and of each with the length of the row."""
        from curate.charts import distributions, style

        found = plotted.health_of(self.run)
        with_length = {name: score["length_spearman"] for name, score in found["scores"].items()}
        return style.finished(
            distributions.correlation(found["rank_correlation"], with_length, found["length"])
        )

    def mixture(self) -> Any:
        """Each source's share: of the rows read, scored, selected and trained on; with a model, of the tokens too.

        Read: all that could be read, but for what is held out. Trained: by the draws of the schedule; of a composed
        example each row inside counts as a draw, with an equal part of its tokens.
        """
        from curate.charts import pool, style

        table, units = plotted.mixed(self.run)
        return style.finished(pool.mixture(table, units))

    def lengths(self) -> Any:
        """How long the rows are, in tokens (without a model in characters of the response): pool against selected.

        The pool is all that could be read, but for what is held out.
        """
        from curate.charts import distributions, style

        return style.finished(distributions.lengths(*plotted.measured(self.run)))

    def schedule(self) -> Any:
        """The share of each source and of each phase over the training."""
        from curate.charts import style, training

        return style.finished(training.schedule(view_schedule(self.run, STRETCHES)))

    def map(self, colour: str = "source", sample: int = 4000, seed: int = 0) -> Any:
        """Rows on a plane where near means alike, by their embeddings, with their texts on hover.

        colour: source, cluster, kept, or a score (`el2n` or `score.el2n`). sample: rows that are drawn. Kept rows
        would be lost among many dropped ones, so up to half of the sample is of kept rows, whatever their share, and
        the rest of dropped ones: the density of the map is not that of the pool. Rows that were dropped before `embed`
        have no place. seed: of the sample and of the places, which are computed once for each sample and seed (4,000
        rows: about 10 s) and kept as long as the process lives, so that another colour is immediate. Raises ConfigError
        for a colour that the run lacks.
        """
        from curate.charts import map, style

        if sample < 1:
            raise ConfigError(f"sample: must be at least 1. Got {sample}.")
        table = plotted.mapped(self.run, sample, seed)
        scores = [name for name in table.columns if name.startswith("score.")]
        if f"score.{colour}" in scores:
            colour = f"score.{colour}"
        self._known("colour", colour, [*(name for name in COLOURS if name in table.columns), *scores])
        counts = dict(table.group_by("kept").agg(pl.len()).iter_rows())
        told = f"{counts.get(True, 0):,} kept and {counts.get(False, 0):,} dropped of the rows that were embedded"
        return style.finished(map.embedding_map(table, colour, told))

    def funnel(self) -> Any:
        """The rows left after each stage, what each took out (quarantined, held out, dropped), and the top reasons."""
        from curate.charts import pool, style

        return style.finished(pool.funnel(plotted.passed(self.run)))

    def losses(self) -> Any:
        """Held-out loss per source and in the mean: before, of the selection, and of each baseline."""
        from curate.charts import style, training

        found = self.run.evaluation
        return style.finished(training.losses(found["losses"], found["unit"]))

    def training(self) -> Any:
        """Training loss over supervised tokens, of the selection and its baselines; held-out loss before and after."""
        from curate.charts import style, training

        return style.finished(training.training(*plotted.curves(self.run)))

    def cost(self) -> Any:
        """Seconds of each stage, computed in this run or taken from the store, and its tokens.

        Outputs of one stage share its pass: the longest counts.
        """
        from curate.charts import style, training

        return style.finished(training.cost(plotted.costs(self.run)))

    def comparison(self) -> Any:
        """For `compare`: loss by method and budget with 95 % intervals, and loss against all tokens that it took."""
        from curate.charts import comparison, style

        found = self.run.comparison
        tokens = [each["scoring_tokens"] + each["training_tokens"] for each in found["summaries"]]
        return style.finished(comparison.comparison(found["summaries"], tokens, found["unit"]))

    def _known(self, what: str, name: str, names: Sequence[str]) -> str:
        if name not in names:
            raise ConfigError(f"{self.run.name}: unknown {what} `{name}`.{near(name, names)}")
        return name
