"""The map: near rows lie near, the same rows at the same places, and texts are cut."""

import charted
import numpy as np
import polars as pl
import pytest

from curate.charts.map import FEWEST_FOR_TSNE, coordinates, embedding_map


def groups(rows: int, width: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Two well separated groups: embeddings, and the group of each row."""
    generator = np.random.default_rng(0)
    of = np.arange(rows) % 2
    return (generator.normal(size=(rows, width)) + 20 * of[:, None]).astype(np.float32), of


@pytest.mark.parametrize("rows", [20, FEWEST_FOR_TSNE + 10])
def test_what_is_alike_lies_together(rows: int) -> None:
    embeddings, of = groups(rows)
    places = coordinates(embeddings, 0)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (of[distances.argmin(axis=1)] == of).all()


def test_the_same_places_each_time() -> None:
    embeddings, _ = groups(FEWEST_FOR_TSNE)
    np.testing.assert_array_equal(coordinates(embeddings, 3), coordinates(embeddings, 3))


def test_few_rows_are_their_principal_components() -> None:
    embeddings = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [3, 1, 0]], dtype=np.float32)
    assert np.abs(coordinates(embeddings, 0)) == pytest.approx(np.array([[1.5, 0.5]] * 4))


@pytest.mark.parametrize("embeddings", [np.ones((1, 4)), np.ones((300, 4)), np.ones((3, 1)), np.eye(2, 1)])
def test_rows_that_are_all_alike_or_few_have_places(embeddings: np.ndarray) -> None:
    places = coordinates(embeddings.astype(np.float32), 0)
    assert places.shape == (len(embeddings), 2)
    assert np.isfinite(places).all()


def test_many_rows_of_one_number_each() -> None:
    places = coordinates(np.arange(FEWEST_FOR_TSNE, dtype=np.float32)[:, None], 0)
    assert np.isfinite(places).all()


def table(rows: int = 3) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "x": [float(n) for n in range(rows)],
            "y": [0.0] * rows,
            "id": [f"row-{n}" for n in range(rows)],
            "source": [f"source {n}" for n in range(rows)],
            "kept": [n == 0 for n in range(rows)],
            "prompt": ["a\n\n  b" + "c" * 500] * rows,
            "response": ["<script>alert(1)</script>"] * rows,
            "cluster": [None, 12, 7, *[1] * rows][:rows],
            "score.donod.don": [float("inf"), None, 0.123456, *[1.0] * rows][:rows],
        },
        schema_overrides={"cluster": pl.Int32, "score.donod.don": pl.Float64},
    )


def test_kept_rows_are_drawn_last() -> None:
    rows = charted.rows(embedding_map(table(), "source", ""), "prompt")
    assert [(row["id"], row["kept"]) for row in rows] == [
        ("row-1", "dropped"),
        ("row-2", "dropped"),
        ("row-0", "kept"),
    ]


def test_texts_are_cut_and_on_one_line() -> None:
    (text, *_) = (row["prompt"] for row in charted.rows(embedding_map(table(), "kept", ""), "prompt"))
    assert text.startswith("a bccc")
    assert text.endswith("…")
    assert len(text) == 160


def test_control_characters_are_pictures_of_them() -> None:
    nasty = table().with_columns(id=pl.lit("a\x00b"), response=pl.lit("\x1b[31mred\x08 \x7f\ufffe"))
    (row, *_) = charted.rows(embedding_map(nasty, "kept", ""), "prompt")
    assert (row["id"], row["response"]) == ("a␀b", "␛[31mred␈ ␡\ufffd")


def test_scores_are_on_hover_and_what_is_no_number_is_null() -> None:
    chart = embedding_map(table(), "score.donod.don", "")
    found = {row["id"]: row["score_donod_don"] for row in charted.rows(chart, "prompt")}
    assert found == {"row-0": None, "row-1": None, "row-2": 0.1235}
    titles = {each["field"]: each.get("title") for each in charted.spec(chart)["encoding"]["tooltip"]}
    assert titles["score_donod_don"] == "donod.don"


def test_all_colours_have_the_same_rows() -> None:
    charts = [embedding_map(table(), colour, "") for colour in ("kept", "score.donod.don")]
    first, second = (charted.spec(chart)["datasets"] for chart in charts)
    assert first == second


def test_clusters_are_numbered_on_the_map() -> None:
    labels = [
        row for row in charted.rows(embedding_map(table(4), "cluster", ""), "cluster") if "id" not in row
    ]
    assert {row["cluster"] for row in labels} == {"none", "12", "7", "1"}


def test_the_smallest_of_many_sources_have_one_colour() -> None:
    chart = embedding_map(table(30), "source", "")
    assert {row["shown"] for row in charted.rows(chart, "prompt")} == {
        "others (24)", "source 0", "source 1", "source 10", "source 11", "source 12", "source 13",
    }  # fmt: skip


def test_four_thousand_rows_stay_under_two_megabytes() -> None:
    many = table(4000).with_columns(source=pl.lit("web"), response=pl.col("prompt"))
    scores = [pl.lit(0.123456).alias(f"score.s{n}") for n in range(6)]
    assert charted.size(embedding_map(many.with_columns(*scores), "source", "")) < 2_500_000
