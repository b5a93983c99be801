"""Card: a run at a glance, as the HTML that Jupyter shows in place of `Run(...)`. Everything in it is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.runs import Run

COLUMNS = ("stage", "rows", "left", "out", "seconds")
OUT = COLUMNS.index("out")
FIRST = ' style="text-align:left"'


def card(run: "Run") -> str:
    """Name, status and error; the stages that took rows out, the others folded; held-out losses. A fragment of HTML.

    Of a run of any status: it shows what there is.
    """
    info = run.info
    stages: Sequence[Mapping[str, Any]] = info["stages"]
    parts = [f"<b>{escape(run.name)}</b> ({escape(_state(info))}) <code>{escape(str(run.path))}</code>"]
    if "error" in info:
        parts.append(f"<pre>{escape(info['error'])}</pre>")
    if stages:
        lines = [_passed(stage) for stage in stages]
        funnel = [line for place, line in enumerate(lines) if not place or line[OUT]]
        parts += [
            _table(COLUMNS, funnel),
            f"<details><summary>all {len(stages)} stages</summary>{_table(COLUMNS, lines)}</details>",
        ]
    if notes := _notes(run):
        parts.append(f"<p>{escape('; '.join(notes))}</p>")
    if (run.path / "eval.json").exists():
        parts.append(_losses(run.evaluation))
    return f"<div>{''.join(parts)}</div>"


def _state(info: Mapping[str, Any]) -> str:
    done = len(info["stages"])
    stages = f"{done} stage{'' if done == 1 else 's'}"
    return f"{info['status']}, {stages}, {info['seconds']:,.1f} s, seed {info['seed']}"


def _passed(stage: Mapping[str, Any]) -> list[str]:
    rows, kept = stage["rows"], stage["kept"]
    left = rows if kept is None else kept
    seconds = "stored" if stage["cached"] else f"{stage['seconds']:.1f}"
    out = f"{rows - left:,}" if left < rows else ""
    return [stage["name"], f"{rows:,}" if rows else "", f"{left:,}" if rows else "", out, seconds]


def _notes(run: "Run") -> list[str]:
    notes = []
    if (run.path / "selection.parquet").exists():
        notes.append(f"selected: {run.selected.collect().height:,} rows")
    quarantined = run.quarantine.collect().height
    if quarantined:
        notes.append(f"quarantined: {quarantined:,}, see run.quarantine")
    if (run.path / "health.json").exists() and (warnings := len(run.health["warnings"])):
        notes.append(f"{warnings} warning{'' if warnings == 1 else 's'} of the scores, see run.health")
    return notes


def _losses(evaluation: Mapping[str, Any]) -> str:
    losses = evaluation["losses"]
    sources = next(iter(losses.values()))["sources"]
    rows = [[name, *(f"{each['sources'][name]['loss']:.4f}" for each in losses.values())] for name in sources]
    mean = ["mean over sources", *(f"{each['source_mean']:.4f}" for each in losses.values())]
    unit = evaluation.get("unit", "nats per supervised token")
    names = (name.replace("_", " ") for name in losses)
    return _table([f"held-out loss, {unit}", *names], [*rows, mean])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(
        f"<th{FIRST if not place else ''}>{escape(cell)}</th>" for place, cell in enumerate(header)
    )
    lines = (
        "".join(f"<td{FIRST if not place else ''}>{escape(cell)}</td>" for place, cell in enumerate(row))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
