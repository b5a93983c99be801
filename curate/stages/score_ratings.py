"""Ratings: an instruct model answers rating prompts with one of a few tokens; each prompt is asked once."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl

from curate.data.messages import exchanges
from curate.scorer import RatingScorer
from curate.stage import Artifacts, Passes, RowStage
from curate.stages.columns import nullable
from curate.stages.models import ModelHandle
from curate.stages.references import batch_tokens
from curate.stages.scorer_stage import ScorerStage

if TYPE_CHECKING:
    from curate.model.ratings import Answers, Rater

_log = logging.getLogger(__name__)

ENOUGH_PROMPTS = 50
MOSTLY_FRACTION = 0.95
"""The user is told of a rater that finds the same rating the likeliest of so many prompts of a shard."""
LIKELIEST = "likeliest:"


@dataclass
class _State:
    """What a worker holds. raters: by their ratings. counted: in the last shard. told: of a monotone rater."""

    raters: "Mapping[tuple[str, ...], Rater]"
    counted: Counter[str] = field(default_factory=Counter)
    told: bool = False


@dataclass(frozen=True)
class ScoreRatings(ScorerStage, RowStage):
    """Scorers that ask one model. A prompt that several of them ask is answered once per shard."""

    methods: tuple[RatingScorer, ...]
    model: ModelHandle

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    def passes(self, outputs: frozenset[str]) -> Passes:
        """One forward of the rater for each prompt that one of them asks of a turn."""
        turn = [("instruction", "response")]
        asked = [method for method in self.methods if method.column in outputs]
        return Passes(len({prompt for method in asked for prompt in method.prompts(turn)}), 0)

    @property
    def needs(self) -> frozenset[str]:
        """The conversation."""
        return frozenset({"messages"})

    def output_identity(self, output: str) -> dict[str, Any]:
        """The one scorer and the model."""
        return {**self.scorer(output).identity(), "model": self._rater()}

    def _rater(self) -> dict[str, Any]:
        return {**self.model.identity(), "tokenizer": self.model.tokenizer_hash}

    def setup(self, artifacts: Artifacts) -> _State:
        """Load the model and its rating tokens."""
        from curate.model.ratings import Rater

        loaded = self.model.load()
        budget = self.resources.batch_tokens or batch_tokens(loaded.device)
        kinds = {method.ratings for method in self.methods}
        return _State({ratings: Rater.of(loaded, ratings, budget) for ratings in sorted(kinds)})

    def apply(self, rows: pl.DataFrame, state: _State, outputs: frozenset[str]) -> pl.DataFrame:
        """Ask every prompt once, rate each row."""
        turns = [exchanges(orjson.loads(messages)) for messages in rows["messages"]]
        state.counted = Counter()
        found = {}
        for ratings, rater in state.raters.items():
            asked = [
                method for method in self.methods if method.column in outputs and method.ratings == ratings
            ]
            prompts = {method.column: [list(method.prompts(each)) for each in turns] for method in asked}
            unique = list(dict.fromkeys(text for of in prompts.values() for row in of for text in row))
            answers = rater.rate(unique)
            counted = _counted(ratings, answers)
            state.counted.update(counted)
            warning = _monotone(ratings, counted)
            if warning is not None and not state.told:
                _log.warning("%s", warning)
                state.told = True
            expected = dict(zip(unique, answers.expected.tolist(), strict=True))
            for method in asked:
                scores = [
                    method.rate(np.array([expected[text] for text in row], dtype=np.float64))
                    for row in prompts[method.column]
                ]
                found[method.column] = nullable(method.column, np.array(scores, dtype=np.float64))
        return pl.DataFrame(found)

    def counts(self, state: _State) -> Mapping[str, float]:
        """Prompts and their tokens, those too long for the rater, and what the others were answered with."""
        return state.counted

    def notes(self, totals: Mapping[str, float]) -> Mapping[str, Any]:
        """How many prompts were asked, how often each rating was the likeliest, how sure an answer was a rating."""
        prompts, too_long = int(totals.get("prompts", 0)), int(totals.get("too_long_prompts", 0))
        if not prompts:
            return {}
        likeliest = {
            name.removeprefix(LIKELIEST): int(count)
            for name, count in sorted(totals.items())
            if name.startswith(LIKELIEST)
        }
        told = {"likeliest": likeliest, "distinct_likeliest": sum(count > 0 for count in likeliest.values())}
        if prompts > too_long:
            told["rating_probability"] = round(totals["rating_probability"] / (prompts - too_long), 4)
        return {
            "prompts": prompts,
            "too_long_prompts": too_long,
            "prompt_tokens": int(totals["prompt_tokens"]),
            **told,
        }


def _counted(ratings: tuple[str, ...], answers: "Answers") -> Counter[str]:
    """What the ledger keeps of a shard's answers; sums over shards mean something."""
    likeliest = answers.likeliest[answers.likeliest >= 0]
    found = Counter(
        {
            "prompts": len(answers.likeliest),
            "too_long_prompts": len(answers.likeliest) - len(likeliest),
            "prompt_tokens": answers.tokens,
            "rating_probability": float(np.nansum(answers.probability)),
        }
    )
    for rating, count in zip(ratings, np.bincount(likeliest, minlength=len(ratings)).tolist(), strict=True):
        found[f"{LIKELIEST}{rating}"] = count
    return found


def _monotone(ratings: tuple[str, ...], counted: Mapping[str, float]) -> str | None:
    """A warning of a rater that says nearly always the same."""
    answered = counted["prompts"] - counted["too_long_prompts"]
    most = max(ratings, key=lambda rating: counted[f"{LIKELIEST}{rating}"])
    share = counted[f"{LIKELIEST}{most}"] / max(answered, 1)
    if answered < ENOUGH_PROMPTS or share <= MOSTLY_FRACTION:
        return None
    return (
        f"the rater finds {most} the likeliest rating of {share:.0%} of {answered:,} prompts: the scores tell "
        "rows apart by how sure it is of that alone; take a larger instruct model as `rater`"
    )
