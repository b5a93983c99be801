"""Progress: what a run tells while it works. Bars on a terminal, plain lines elsewhere."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS = 5.0
REFRESHES_PER_SECOND = 2
"""Of bars. Each takes processor time from the threads of a model: ten a second were felt on two cores."""


class Observer(ABC):
    """Is told what a run does."""

    @abstractmethod
    def started(self, label: str, rows: int, unit: str) -> None:
        """A stage starts on so many rows (or steps, as `unit` says)."""

    @abstractmethod
    def advanced(self, done: int, tokens: int) -> None:
        """So many rows more are done, of so many tokens."""

    @abstractmethod
    def finished(self, record: Mapping[str, Any]) -> None:
        """The stage is done, or was stored: its record in run.json."""

    @abstractmethod
    def note(self, text: str) -> None:
        """A sentence that the user should see."""


class Silent(Observer):
    """Says nothing: for notebooks and tests."""

    def started(self, label: str, rows: int, unit: str) -> None:
        """Nothing."""

    def advanced(self, done: int, tokens: int) -> None:
        """Nothing."""

    def finished(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Plain(Observer):
    """One line a stage, and one every few seconds while it lasts."""

    def __init__(self) -> None:
        self._label, self._rows, self._unit = "", 0, "rows"
        self._done, self._tokens = 0, 0
        self._begun = self._told = time.monotonic()

    def started(self, label: str, rows: int, unit: str) -> None:
        """Remember what runs."""
        self._label, self._rows, self._unit = label, rows, unit
        self._done, self._tokens = 0, 0
        self._begun = self._told = time.monotonic()

    def advanced(self, done: int, tokens: int) -> None:
        """Print a line if the last one is some seconds old."""
        self._done += done
        self._tokens += tokens
        now = time.monotonic()
        if now - self._told >= LINE_SECONDS:
            self._told = now
            print(
                f"  {self._label}: {rate(self._done, self._rows, self._tokens, now - self._begun, self._unit)}"
            )
            sys.stdout.flush()

    def finished(self, record: Mapping[str, Any]) -> None:
        """Print what the stage did."""
        print(summary(record))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print it."""
        print(f"  {text}")
        sys.stdout.flush()


class Bars(Observer):
    """rich progress bars with rate and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._rows, self._unit, self._done, self._tokens, self._begun = 0, "rows", 0, 0, 0.0

    def started(self, label: str, rows: int, unit: str) -> None:
        """Open a bar."""
        self._rows, self._unit, self._done, self._tokens, self._begun = rows, unit, 0, 0, time.monotonic()
        self._task = self._progress.add_task(label, total=rows, rate="")
        self._progress.start()

    def advanced(self, done: int, tokens: int) -> None:
        """Move it."""
        self._done += done
        self._tokens += tokens
        if self._task is not None:
            text = rate(self._done, self._rows, self._tokens, time.monotonic() - self._begun, self._unit)
            self._progress.update(self._task, completed=self._done, rate=text)

    def finished(self, record: Mapping[str, Any]) -> None:
        """Close it and leave a line."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._progress.stop()
            self._task = None
        self._progress.console.print(summary(record), highlight=False)

    def note(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(f"  {text}", highlight=False)


def observer() -> Observer:
    """Bars where standard output is a terminal, else plain lines: in a notebook too, where bars would pile up."""
    console = Console()
    return Bars(console) if console.is_terminal and not console.is_jupyter else Plain()


def rate(done: int, total: int, tokens: int, seconds: float, unit: str) -> str:
    """`1,200 of 4,000 rows, 310 rows/s, 2,480 tokens/s, 9 s left`; total: 0 where it is not known."""
    speed = done / seconds if seconds > 0 else 0.0
    parts = [f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}", f"{speed:,.1f} {unit}/s"]
    if tokens:
        parts.append(f"{tokens / seconds:,.0f} tokens/s")
    if 0 < done < total:
        parts.append(f"{(total - done) / speed:,.0f} s left")
    return ", ".join(parts)


def summary(record: Mapping[str, Any]) -> str:
    """One line on a finished stage."""
    parts = [f"{record['rows']:,} rows"]
    if record["kept"] is not None and record["kept"] != record["rows"]:
        parts.append(f"{record['kept']:,} left")
    if record["quarantined"]:
        parts.append(f"{record['quarantined']:,} quarantined")
    parts.append("stored" if record["cached"] else f"{record['seconds']:.1f} s")
    return f"  {record['name']:<28} {', '.join(parts)}"
