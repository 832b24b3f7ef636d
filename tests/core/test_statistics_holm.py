from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.statistics import adjusted


def test_the_smallest_is_held_to_its_share_and_the_next_to_what_is_left() -> None:
    found = adjusted({"speed": 0.02, "gap": 0.012, "load": 0.9}, {"speed": 2, "gap": 1, "load": 1})
    assert found["speed"] == pytest.approx(0.02 * 4 / 2)
    assert found["gap"] == pytest.approx(0.04)  # 0.012 of two shares left is 0.024, but not less than its predecessor
    assert found["load"] == pytest.approx(0.9)


def test_nothing_asked_is_nothing_answered() -> None:
    assert adjusted({}, {}) == {}


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1))
def test_no_question_gets_easier_by_asking_others_too(p_values: dict[str, float]) -> None:
    found = adjusted(p_values, dict.fromkeys(p_values, 1))
    assert all(p_values[name] <= found[name] <= 1 for name in p_values)


def test_of_many_rows_of_independent_chances_one_in_twenty_has_an_alarm() -> None:
    chance = np.random.default_rng(1)
    shares = {"a": 5, "b": 5, "c": 1, "d": 1, "e": 1}
    rows = chance.uniform(size=(4000, len(shares)))
    alarms = sum(
        min(adjusted(dict(zip(shares, map(float, row), strict=True)), shares).values()) <= 0.05 for row in rows
    )
    assert 0.04 < alarms / 4000 < 0.06
