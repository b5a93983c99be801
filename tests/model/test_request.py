"""What scorers ask, and means over an example's own tokens."""

import numpy as np

from curate.model.request import Signal, TokenSignals, View, union

NLL = Signal.LOG_PROBABILITY


def signals(offsets: list[int], values: list[float]) -> TokenSignals:
    return TokenSignals(np.array(offsets), {NLL: np.array(values)})


def test_each_view_gets_the_signals_of_those_that_ask_for_it() -> None:
    asked = [((NLL,), (View.FULL, View.RESPONSE_ONLY)), ((Signal.HEAD_GRADIENT_NORM, NLL), (View.FULL,))]
    assert union(asked) == {View.FULL: {NLL, Signal.HEAD_GRADIENT_NORM}, View.RESPONSE_ONLY: {NLL}}


def test_mean_of_each_example_and_null_of_an_empty_one() -> None:
    found = signals([0, 2, 2, 5], [1, 3, 1, 2, 6]).mean(NLL)
    np.testing.assert_array_equal(found, [2, np.nan, 3])


def test_mean_without_the_first_tokens() -> None:
    found = signals([0, 2, 2, 5], [1, 3, 1, 2, 6])
    np.testing.assert_array_equal(found.mean(NLL, skip=1), [3, np.nan, 4])
    np.testing.assert_array_equal(found.mean(NLL, skip=np.array([2, 0, 0])), [np.nan, np.nan, 3])


def test_a_null_token_stays_in_its_example() -> None:
    np.testing.assert_array_equal(signals([0, 1, 2], [np.nan, 2]).mean(NLL), [np.nan, 2])


def test_a_mean_does_not_depend_on_the_examples_before_it() -> None:
    values = np.random.default_rng(0).normal(size=1000).tolist()
    assert signals([0, 700, 1000], values).mean(NLL)[1] == signals([0, 300], values[700:]).mean(NLL)[0]
