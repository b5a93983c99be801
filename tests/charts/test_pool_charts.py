"""Funnel and mixture: rows add up, equal causes are one, the small sources are one."""

import charted
import polars as pl
import pytest

from curate.charts.pool import Passed, funnel, masked, mixture

PASSED = [
    Passed("ingest", 10, {("quarantined", "broken"): 2}),
    Passed("hold_out", 8, {("held out", "held out"): 1, ("dropped", "shares its group"): 1}),
    Passed("select.top", 3, {("dropped", f"reason {letter}"): 1 for letter in "abcde"}),
]


def test_bars_of_a_stage_are_what_came_to_it() -> None:
    bars = charted.rows(funnel(PASSED), "from", "to")
    found = {(bar["stage"], bar["kind"]): (bar["from"], bar["to"]) for bar in bars}
    assert found["hold_out", "left"] == (0, 8)
    assert sorted(found[key] for key in found if key[0] == "hold_out") == [(0, 8), (8, 9), (9, 10)]


def test_labels_say_what_is_left_and_what_was_taken() -> None:
    labels = charted.rows(funnel(PASSED), "text")
    assert [label["text"] for label in labels] == ["10 (-2)", "8 (-2)", "3 (-5)"]


def test_rare_reasons_are_one_and_none_is_lost() -> None:
    reasons = charted.rows(funnel(PASSED), "reason")
    mine = [(each["reason"], each["rows"]) for each in reasons if each["stage"] == "select.top"]
    assert mine == [("reason a", 1), ("reason b", 1), ("reason c", 1), ("2 other reasons", 2)]


def test_control_characters_in_a_reason_are_pictures_of_them() -> None:
    chart = funnel([Passed("ingest", 1, {("quarantined", "bad \x00 value"): 1})])
    assert [each["reason"] for each in charted.rows(chart, "reason")] == ["bad ␀ value"]
    assert "\\u0000" not in chart.to_json()


def test_stages_of_one_name_are_told_apart() -> None:
    twice = [Passed("select.top", 5, {("dropped", "x"): 1}), Passed("select.top", 4, {("dropped", "x"): 1})]
    assert {bar["stage"] for bar in charted.rows(funnel(twice), "from")} == {"select.top", "select.top (2)"}


def test_nothing_taken_out_is_a_chart_too() -> None:
    bars = charted.rows(funnel([Passed("ingest", 1)]), "from", "kind")
    assert [(bar["kind"], bar["rows"]) for bar in bars] == [("left", 1)]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("length 1, below the minimum of 2", "length #, below the minimum of #"),
        ("the same row as chat-00003", "the same row as #"),
        ("near duplicate of a1 (Jaccard 0.714 of word 5-grams)", "near duplicate of # (Jaccard # of word #)"),
        ("held out", "held out"),
        ("x" * 200, "x" * 89 + "…"),
    ],
)
def test_masks(reason: str, expected: str) -> None:
    assert pl.select(masked(pl.lit(reason))).item() == expected


def shares(table: pl.DataFrame, units: list[str]) -> dict[tuple[str, str, str], float]:
    rows = charted.rows(mixture(table, units), "share")
    return {(row["unit"], row["at"], row["source"]): row["share"] for row in rows}


def test_shares_are_of_each_point_and_unit() -> None:
    table = pl.DataFrame(
        {
            "at": ["read", "read", "selected"],
            "source": ["web", "math", "math"],
            "rows": [3.0, 1.0, 2.0],
            "supervised tokens": [10.0, 30.0, 5.0],
        }
    )
    assert shares(table, ["rows", "supervised tokens"]) == {
        ("rows", "read", "web"): 0.75,
        ("rows", "read", "math"): 0.25,
        ("rows", "selected", "math"): 1.0,
        ("supervised tokens", "read", "web"): 0.25,
        ("supervised tokens", "read", "math"): 0.75,
        ("supervised tokens", "selected", "math"): 1.0,
    }


def test_the_smallest_of_hundreds_of_sources_are_one() -> None:
    names = [f"a source with a long name, number {n:03}" for n in range(300)]
    table = pl.DataFrame({"at": ["read"] * 300, "source": names, "rows": [float(1 + n) for n in range(300)]})
    found = shares(table, ["rows"])
    assert len(found) == 13
    assert found["rows", "read", "others (288)"] == pytest.approx(
        sum(range(1, 289)) / sum(range(1, 301)), rel=1e-5
    )
    assert ("rows", "read", names[-1]) in found
    assert charted.size(mixture(table, ["rows"])) < 20_000


def test_a_source_that_is_large_only_among_the_selected_is_shown() -> None:
    names = [f"s{n:02}" for n in range(40)]
    read = pl.DataFrame({"at": "read", "source": names, "rows": [100.0] * 39 + [1.0]})
    chosen = pl.DataFrame({"at": "selected", "source": names[-1:], "rows": [1.0]})
    assert shares(pl.concat([read, chosen]), ["rows"])["rows", "selected", "s39"] == 1.0


def test_no_tokens_at_all_have_no_share() -> None:
    table = pl.DataFrame({"at": ["read"], "source": ["web"], "rows": [1.0], "supervised tokens": [0.0]})
    assert shares(table, ["rows", "supervised tokens"])["rows", "read", "web"] == 1.0
