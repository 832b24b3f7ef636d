from __future__ import annotations

from itertools import count

import pytest

from edgetop.core.energy.scopes import Headline
from edgetop.core.sources import Unavailable
from edgetop.live.energy_meter import MeanPower, SensorSession, _changes_us
from edgetop.telemetry.registry import Inventory
from edgetop.telemetry.source import SourceLost, UnavailableSource
from tests.support.fake_sources import FakeSource, power_source


def watched(
    *sources: FakeSource, absent: tuple[UnavailableSource, ...] = (), most_s: float = 0.1
) -> dict[str, MeanPower | Unavailable]:
    watch = SensorSession(Inventory(sources, absent))
    span = watch.wait_for_readings(0.1, most_s)
    watch.close()
    return {meter.name: watch.power(meter, span) for meter in watch.meters}


def test_power_is_the_mean_of_its_readings_and_a_counter_s_its_rate() -> None:
    watch = SensorSession(
        Inventory(
            (
                power_source("power.a", ((4.0 + 2.0 * (n % 2),) for n in count())),
                power_source("energy.b", ((5.0 * n,) for n in count()), unit="J"),
            ),
            (),
        )
    )
    span = watch.wait_for_readings(0.2, 60.0)
    mean, rate = (watch.power(meter, span) for meter in watch.meters)
    stamps, values = (list(column)[1:] for column in watch.session.window("energy.b.all", *span))
    watch.close()
    assert isinstance(mean, MeanPower)
    assert (mean.least_w, mean.most_w) == (4.0, 6.0)
    assert mean.mean_w == pytest.approx(5.0, abs=1.0 / mean.readings + 1e-9)
    assert isinstance(rate, MeanPower)
    assert rate.mean_w == pytest.approx((values[-1] - values[0]) / ((stamps[-1] - stamps[0]) / 1e6), rel=1e-6)


def test_it_is_waited_for_a_counter_that_moves_late() -> None:
    late = power_source("energy.late", (((0.0,) if n < 30 else (0.05 * n,)) for n in count()), unit="J")
    shown = watched(late, most_s=60.0)["energy.late.all"]
    assert isinstance(shown, MeanPower)
    assert shown.readings > 30


def test_readings_that_fail_are_counted_and_not_averaged() -> None:
    source = power_source("power.flaky", ((5.0,) if n % 2 else (Unavailable("busy"),) for n in count()))
    shown = watched(source)["power.flaky.all"]
    assert isinstance(shown, MeanPower)
    assert shown.mean_w == 5.0
    assert shown.failed in {shown.readings, shown.readings + 1}


def test_the_rate_of_a_counter_that_steps_counts_whole_steps() -> None:
    """Ten joules every tenth reading: 1 J a reading, wherever in a step the first reading falls."""
    for offset in range(10):
        source = power_source("energy.step", ((10.0 * ((n + offset) // 10),) for n in count()), unit="J")
        watch = SensorSession(Inventory((source,), ()))
        span = watch.wait_for_readings(0.5, 60.0)
        (meter,) = watch.meters
        shown = watch.power(meter, span)
        stamps, values = watch.session.window(meter.name, *span)
        watch.close()
        changed = _changes_us(stamps, values)
        assert isinstance(shown, MeanPower)
        steps = len(changed) - 1
        assert shown.mean_w == pytest.approx(10.0 * steps / ((changed[-1] - changed[0]) / 1e6), rel=1e-6)


def test_what_no_figure_would_believe_is_not_shown_either() -> None:
    spikes = power_source("power.a", ((2_147_483.6 if n % 2 else 5.0,) for n in count()))
    shown = watched(spikes)["power.a.all"]
    assert isinstance(shown, MeanPower)
    assert shown.most_w == 5.0
    missing = watched(power_source("power.b", (2_147_483.6,)))["power.b.all"]
    assert isinstance(missing, Unavailable)
    assert "cannot be the power" in missing.reason


def test_without_a_meter_nothing_is_waited_for() -> None:
    watch = SensorSession(Inventory((FakeSource("gauge"),), ()))
    _, end_us = watch.wait_for_readings(1e9, 1e9)
    watch.close()
    assert end_us < 1e12


def test_what_gives_no_reading_says_why() -> None:
    told = watched(
        power_source("power.charging", (Unavailable("on the charger"),)),
        power_source("power.gone", SourceLost("unplugged")),
        power_source("energy.still", (7.0,), unit="J"),
    )
    reasons = {name: each.reason for name, each in told.items() if isinstance(each, Unavailable)}
    assert reasons["power.charging.all"] == "on the charger"
    assert reasons["power.gone.all"] == "unplugged"
    assert reasons["energy.still.all"].startswith("the counter has not moved in ")


def test_absences_reach_the_headline_and_sources_are_closed() -> None:
    gauge = FakeSource("gauge")
    missing = Unavailable("/sys/class/powercap may not be read", "sudo chmod a+r")
    watch = SensorSession(Inventory((gauge,), (UnavailableSource(name="power.rapl", missing=missing),)))
    assert watch.headline == missing
    watch.close()
    assert gauge.closed == 1


def test_the_headline_is_what_the_person_chose() -> None:
    sources = (power_source("power.a", (1.0,)), power_source("power.b", (2.0,)))
    watch = SensorSession(Inventory(sources, ()), chosen="power.b")
    watch.close()
    headline = watch.headline
    assert isinstance(headline, Headline)
    assert [meter.name for meter in headline.meters] == ["power.b.all"]


def test_progress_is_told_the_seconds_that_are_left() -> None:
    left: list[float] = []
    watch = SensorSession(Inventory((power_source("power.a", (1.0,)),), ()))
    span = watch.read_for(0.2, left.append)
    watch.close()
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] < left[0] <= 0.2
    assert span[1] - span[0] >= 200_000
