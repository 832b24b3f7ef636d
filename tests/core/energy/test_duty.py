"""Energy per answer, day and charge, and when unloading pays."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.energy.duty import NO_BATTERY, NO_RATE, Duty, DutyBasis, duty_figures
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable

UNKNOWN = Unavailable("not measured")


def figure(value: float, *, gain: float = 0.0, random: float = 0.0) -> Interval:
    reach = 2 * (gain**2 * value**2 + random**2) ** 0.5
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=gain * value, u_random=random)


def example(**parts: Interval | Unavailable) -> DutyBasis:
    """The worked example of docs/duty.md."""
    known = DutyBasis(
        answer_j=figure(90.0), answer_s=figure(15.0), idle_w=figure(3.4), unloaded_w=figure(3.0),
        load_j=figure(24.0), load_s=figure(4.0),
    )  # fmt: skip
    return replace(known, **parts)


def value(found: Interval | None) -> float:
    assert found is not None
    return found.value


def test_the_worked_example_of_the_documentation() -> None:
    found = duty_figures(example(), Duty(requests_per_hour=20, battery_wh=50))
    assert value(found.kept_wh_per_day) == pytest.approx(24 * (20 * 90 + 3.4 * (3600 - 20 * 15)) / 3600)  # 86.8
    assert value(found.reloaded_wh_per_day) == pytest.approx(24 * (20 * (90 + 24) + 3.0 * (3600 - 20 * 19)) / 3600)
    assert value(found.unload_after_s) == pytest.approx(30.0)
    assert value(found.kept_battery_h) == pytest.approx(50 / (value(found.kept_wh_per_day) / 24))
    assert found.missing == {}


@pytest.mark.parametrize(
    ("basis", "duty", "name", "reason"),
    [
        (example(), Duty(battery_wh=1), "kept_wh_per_day", NO_RATE),
        (example(), Duty(requests_per_hour=1), "reloaded_battery_h", NO_BATTERY),
        (example(load_j=UNKNOWN), Duty(requests_per_hour=1), "reloaded_wh_per_day", UNKNOWN),
        (example(load_j=UNKNOWN), Duty(), "unload_after_s", UNKNOWN),
        (example(answer_j=UNKNOWN), Duty(requests_per_hour=1), "kept_wh_per_day", UNKNOWN),
    ],
)
def test_what_cannot_be_had_says_why(basis: DutyBasis, duty: Duty, name: str, reason: Unavailable) -> None:
    found = duty_figures(basis, duty)
    assert getattr(found, name) is None
    assert found.missing[name] == reason


def test_more_requests_than_fit_into_an_hour_are_refused() -> None:
    found = duty_figures(example(), Duty(requests_per_hour=200))
    assert "at most 240" not in str(found.missing)  # 200 of 15 s do fit, but not with a load of 4 s each
    assert found.kept_wh_per_day is not None
    assert "at most 189 fit into an hour" in found.missing["reloaded_wh_per_day"].reason
    assert "at most 240" in duty_figures(example(), Duty(requests_per_hour=241)).missing["kept_wh_per_day"].reason


def test_where_the_loaded_model_draws_no_more_unloading_never_pays() -> None:
    found = duty_figures(example(idle_w=figure(3.01, random=0.02)), Duty())
    assert found.unload_after_s is None
    assert "the same with and without" in found.missing["unload_after_s"].reason


def test_what_one_meter_gets_wrong_in_all_cancels_in_the_break_even() -> None:
    gained = {name: figure(getattr(example(), name).value, gain=0.05) for name in ("idle_w", "unloaded_w", "load_j")}
    of_one = duty_figures(example(**gained), Duty()).unload_after_s
    assert of_one is not None
    assert of_one.high - of_one.low == pytest.approx(0, abs=1e-3)
    predicted = duty_figures(replace(example(**gained), same_meter=False), Duty())
    assert predicted.unload_after_s is None, "3.4 and 3.0 W with 5 % each, independent of each other, may be the same"


positive = st.floats(0.01, 1e4)
bases = st.builds(
    lambda answer_j, answer_s, unloaded_w, more_w, load_s, above_w: DutyBasis(
        answer_j=figure(answer_j, gain=0.01, random=answer_j / 100),
        answer_s=figure(answer_s),
        idle_w=figure(unloaded_w + more_w, gain=0.01),
        unloaded_w=figure(unloaded_w, gain=0.01),
        load_j=figure((unloaded_w + above_w) * load_s, gain=0.01),
        load_s=figure(load_s),
    ),
    positive, st.floats(0.1, 300), st.floats(0.1, 100), st.floats(0.05, 20), st.floats(0.1, 100), st.floats(0.1, 100),
)  # fmt: skip


@given(bases, st.floats(0, 100), st.floats(0, 100), st.floats(0.1, 1e4))
def test_the_battery_lasts_no_longer_with_more_requests(
    basis: DutyBasis, fewer: float, more: float, battery_wh: float
) -> None:
    """Where an answer draws more than idling does."""
    assert isinstance(basis.answer_j, Interval)
    assert isinstance(basis.answer_s, Interval)
    assert isinstance(basis.idle_w, Interval)
    assume(basis.answer_j.value >= basis.idle_w.value * basis.answer_s.value)
    first, second = (
        duty_figures(basis, Duty(requests_per_hour=rate, battery_wh=battery_wh)) for rate in sorted((fewer, more))
    )
    assume(first.kept_battery_h is not None and second.kept_battery_h is not None)
    assert value(second.kept_battery_h) <= value(first.kept_battery_h) * (1 + 1e-9)
    assert value(second.kept_wh_per_day) >= value(first.kept_wh_per_day) * (1 - 1e-9)


@given(bases, st.floats(0.01, 1000))
def test_unloading_pays_after_the_pause_at_which_a_day_takes_less(basis: DutyBasis, rate: float) -> None:
    found = duty_figures(basis, Duty(requests_per_hour=rate))
    kept, reloaded, pause = found.kept_wh_per_day, found.reloaded_wh_per_day, found.unload_after_s
    assume(kept is not None and reloaded is not None and pause is not None)
    assert isinstance(basis.answer_s, Interval)
    pause_s = 3600 / rate - basis.answer_s.value
    assume(abs(pause_s - value(pause)) > 1e-6 * (pause_s + value(pause)))
    assert (pause_s > value(pause)) == (value(reloaded) < value(kept))


@given(bases, st.floats(0, 100), st.floats(0.1, 1e4))
def test_each_value_lies_in_its_interval_and_a_day_is_a_day_of_the_battery_s_power(
    basis: DutyBasis, rate: float, battery_wh: float
) -> None:
    found = duty_figures(basis, Duty(requests_per_hour=rate, battery_wh=battery_wh))
    figures = [getattr(found, name) for name in found.__struct_fields__]
    for each in figures:
        if isinstance(each, Interval):
            assert each.low <= each.value <= each.high
    if found.kept_battery_h is not None:
        assert value(found.kept_battery_h) * value(found.kept_wh_per_day) == pytest.approx(24 * battery_wh)
