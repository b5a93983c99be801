"""States laid end to end: totals and maxima of each example, and what comes after a shared opening."""

from dataclasses import replace

import torch

from curate.model.request import States


def states(hidden: list[list[float]], counts: list[int]) -> States:
    lengths = torch.tensor(counts)
    none = torch.zeros(len(hidden), dtype=torch.int64)
    return States(
        hidden=torch.tensor(hidden),
        ids=none,
        example=torch.arange(len(counts)).repeat_interleave(lengths),
        place=none,
        counts=lengths,
        predicts=none.bool(),
    )


def test_totals_are_of_each_example() -> None:
    given = states([[1.0, 2], [3, 4], [5, 6]], [1, 2])
    assert given.total(given.hidden).tolist() == [[1, 2], [8, 10]]
    assert given.total(given.hidden[:, 0]).tolist() == [1, 8]


def test_the_largest_is_of_each_example() -> None:
    given = states([[-1.0], [-3], [-2]], [1, 2])
    assert given.largest(given.hidden[:, 0]).tolist() == [-1, -2]


def after(rows: list[list[int]], opening: list[int]) -> list[list[bool]]:
    counts = [len(tokens) for tokens in rows]
    given = replace(
        states([[0.0]] * sum(counts), counts),
        ids=torch.tensor([token for tokens in rows for token in tokens]),
        place=torch.tensor([place for tokens in rows for place in range(len(tokens))]),
    )
    found = given.after(torch.tensor(opening, dtype=torch.int64))
    return [part.tolist() for part in torch.split(found, counts)]


def test_what_comes_after_an_opening() -> None:
    assert after([[5, 6, 7], [5, 6, 7, 8]], [5, 6]) == [[False, False, True], [False, False, True, True]]


def test_a_token_of_the_opening_counts_after_another() -> None:
    """At the third place 7 is the opening's, but no longer the same state."""
    assert after([[5, 9, 7], [9, 6, 7]], [5, 6, 7]) == [[False, True, True], [True, True, True]]


def test_a_row_that_is_all_opening_has_nothing_after_it() -> None:
    assert after([[5, 6], [9]], [5, 6, 7]) == [[False, False], [True]]


def test_without_an_opening_all_tokens_come_after_it() -> None:
    assert after([[5], [6, 7]], []) == [[True], [True, True]]


def test_a_total_does_not_depend_on_the_other_examples() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(900, 5, generator=generator)
    both, alone = states(values.tolist(), [500, 400]), states(values[500:].tolist(), [400])
    assert torch.equal(both.total(values)[1], alone.total(values[500:])[0])
