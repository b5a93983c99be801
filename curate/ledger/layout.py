"""Layout: a ledger as text for a terminal and as HTML. What comes from the data is shown, never obeyed: characters
that steer a terminal are written as escapes, markup is text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import TYPE_CHECKING

from curate.ledger.story import (
    Cluster,
    DuplicateGroup,
    Ledger,
    Losses,
    Other,
    Placement,
    Score,
    Standing,
    Verdict,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 80
TEXT_CHARACTERS = 240
LISTED = 8
JOINERS = "\u200c\u200d"
"""Format characters that scripts and emoji need."""


@dataclass(frozen=True)
class Line:
    """A text, and what stands before it, in a column of its own where the text needs several lines."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Part:
    """A heading and its lines."""

    heading: str
    lines: Sequence[Line]


def as_rich(story: Ledger) -> "RenderableType":
    """For a rich console: headings in a column of their own."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text("row", style="cyan"), Text(visible(title(story)), style="bold"))
    for part in parts(story):
        for place, line in enumerate(part.lines):
            told: RenderableType = Text(visible(line.text))
            if line.mark:
                marked = Table.grid(padding=(0, 1, 0, 0))
                marked.add_column(no_wrap=True)
                marked.add_column(overflow="fold")
                marked.add_row(Text(visible(line.mark)), told)
                told = marked
            table.add_row(Text("" if place else part.heading, style="cyan"), told)
    return table


def as_text(story: Ledger) -> str:
    """Plain, 80 columns wide."""
    from rich.console import Console

    stream = StringIO()
    Console(file=stream, width=WIDTH, color_system=None, force_terminal=False).print(as_rich(story))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def as_html(story: Ledger) -> str:
    """A table for a notebook."""
    rows = "".join(_html_row(part) for part in [Part("row", [Line(title(story))]), *parts(story)])
    return f"<table>{rows}</table>"


def _html_row(part: Part) -> str:
    lines = [f"{line.mark} {line.text}" if line.mark else line.text for line in part.lines]
    told = escape(visible("\n".join(lines)))
    left = "text-align:left;vertical-align:top"
    return (
        f'<tr><th style="{left}">{escape(part.heading)}</th>'
        f'<td style="{left};white-space:pre-wrap">{told}</td></tr>'
    )


def visible(text: str) -> str:
    """The text with all but printable characters and line ends written as escapes, `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" or each in JOINERS else repr(each)[1:-1] for each in text
    )


def title(story: Ledger) -> str:
    """Its id and its fate."""
    return f"{story.id}: {story.fate}"


def parts(story: Ledger) -> list[Part]:
    """All that is known, in the order in which it came about; parts without a line are left out."""
    place = story.file if story.line is None else f"{story.file}:{story.line}"
    text = "response" if story.uid else "record"
    told = [each for each in story.verdicts if story.cause is None or each.reason != story.cause]
    found = [
        Part("from", [Line(place), Line(f"source {story.source}, row {story.address}, uid {story.uid}")]),
        Part("cause", [] if story.cause is None else [Line(_flat(story.cause))]),
        Part("prompt", [Line(_short(story.prompt))] if story.prompt else []),
        Part(text, [Line(_short(story.response))] if story.response else []),
        Part("size", _size(story)),
        Part("duplicates", [line for group in story.duplicates for line in _group(group)]),
        Part("scores", _scores(story.scores)),
        Part("cluster", [] if story.cluster is None else [_cluster(story.cluster)]),
        Part("neighbours", [_other(other) for other in story.neighbours]),
        Part("verdicts", [line for verdict in told for line in _verdict(verdict)]),
        Part("schedule", _schedule(story)),
        Part("losses", [] if story.losses is None else _losses(story.losses)),
    ]
    return [part for part in found if part.lines]


def _size(story: Ledger) -> list[Line]:
    counted = [f"{story.tokens:,} tokens, {story.supervised_tokens:,} supervised"] if story.tokens else []
    copies = [f"{story.copies:,} more with the same content"] if story.copies else []
    return [Line("; ".join([*counted, *copies]))] if counted or copies else []


def _group(group: DuplicateGroup) -> list[Line]:
    rows = f"{group.stage}: {group.rows:,} rows taken for one;"
    if group.survivor is None:
        head = [Line(f"{rows} this one survived, in its favour went")]
    else:
        head = [Line(f"{rows} kept in its place"), _other(group.survivor, "  ")]
        head += [Line("others")] if group.dropped else []
    unlisted = group.rows - 1 - (group.survivor is not None) - len(group.dropped)
    more = [Line(f"  … and {unlisted:,} more")] if unlisted else []
    return [*head, *(_other(other, "  ") for other in group.dropped), *more]


def _other(other: Other, indent: str = "") -> Line:
    likeness = "    -" if other.similarity is None else f"{other.similarity:5.3f}"
    return Line(f"{_flat(other.id)}  {other.fate}", f"{indent}{likeness}")


def _scores(scores: Mapping[str, Score]) -> list[Line]:
    width = max(map(len, scores), default=0)
    return [Line(_score(score), f"{name:<{width}}".removeprefix("score.")) for name, score in scores.items()]


def _score(score: Score) -> str:
    directions = {True: "high is good", False: "low is good", None: "no direction"}
    direction = directions[score.higher_is_better]
    if score.value is None:
        return f"     null  ({score.scored:,} rows are not); {direction}"
    return f"{_number(score.value):>9}  above {score.percentile:.1f} % of {score.scored:,}; {direction}"


def _cluster(found: Cluster) -> Line:
    return Line(
        f"{found.cluster} of {found.clusters:,}: {found.rows:,} rows, {found.kept:,} of them kept; "
        f"{_number(found.distance)} from the centroid"
    )


def _verdict(verdict: Verdict) -> list[Line]:
    counted = f"{verdict.rows_kept:,} of {verdict.rows:,} rows kept"
    if verdict.reason is None:
        return [Line(f"kept ({counted})", verdict.stage)]
    said = "kept" if verdict.kept else "dropped"
    lines = [Line(f"{said}: {_flat(verdict.reason)}", verdict.stage)]
    if verdict.rule:
        fields = [
            f"{name} {value if isinstance(value, str) else json.dumps(value)}"
            for name, value in verdict.rule.items()
            if name != "method"
        ]
        lines.append(Line(f"{verdict.rule['method']}: {', '.join(fields)}; {counted}", "  rule "))
    if verdict.standing is not None:
        lines.append(Line(_standing(verdict.standing), "  place"))
    if verdict.last_kept is not None:
        last = verdict.last_kept
        group = f" of {last.group}" if last.group else ""
        lines.append(
            Line(f"kept last{group}: {_flat(last.id)}, rank {last.rank:,}: {_flat(last.reason)}", "  cut  ")
        )
    return lines


def _standing(standing: Standing) -> str:
    column = standing.column.removeprefix("score.")
    if standing.place is None or standing.value is None:
        return f"none: {column} is null"
    end = "highest" if standing.highest_first else "lowest"
    return f"{standing.place:,} of {standing.of:,} by {column} {_number(standing.value)}, {end} first"


def _schedule(story: Ledger) -> list[Line]:
    lines = [] if story.rank is None else [Line(f"rank {story.rank:,} of the selection, from 0")]
    if story.schedule is None:
        return lines
    return [*lines, *(Line(told) for told in _placement(story.schedule))]


def _placement(place: Placement) -> list[str]:
    if not place.draws:
        return ["in no draw of the schedule, so not trained on"]
    phases = f", in {', '.join(place.phases)}" if place.phases else ""
    times = "once" if len(place.draws) == 1 else f"{len(place.draws):,} times"
    lines = [f"drawn {times} an epoch: draw {_listed(place.draws)} of {place.epoch_draws:,}, from 0{phases}"]
    if place.pieces:
        pieces = _listed([f"{piece.start} to {piece.start + piece.length}" for piece in place.pieces])
        lines.append(f"in pieces: tokens {pieces}")
    if place.composed:
        lines.append(f"inside composed example {_listed(place.composed)}")
    if place.steps is None or place.trainings is None:
        return [*lines, "not trained on: this run has no finished `train`"]
    if not place.trainings:
        return [*lines, f"not trained on: its draws come after the last of {place.training_steps:,} steps"]
    times = "once" if place.trainings == 1 else f"{place.trainings:,} times"
    steps = f"optimizer step {_listed(place.steps)} of {place.training_steps:,}, from 0"
    return [*lines, f"trained on {times}, in {steps}"]


def _losses(losses: Losses) -> list[Line]:
    before = losses.of.get("before")
    lines = []
    for name, value in losses.of.items():
        change = "" if before is None or name == "before" else f"  {value - before:+.4f}"
        lines.append(Line(f"{value:.4f}{change}", name))
    return [*lines, Line(losses.origin)]


def _listed(values: Sequence[object]) -> str:
    more = f", … ({len(values):,})" if len(values) > LISTED else ""
    return ", ".join(f"{value}" for value in values[:LISTED]) + more


def _number(value: float) -> str:
    return f"{value:.4g}"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    flat = _flat(text)
    return flat if len(flat) <= TEXT_CHARACTERS else f"{flat[:TEXT_CHARACTERS]}…"
