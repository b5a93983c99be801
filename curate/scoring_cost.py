"""Scoring cost: what a selection's scores took, so that methods can be weighed by all that they compute.

Counted are the stages whose columns the last selection reads, directly or through others, once each, whoever computed
them: of one pass that made several scores, what those that are read would have taken together.
"""

import json
from dataclasses import dataclass

from curate.runs import Run


@dataclass(frozen=True)
class Cost:
    """tokens: that the stages read. forwards, backwards: passes of a model over a row. seconds: of the longest output
    of each stage, when it was computed.
    """

    tokens: int
    forwards: int
    backwards: int
    seconds: float


def scoring_cost(run: Run) -> Cost:
    """The cost of what the last `select` of a run reads. Raises ValueError for a run without one."""
    from curate.config import read_config
    from curate.pipeline import build

    stages = build(read_config(json.loads(json.dumps(run.info["config"]))).config)
    place = max(index for index, stage in enumerate(stages) if "rank" in stage.adds)
    wanted = set(stages[place].needs)
    tokens, forwards, backwards, seconds = 0, 0.0, 0.0, 0.0
    for stage in reversed(stages[:place]):
        read = frozenset(output for output, adds in stage.outputs.items() if adds & wanted)
        if stage.entry is None or not read:
            continue
        wanted |= set().union(*(stage.output_needs(output) for output in read))
        found = [record for record in run.stages if record["name"] in read]
        rows = max((record["rows"] for record in found), default=0)
        passes = stage.passes(read)
        forwards += rows * passes.forwards
        backwards += rows * passes.backwards
        tokens += max((record["tokens"] for record in found), default=0)
        seconds += max((record["seconds"] for record in found), default=0.0)
    return Cost(tokens, round(forwards), round(backwards), seconds)
