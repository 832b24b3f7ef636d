from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.energy.tokens import Energy, EnergyBasis, session_energy, sum_of, turn_energy
from edgetop.core.energy.windows import ChannelEstimator, TurnSpan, TurnWindows, Window, turn_over_meters
from edgetop.core.quantity import cost, figure
from edgetop.core.sources import Meter, Unavailable
from tests.core.energy.scripted_meters import S, average_meter, counter_meter, feed, point_meter, polled

BASIS = EnergyBasis(scope="module", source="meter", averaged=True)


def span(start_s: float, first_s: float, end_s: float, evaluated: int = 100, generated: int = 50) -> TurnSpan:
    return TurnSpan(
        submitted_us=round(start_s * S),
        first_token_us=round(first_s * S),
        last_us=round(end_s * S),
        evaluated_tokens=evaluated,
        generated_tokens=generated,
    )


def after_turns(meter: Meter, *turns: TurnSpan, until_s: float = 60.0, window_s: float = 0.0) -> ChannelEstimator:
    """A device of 4 W that prefills at 11 W and decodes at 9 W, metered by a mean over `window_s`."""
    estimator = ChannelEstimator(meter)
    estimator.idle_from(0)
    for turn in turns:
        estimator.busy_from(turn.submitted_us)
        estimator.idle_from(turn.last_us)

    def energy_j(t_s: float) -> float:
        total = 4.0 * t_s
        for turn in turns:
            start, first, end = turn.submitted_us / S, (turn.first_token_us or 0) / S, turn.last_us / S
            total += 7 * max(0.0, min(t_s, first) - start) + 5 * max(0.0, min(t_s, end) - first)
        return total

    def said(t_s: float) -> float:
        if meter.kind == "energy":
            return energy_j(t_s)
        if meter.update_s:
            t_s = int(t_s / meter.update_s + 1e-6) * meter.update_s
        over_s = window_s or 1e-6
        return round((energy_j(t_s) - energy_j(t_s - over_s)) / over_s, 4) + 1e-5 * (round(t_s * 1000) % 97)

    feed(estimator.curve, polled(until_s, meter.poll_s, said))
    return estimator


def turn_of(estimator: ChannelEstimator, turn: TurnSpan) -> TurnWindows:
    windows = estimator.turn(turn)
    assert isinstance(windows, TurnWindows), windows
    return windows


def energy_of(estimator: ChannelEstimator, turn: TurnSpan, basis: EnergyBasis = BASIS) -> Energy:
    energy = turn_energy(estimator.turn(turn), turn, basis)
    assert isinstance(energy, Energy), energy
    return energy


@given(
    start_s=st.floats(20, 22),
    prefill_s=st.floats(0.5, 4),
    decode_s=st.floats(0.5, 8),
    slow=st.booleans(),
)
def test_the_phases_add_up_to_the_turn_and_turns_and_pauses_to_the_session(
    start_s: float, prefill_s: float, decode_s: float, slow: bool
) -> None:
    turn = span(start_s, start_s + prefill_s, start_s + prefill_s + decode_s)
    meter = average_meter(window_s=0.5, update_s=0.1, poll_s=0.1) if slow else counter_meter(poll_s=0.1)
    estimator = after_turns(meter, turn, until_s=50, window_s=0.5)
    windows = turn_of(estimator, turn)
    if isinstance(windows.prefill, Window) and isinstance(windows.decode, Window):
        parts = windows.prefill.gross.value + windows.decode.gross.value
        assert parts == pytest.approx(windows.turn.gross.value, rel=1e-9)
    session = estimator.strict(5 * S, 45 * S)
    assert isinstance(session, Window)
    pauses_j = session.gross.value - windows.turn.gross.value
    assert pauses_j == pytest.approx(4 * (40 - prefill_s - decode_s), rel=0.02)


METERS = [
    pytest.param(counter_meter(), 0.0, id="counter"),
    pytest.param(point_meter(update_s=0.05), 0.0, id="point"),
    pytest.param(average_meter(window_s=1.0, update_s=0.1), 1.0, id="one-second average"),
    pytest.param(average_meter(window_s=1.0, update_s=1.0, poll_s=0.5), 1.0, id="plug"),
]


@pytest.mark.parametrize(("meter", "window_s"), METERS)
def test_a_turn_is_measured_gross_and_net_by_every_kind_of_sensor(meter: Meter, window_s: float) -> None:
    turn = span(25.03, 26.03, 30.03)
    windows = turn_of(after_turns(meter, turn, window_s=window_s), turn).turn
    assert windows.method == ("extended" if window_s else "strict")
    assert windows.final
    assert windows.gross.value == pytest.approx(11 + 36, rel=0.02)
    assert windows.net is not None
    assert windows.net.value == pytest.approx(7 + 20, rel=0.04)
    assert abs(windows.gross.value - 47) <= 2 * windows.gross.u.combined
    assert windows.idle is not None
    assert windows.idle.value == pytest.approx(4, rel=0.01)


def test_per_token_figures_use_each_its_own_count() -> None:
    turn = span(25, 26, 30, evaluated=100, generated=50)
    energy = energy_of(after_turns(counter_meter(), turn), turn)
    assert energy.prefill_j_per_token is not None
    assert energy.decode_j_per_token is not None
    assert energy.j_per_token is not None
    assert energy.tokens_per_wh is not None
    assert energy.prefill_j_per_token.value == pytest.approx(11 / 100, rel=0.01)
    assert energy.decode_j_per_token.value == pytest.approx(36 / 49, rel=0.01)
    assert energy.j_per_token.value == pytest.approx(47 / 50, rel=0.01)
    assert energy.tokens_per_wh.value == pytest.approx(3600 * 50 / 47, rel=0.01)
    assert energy.tokens_per_wh.low < energy.tokens_per_wh.value < energy.tokens_per_wh.high
    assert energy.missing == {}
    assert cost(energy.gross_j, 0.36).value == pytest.approx(0.36 * 47 / 3.6e6, rel=0.01)
    assert msgspec.json.decode(msgspec.json.encode(energy), type=Energy) == energy


def test_phases_too_short_for_the_sensor_are_missing_with_the_reason() -> None:
    turn = span(25.03, 25.43, 31.03)
    plug = average_meter(window_s=1.0, update_s=1.0, poll_s=0.5)
    energy = energy_of(after_turns(plug, turn, window_s=1.0), turn)
    assert energy.prefill_j_per_token is None
    assert "shorter than" in energy.missing["prefill_j_per_token"].reason
    assert energy.decode_j_per_token is not None


def test_without_a_quiet_span_there_is_gross_but_no_net() -> None:
    turn = span(3, 4, 8)
    estimator = after_turns(counter_meter(), turn, until_s=9)
    energy = energy_of(estimator, turn)
    assert energy.net_j is None
    assert energy.idle_w is None
    assert "no idle baseline" in energy.missing["net_j"].reason
    feed(estimator.curve, [(9 + i * 0.05, 4 * (9 + i * 0.05) + 27) for i in range(1, 400)])
    assert energy_of(estimator, turn).net_j is not None


@pytest.mark.parametrize(("meter", "window_s"), METERS)
def test_the_hint_says_an_idle_time_that_is_long_enough(meter: Meter, window_s: float) -> None:
    turn = span(3, 4, 18)
    hint = energy_of(after_turns(meter, turn, until_s=19, window_s=window_s), turn).missing["net_j"].hint
    idle_s = int(hint.rpartition(" ")[2])
    turn = span(idle_s, idle_s + 1, idle_s + 15)
    energy = energy_of(after_turns(meter, turn, until_s=idle_s + 16, window_s=window_s), turn)
    assert energy.net_j is not None, energy.missing


def test_the_idle_power_is_interpolated_between_the_baselines_around_and_their_drift_is_counted() -> None:
    turn = span(30, 31, 35)
    estimator = ChannelEstimator(point_meter(update_s=0.05))
    estimator.idle_from(0)
    estimator.busy_from(turn.submitted_us)
    estimator.idle_from(turn.last_us)
    feed(estimator.curve, polled(65, 0.05, lambda t: 4.0 if t < 30 else 9.0 if t < 35 else 5.0))
    windows = turn_of(estimator, turn).turn
    assert windows.idle is not None
    assert windows.idle.value == pytest.approx(4.5, abs=0.05)
    assert windows.idle.u.baseline == pytest.approx(1 / 12**0.5, rel=0.02)


def test_a_slope_after_the_load_is_left_out_of_the_baseline() -> None:
    estimator = ChannelEstimator(point_meter(update_s=0.05))
    estimator.idle_from(0)
    feed(estimator.curve, polled(50, 0.05, lambda t: 4.0 + max(0.0, 2 - t / 4)))
    baseline = estimator.baseline.latest()
    assert baseline is not None
    assert baseline.power_w == pytest.approx(4.0, abs=0.03)
    assert baseline.start_us > 5 * S


def test_a_baseline_of_long_ago_is_flagged_as_stale() -> None:
    estimator = ChannelEstimator(counter_meter(poll_s=1.0))
    estimator.idle_from(0)
    estimator.busy_from(30 * S)
    feed(estimator.curve, polled(900, 1.0, lambda t: 4 * t))
    turn = span(800, 850, 890)
    assert "stale-baseline" in energy_of(estimator, turn).flags


def test_a_sensor_lost_in_the_middle_gives_no_figure_but_the_energy_so_far() -> None:
    turn = span(25, 26, 40)
    estimator = after_turns(point_meter(update_s=0.05), turn, until_s=30)
    feed(estimator.curve, [(30 + i * 0.05, None) for i in range(1, 300)])
    missing = turn_energy(estimator.turn(turn), turn, BASIS)
    assert isinstance(missing, Unavailable)
    assert "lost after 5.0 s and 46.9 J" in missing.reason


def test_a_frozen_counter_gives_no_figure() -> None:
    turn = span(25, 26, 40)
    estimator = after_turns(counter_meter(), turn, until_s=30)
    frozen_j = 4 * 30 + 7 + 5 * 4
    feed(estimator.curve, [(30 + i * 0.05, frozen_j) for i in range(1, 300)])
    missing = estimator.turn(turn)
    assert isinstance(missing, Unavailable)
    assert "stands still" in missing.reason


def test_a_suspend_in_the_turn_gives_no_figure() -> None:
    turn = span(25, 26, 30)
    estimator = after_turns(counter_meter(), turn, until_s=28)
    estimator.suspended()
    feed(estimator.curve, [(28 + i * 0.05, 100_000 + 9 * i * 0.05) for i in range(1, 400)])
    missing = estimator.turn(turn)
    assert isinstance(missing, Unavailable)
    assert "slept" in missing.reason


def test_a_disagreement_with_another_meter_widens_the_interval_and_limits_the_grade() -> None:

    turn = span(25, 26, 30)
    estimator = after_turns(counter_meter(), turn)
    alone = energy_of(estimator, turn)
    checked = energy_of(estimator, turn, msgspec.structs.replace(BASIS, other_j=47.5))
    doubted = energy_of(estimator, turn, msgspec.structs.replace(BASIS, other_j=47 * 1.3))
    assert checked == alone
    assert doubted.gross_j.high >= 47 * 1.3, "the truth may be the other one's"
    assert "disagreement" in doubted.flags
    assert doubted.grade >= "C"
    assert doubted.gross_j.high - doubted.gross_j.low > 2 * (alone.gross_j.high - alone.gross_j.low)


def test_where_two_meters_differ_by_half_there_is_no_figure() -> None:
    """An NVML counter was seen to say 187 J where its power readings made 327 J."""
    turn = span(25, 26, 30)
    windows = after_turns(counter_meter(), turn).turn(turn)
    energy = turn_energy(windows, turn, msgspec.structs.replace(BASIS, other_j=47 * 327 / 187))
    assert isinstance(energy, Unavailable)
    assert "two meters of the same thing disagree" in energy.reason


def test_a_session_adds_shared_errors_linearly_and_others_in_quadrature() -> None:
    turns = [span(25, 26, 30), span(50, 51, 55)]
    estimator = after_turns(counter_meter(gain=0.03), *turns, until_s=80)
    single = energy_of(estimator, turns[0])
    first, second = (estimator.turn(turn) for turn in turns)
    assert isinstance(first, TurnWindows)
    assert isinstance(second, TurnWindows)
    total = session_energy(sum_of(first, turns[0]).plus(second, turns[1]), BASIS)
    assert isinstance(total, Energy)
    assert total.gross_j.value == pytest.approx(94, rel=0.01)
    assert total.gross_j.u_systematic == pytest.approx(2 * single.gross_j.u_systematic, rel=0.01)
    assert total.gross_j.u_random == pytest.approx(2**0.5 * single.gross_j.u_random, rel=0.05)
    assert total.mean_w.value == pytest.approx(single.mean_w.value, rel=0.01)
    assert total.j_per_token is not None
    assert total.j_per_token.value == pytest.approx(94 / 100, rel=0.01)


def test_meters_of_different_things_add_up_and_one_that_misses_spoils_the_sum() -> None:
    turn = span(25, 26, 30)
    first = after_turns(counter_meter(), turn).turn(turn)
    both = turn_over_meters([first, first])
    assert isinstance(both, TurnWindows)
    assert figure(both.turn.gross).value == pytest.approx(94, rel=0.01)
    assert both.turn.length_s == pytest.approx(5)
    assert turn_over_meters([first, Unavailable("lost")]) == Unavailable("lost")


def test_polls_that_a_busy_machine_delays_widen_the_interval_of_a_point_sensor() -> None:
    def sampling(every: int) -> float:
        estimator = ChannelEstimator(point_meter(poll_s=0.05, update_s=0.01))
        for i in range(0, 400, every):
            estimator.read(round(i * 0.05 * S), 5.0 + 2.0 * (i // every % 2))
        window = estimator.window(5 * S, 15 * S)
        assert isinstance(window, Window)
        return 2 * window.gross.u.sampling / window.gross.value

    assert sampling(1) < 0.05
    assert sampling(2) > 0.25
