from __future__ import annotations

from math import floor
from random import Random

import pytest

from edgetop.core.energy.readings import UpdatePeriod


def period_found(update_s: float, poll_s: float, seed: int, seen: float = 1.0) -> UpdatePeriod:
    """Poll a sensor with jitter; a share `seen` of its updates changes the value."""
    random = Random(seed)  # noqa: S311
    period = UpdatePeriod(poll_s)
    phase, last = random.uniform(0, update_s), -1
    for i in range(round(200 * update_s / poll_s)):
        t_s = i * poll_s + random.uniform(0, 0.2 * poll_s)
        update = floor((t_s - phase) / update_s)
        if update > last and random.random() < seen:
            period.changed(round(t_s * 1e6), 1.0)
        last = update
    return period


@pytest.mark.parametrize(
    ("update_s", "poll_s"), [(0.1, 0.02), (0.1, 0.03), (0.101, 0.05), (0.02, 0.005), (1.0, 0.5), (1.0, 0.1)]
)
def test_period_is_found_though_polling_rounds_the_gaps_and_values_repeat(update_s: float, poll_s: float) -> None:
    for seed in range(10):
        assert period_found(update_s, poll_s, seed).seconds == pytest.approx(update_s, rel=0.08)
        assert period_found(update_s, poll_s, seed, seen=0.7).seconds == pytest.approx(update_s, rel=0.15)


def test_a_sensor_quicker_than_the_polling_is_only_bounded() -> None:
    period = period_found(0.001, 0.05, seed=1)
    assert period.seconds == 0.05
    assert period.at_most


def test_a_known_period_is_kept_and_an_unknown_one_begins_with_the_window() -> None:
    known = UpdatePeriod(0.05, known_s=1.0)
    for i in range(100):
        known.changed(i * 50_000, 1.0)
    assert known.seconds == 1.0
    unknown = UpdatePeriod(0.5, window_s=1.0)
    assert unknown.seconds == 1.0
    assert not unknown.found


def test_flicker_between_two_codes_is_not_taken_for_the_period() -> None:
    period = UpdatePeriod(0.05, step=0.1)
    for i in range(200):
        period.changed(i * 3_000_000, 0.1)
    assert period.seconds == 0.05
    for i in range(60):
        period.changed(600_000_000 + i * 50_000, 0.5)
    assert period.seconds == 0.05
    assert period.found
