"""When the device has come to rest."""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import pytest

from edgetop.bench.plan import LOOK_S, CoolDown
from edgetop.bench.runner import RestWatch

COOL_DOWN = CoolDown(idle_s=11, limit_s=60)


def waited(
    temperatures: list[float | None],
    powers: list[float | None],
    *,
    has_power: bool = True,
    known_at_s: int = 0,
    rested_c: float | None = None,
    idle_w: float | None = None,
) -> tuple[int, str]:
    """Second by second, the last reading repeated: when the run began, and what was to be noted."""
    watch = RestWatch(COOL_DOWN, has_power=has_power, now_s=100.0, rested_c=rested_c, idle_w=idle_w)
    for second in range(200):
        temperature = temperatures[min(second, len(temperatures) - 1)]
        watch.note(100.0 + second, temperature, powers[min(second, len(powers) - 1)], idle_known=second >= known_at_s)
        verdict = watch.verdict(100.0 + second)
        if verdict is not None:
            return second, verdict
    raise AssertionError("the limit was not kept")


def test_without_sensors_there_is_nothing_to_wait_for() -> None:
    assert waited([None], [None], has_power=False) == (0, "")


def test_where_power_is_measured_the_idle_power_has_to_be_known_first() -> None:
    assert waited([None], [3.0]) == (11, "")


def test_it_waits_until_the_idle_power_was_measured_long_enough() -> None:
    assert waited([None], [3.0], known_at_s=20) == (20, "")
    assert waited([None], [3.0], known_at_s=1000) == (60, "began after 60 s though the idle power was not yet known")
    assert waited([None], [None], known_at_s=1000) == (11, ""), "a sensor that does not answer is not waited for"


def test_it_waits_until_the_device_has_cooled_down() -> None:
    cooling = [70.0 - second * 0.5 for second in range(30)]
    second, note = waited([*cooling, 55.5], [3.0])
    assert 35 < second < 60
    assert note == ""


def test_it_waits_until_the_idle_power_is_steady() -> None:
    falling = [6.0 - second * 0.15 for second in range(20)]
    second, note = waited([None], [*falling, 3.0])
    assert 20 < second < 40
    assert note == ""


def test_a_reading_that_jumps_about_its_mean_is_steady() -> None:
    assert waited([None], [2.0, 4.0] * 100) == (11, "")


def test_after_its_limit_it_begins_and_says_what_was_wrong() -> None:
    second, note = waited([40.0 + second for second in range(200)], [3.0])
    assert second == 60
    assert "up by 60.0 °C a minute" in note


def watch_of(temperature_c: Callable[[float], float], seconds: int, **more: float) -> RestWatch:
    watch = RestWatch(COOL_DOWN, has_power=False, now_s=0.0, **more)
    for second in range(seconds + 1):
        watch.note(float(second), temperature_c(second), None)
    return watch


def test_it_says_how_long_it_waits_and_how_far_it_cools() -> None:
    """From 75 to 55 °C with 15 s: 2 °C a minute are reached after 15 ln(80 / 2) = 55.3 s, at 55.5 °C."""
    at_s = 20
    said = watch_of(lambda t: 55.0 + 20.0 * exp(-t / 15.0), at_s).outlook(at_s)
    assert said.endswith((": 60 °C, 56 to go to", ": 60 °C, 55 to go to"))
    left_s = int(said.split()[2])
    assert left_s == pytest.approx(55.3 - at_s, rel=0.3)
    before = watch_of(lambda t: 55.0 + 20.0 * exp(-t / 15.0), 4)
    assert before.outlook(4.0) == "in about 6 s: 70 °C"


def test_without_a_thermometer_it_waits_for_the_idle_power() -> None:
    watch = RestWatch(COOL_DOWN, has_power=True, now_s=0.0)
    watch.note(3.0, None, 3.0)
    assert watch.outlook(3.0) == "in about 8 s: idle power is being measured"


def test_a_device_as_cool_as_at_first_is_not_watched_for_ten_seconds() -> None:
    """So that a device that does not heat up spends little of its time at rest."""
    assert watch_of(lambda _: 50.5, 1, rested_c=50.0).verdict(1.0) == ""
    assert watch_of(lambda _: 50.5, 1).verdict(1.0) is None
    assert watch_of(lambda _: 52.0, 1, rested_c=50.0).verdict(1.0) is None


def test_idle_power_is_measured_once_for_a_setting_that_is_as_it_was() -> None:
    """A look at the power tells it without a thermometer, within the 5 % of a steady power."""
    assert waited([None], [3.1], known_at_s=1000, idle_w=3.0) == (LOOK_S, "")
    assert waited([None], [3.2], known_at_s=1000, idle_w=3.0)[0] == 60, "it is measured anew"
    assert waited([None], [3.5, 3.5, 3.5, 3.0], known_at_s=1000, idle_w=3.0)[0] < 11, "what falls is waited for"
    assert waited([50.5], [3.2], rested_c=50.0, known_at_s=1000, idle_w=3.0) == (0, ""), (
        "a thermometer tells it at once"
    )
    assert waited([52.0], [3.0], rested_c=50.0, known_at_s=1000, idle_w=3.0)[0] == 60
    assert waited([52.0, 52.0, 50.9], [3.0], rested_c=50.0, known_at_s=1000, idle_w=3.0) == (2, "")
