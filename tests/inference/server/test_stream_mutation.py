from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.support.mutated_streams import STREAMS, examine, mutated, readers


def test_each_recorded_stream_is_read_by_a_reader() -> None:
    chance = random.Random(0)  # noqa: S311 - to be repeated
    assert all("read" in examine(data, chance) for data in STREAMS)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_streams_are_read_or_refused_in_words(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    outcomes = Counter(outcome for _ in range(250) for outcome in examine(mutated(chance), chance))
    assert outcomes.total() == 250 * len(readers())
    assert min(outcomes.values()) > 100, outcomes
