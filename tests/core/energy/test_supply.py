from __future__ import annotations

import pytest

from edgetop.core.energy.duty import Price, battery_hours, cost_of
from edgetop.core.energy.tokens import Energy
from edgetop.core.quantity import Interval
from edgetop.core.sources import Scope

PRICE = Price(per_kwh=0.30, currency="EUR")


def figure(value: float, reach: float) -> Interval:
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=reach / 2, u_random=0)


def energy(scope: Scope, mean_w: Interval, j_per_token: Interval | None = None) -> Energy:
    return Energy(
        scope=scope, source="x", method="strict", grade="B", grade_reason="", grade_hint="", flags=(), final=True,
        estimated_share=0, gross_j=figure(3.6e6, 3.6e5), net_j=None, idle_w=None, mean_w=mean_w, peak_w=mean_w,
        j_per_token=j_per_token, net_j_per_token=None, decode_j_per_token=None, prefill_j_per_token=None,
        tokens_per_wh=None,
    )  # fmt: skip


def test_a_kilowatt_hour_costs_its_price_with_the_energy_s_interval() -> None:
    cost = cost_of(energy("wall", figure(9, 1), figure(0.72, 0.06)), PRICE)
    assert (cost.total.low, cost.total.value, cost.total.high) == pytest.approx((0.27, 0.30, 0.33))
    assert cost.per_million_tokens is not None
    assert cost.per_million_tokens.value == pytest.approx(0.72e6 / 3.6e6 * 0.30)
    assert cost.per_million_tokens.high == pytest.approx(0.78e6 / 3.6e6 * 0.30)


def test_without_energy_per_token_a_million_of_them_have_no_cost() -> None:
    assert cost_of(energy("wall", figure(9, 1)), PRICE).per_million_tokens is None


def test_a_charge_lasts_its_energy_divided_by_the_mean_power() -> None:
    hours = battery_hours(energy("battery", figure(10, 2)), 50 * 3600)
    assert hours is not None
    assert (hours.low, hours.value, hours.high) == pytest.approx((50 / 12, 5, 50 / 8))


@pytest.mark.parametrize(
    ("scope", "remaining_j", "reach"),
    [("wall", 1e5, 1), ("battery", None, 1), ("battery", 0.0, 1), ("battery", 1e5, 11)],
)
def test_hours_left_are_told_only_of_a_battery_with_a_known_charge_and_load(
    scope: Scope, remaining_j: float | None, reach: float
) -> None:
    assert battery_hours(energy(scope, figure(10, reach)), remaining_j) is None
