"""What `curate list` says: the sections of a docstring, and how it is printed."""

import io
import re

from rich.console import Console

from curate.listing import Method, methods, print_methods
from curate.registry import Registry

LOSS = Method(
    name="loss",
    better="two-sided",
    cost="1 forward, shared by all; O(T V) beside it.",
    reads=["log_probability"],
    fields=[],
    summary="Mean negative log-likelihood of the supervised tokens.",
    source="Somebody et al., a title that is so long that it cannot stand in one line of eighty characters, 2020.",
)


def printed(*found: Method) -> list[str]:
    """The lines that are printed on 80 columns."""
    stream = io.StringIO()
    print_methods(found, Console(file=stream, width=80))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def scorers() -> dict[str, Method]:
    """The scorers of the project."""
    return {method.name: method for method in methods("scorers", Registry())}


def test_the_cost_is_the_paragraph_of_the_docstring() -> None:
    assert scorers()["length"].cost == "no model; O(characters), and O(1) a row for tokens."


def test_the_cost_of_two_views_is_two_passes() -> None:
    assert scorers()["ifd"].cost.startswith("2 forwards,")
    assert scorers()["loss"].cost.startswith("1 forward,")


def test_every_cost_begins_with_the_passes() -> None:
    stated = re.compile(r"no model\b|1 forward\b|([2-9]|[A-Z]) forwards\b")
    assert [name for name, method in scorers().items() if not stated.match(method.cost)] == []


def test_the_first_line_is_name_direction_and_passes() -> None:
    other = Method("ab", "higher", "no model.", [], [], "Nothing.", "")
    lines = printed(LOSS, other)
    assert lines[0] == "loss  two-sided  1 forward"
    assert lines[-2:] == ["ab    higher     no model", "          Nothing."]


def test_all_else_is_indented_below() -> None:
    lines = printed(LOSS)
    assert lines[1:4] == [
        "          Mean negative log-likelihood of the supervised tokens.",
        "  reads   log_probability",
        "  cost    1 forward, shared by all; O(T V) beside it.",
    ]
    assert lines[4].startswith("  source  Somebody et al.")


def test_nothing_is_wider_than_80_columns_or_cut() -> None:
    lines = printed(LOSS)
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines[4:]).split()) == f"source {LOSS.source}"
