"""Arrays: a JSON array of objects, read element by element without holding the file."""

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import BinaryIO

from curate.data.lines import parse_json
from curate.data.storage import Block, Record, open_plain
from curate.errors import DataError

_SPACE = re.compile(r"[ \t\n\r]*")
_READ_CHARACTERS = 1 << 20
_LITERAL = 16
"""No literal or escape is longer: an error further than this from the end is not due to the end."""

Element = tuple[int, str]
"""The line on which an element starts, and its text."""


def read_array(path: str, rows: int) -> Iterator[Block]:
    """Blocks of `rows` elements. `raw` is the element's exact text, its lines joined where it has several.

    An element that is not an object, or not valid JSON in its details, is a BadRow. Raises DataError
    where the array itself breaks off, since nothing after that place can be read.
    """
    with open_plain(path) as stream:
        elements = _elements(stream, path)
        first = 0
        while block := list(islice(elements, rows)):
            yield Block(first, len(block), partial(_parse, block, first))
            first += len(block)


def _parse(block: list[Element], first: int) -> Iterator[Record]:
    for ordinal, (line, text) in enumerate(block, first):
        value = parse_json(text.encode("utf-8", "surrogateescape"))
        if "\n" in text:
            text = "".join([part.strip(" \t\r") for part in text.split("\n")])
        yield ordinal, line, text.encode("utf-8", "surrogateescape"), value


class _Window:
    """The part of the text that is not consumed yet; `at` is the place in it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False

    def more(self) -> bool:
        """Read further: a fixed amount, or as much again as is waiting. False at the end of the file."""
        if self.ended:
            return False
        waiting = len(self.text) - self.at
        data = self._stream.read(max(_READ_CHARACTERS, waiting))
        self.ended = not data
        self.text = self.text[self.at :] + self._decoder.decode(data, final=self.ended)
        self.at = 0
        return True

    def move(self, at: int) -> None:
        """Go on to `at`, counting lines."""
        self.line += self.text.count("\n", self.at, at)
        self.at = at

    def next(self) -> str:
        """The next character that is not white space, "" at the end of the file."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.move(match.end() if match else self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""


def _elements(stream: BinaryIO, path: str) -> Iterator[Element]:
    window = _Window(stream)
    window.more()
    window.text = window.text.removeprefix("\ufeff")
    opening = window.next()
    if opening != "[":
        raise DataError(f"{path}:{window.line}: must be a JSON array. Found {opening!r}.")
    window.move(window.at + 1)
    if window.next() == "]":
        return
    while True:
        window.next()
        line, text = window.line, _element(window, path)
        yield line, text
        separator = window.next()
        window.move(window.at + 1)
        if separator == "]":
            break
        if separator != ",":
            raise _broken(window, path, f"expected `,` or `]` after an element, found {separator!r}")
    if window.next():
        raise _broken(window, path, "there is text after the array")


def _element(window: _Window, path: str) -> str:
    decoder = json.JSONDecoder(strict=False)
    while True:
        try:
            end = decoder.raw_decode(window.text, window.at)[1]
        except json.JSONDecodeError as error:
            cut_off = error.msg.startswith("Unterminated") or error.pos > len(window.text) - _LITERAL
            if not cut_off or not window.more():
                raise _broken(window, path, error.msg) from error
            continue
        if end == len(window.text) and window.more():
            continue
        text = window.text[window.at : end]
        window.move(end)
        return text


def _broken(window: _Window, path: str, why: str) -> DataError:
    return DataError(
        f"{path}:{window.line}: the array breaks off here: {why}. Nothing after it can be read: mend the "
        "file, or write one object a line (.jsonl), where one bad line costs one row."
    )
