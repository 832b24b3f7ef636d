"""When the device has come to rest."""

from __future__ import annotations

from edgetop.bench.plan import CoolDown
from edgetop.bench.runner import RestWatch

COOL_DOWN = CoolDown(idle_s=11, limit_s=60)


def waited(
    temperatures: list[float | None], powers: list[float | None], *, has_power: bool = True, known_at_s: int = 0
) -> tuple[int, str]:
    """Second by second, the last reading repeated: when the run began, and what was to be noted."""
    watch = RestWatch(COOL_DOWN, has_power=has_power, now_s=100.0)
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
