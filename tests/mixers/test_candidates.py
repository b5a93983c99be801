"""Which mixtures a search tries."""

import numpy as np
import pytest

from curate.errors import ConfigError
from curate.mixers._candidates import Candidates

NAMES = ("chat", "code", "math")


def test_subsets_are_all_sets_but_the_empty_one_uniform() -> None:
    found = Candidates(["subsets"], 7).weights(NAMES)
    third = 1 / 3
    assert np.allclose(
        found,
        [
            [1, 0, 0],
            [0, 1, 0],
            [0, 0, 1],
            [0.5, 0.5, 0],
            [0.5, 0, 0.5],
            [0, 0.5, 0.5],
            [third, third, third],
        ],
    )


def test_leave_one_out_is_all_and_all_but_each() -> None:
    found = Candidates(["leave_one_out"], 64).weights(NAMES)
    assert np.allclose(found, [[1 / 3] * 3, [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def test_leave_one_out_of_one_is_that_one() -> None:
    assert Candidates(["leave_one_out"], 64).weights(("only",)).tolist() == [[1.0]]


def test_given_weights_are_brought_to_sum_1_and_who_is_left_out_has_0() -> None:
    assert Candidates([{"math": 3, "chat": 1}], 64).weights(NAMES).tolist() == [[0.25, 0, 0.75]]


def test_what_is_asked_for_twice_is_tried_once() -> None:
    given = Candidates(["leave_one_out", "subsets", {"chat": 2, "code": 2}], 64)
    found = given.weights(NAMES)
    assert len(found) == len(np.unique(found, axis=0)) == 7
    assert np.allclose(found[0], 1 / 3)


def test_unknown_partitions_are_named_beside_the_known() -> None:
    with pytest.raises(ConfigError, match=r"\(chat, code, math\). Got poems"):
        Candidates([{"chat": 1, "poems": 1}], 64).weights(NAMES)


def test_too_many_are_refused_before_any_is_made() -> None:
    with pytest.raises(ConfigError, match=r"at most 64 .* Got 1,099,511,627,775 for 40 partitions"):
        Candidates(["subsets"], 64).weights([f"cluster-{n}" for n in range(40)])


def test_the_limit_itself_is_allowed() -> None:
    with pytest.raises(ConfigError, match="at most 6 "):
        Candidates(["subsets"], 6).weights(NAMES)
    assert len(Candidates(["subsets"], 7).weights(NAMES)) == 7
