import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curate.numerics.components import components, connect, survivors

EDGES = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=25)


def union_find(rows: int, edges: list[tuple[int, int]]) -> list[int]:
    label = list(range(rows))
    for a, b in edges:
        low, high = sorted((label[a], label[b]))
        label = [low if value == high else value for value in label]
    return label


@given(edges=EDGES)
def test_components_equal_a_plain_union_find(edges: list[tuple[int, int]]) -> None:
    left, right = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    assert components(20, left, right).tolist() == union_find(20, edges)


@given(edges=EDGES, cut=st.integers(0, 25))
def test_edges_may_come_in_two_parts(edges: list[tuple[int, int]], cut: int) -> None:
    left, right = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    labels = connect(components(20, left[:cut], right[:cut]), left[cut:], right[cut:])
    assert labels.tolist() == union_find(20, edges)


def test_a_long_chain_in_the_worst_order_is_one_component() -> None:
    ends = np.arange(2000)[::-1]
    assert (components(2001, ends, ends + 1) == 0).all()


def test_connect_leaves_its_input_alone() -> None:
    labels = np.arange(3)
    connect(labels, np.array([0]), np.array([2]))
    assert labels.tolist() == [0, 1, 2]


def test_the_highest_preference_survives() -> None:
    assert survivors(np.array([0, 0, 0]), np.array([1.0, 3.0, 2.0])).tolist() == [1, 1, 1]


def test_ties_go_to_the_first() -> None:
    assert survivors(np.array([0, 1, 0, 1]), np.zeros(4)).tolist() == [0, 1, 0, 1]


def test_a_row_without_a_score_loses_to_the_lowest_number() -> None:
    assert survivors(np.array([0, 0]), np.array([np.nan, -1e9])).tolist() == [1, 1]


def test_the_first_survives_where_no_row_has_a_score() -> None:
    assert survivors(np.array([0, 0]), np.array([np.nan, np.nan])).tolist() == [0, 0]
