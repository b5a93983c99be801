"""Waiting: for other runs that hold an entry, and for long work that tells in a file how far it is."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.progress import Observer
from curate.store import Entry


@contextmanager
def locks(entries: Iterable[Entry], waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold all entries, always taken in the same order, so that two runs cannot wait for each other.

    waiting: told the name of an entry, once, that another run holds.
    """
    ordered = sorted(entries, key=lambda entry: entry.folder)
    if not ordered:
        yield
        return
    with ordered[0].lock(waiting), locks(ordered[1:], waiting):
        yield


@contextmanager
def watching(path: Path, observer: Observer) -> Iterator[None]:
    """Pass on to the observer what a worker tells in a file."""
    stop = threading.Event()

    def watch() -> None:
        done = tokens = total = 0
        while not stop.wait(1.0):
            if not path.exists():
                continue
            told = json.loads(path.read_bytes())
            if told["total"] != total:
                total, done, tokens = told["total"], 0, 0
                observer.started(told["label"], total, told["unit"])
            observer.advanced(told["done"] - done, told["tokens"] - tokens)
            done, tokens = told["done"], told["tokens"]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
