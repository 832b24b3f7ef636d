"""The account of energy: coverage over many seeds, the same figures however the records came, sensors that fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import msgspec
import pytest

from edgetop.core.energy.tokens import Energy
from edgetop.core.energy.windows import ChannelEstimator
from edgetop.core.quantity import Interval
from edgetop.core.records import (
    Event,
    Record,
    Sampled,
    SessionStarted,
    SourceAdded,
    SourceMissing,
    Tokens,
    TurnFinished,
)
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.session.energy import BEHIND_US, PowerNow
from edgetop.session.energy import energy_of as energy_account
from edgetop.session.file import to_file, to_session
from edgetop.session.file_io import decode_file, encode_file
from edgetop.session.meters import ActivityLog, Moment
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.session.summary import turn_result
from edgetop.tui.panes.column import PANES
from edgetop.tui.panes.pane import view_of
from tests.support.recorded_power import SENSORS, RecordedTurns, ended, record, stamp_of
from tests.support.recorded_sessions import LOADED, START_US, STARTED, S, event, fold, turn

SEEDS = 80
"""Of each kind of sensor: 400 runs in all."""


def at_end(session: Session) -> Snapshot:
    return snapshot(session, session.end_us)


def energy_of(session: Session, number: int = 1) -> Energy:
    figures = turn_result(session, number - 1, session.end_us).figures
    assert figures.energy is not None, figures.energy_missing
    return figures.energy


def holds(figure: Interval | None, truth: float) -> bool:
    return figure is not None and figure.low <= truth <= figure.high


def panes(session: Session, t_us: int) -> str:
    view = view_of(session, t_us, "ascii")
    panes = [PANES[title] for title in ("power", "energy")]
    lines = [line for pane in panes for line in (pane.headline(view), *pane.render(view, 60, 12))]
    return " ".join(" ".join("".join(span.text for span in line).split()) for line in lines)


@cache
def recorded(kind: str, seed: int = 1) -> RecordedTurns:
    """Three turns, the second one soon after the first."""
    return record(SENSORS[kind], seed, (4.0, 3.0, 5.0), pause_s=6.0)


@pytest.mark.parametrize("kind", SENSORS)
def test_the_intervals_hold_the_truth_in_95_of_100_runs(kind: str) -> None:
    held = {"gross": 0, "per token": 0, "decode": 0, "net": 0}
    for seed in range(SEEDS):
        run = record(SENSORS[kind], seed)
        truth = run.turns[0]
        energy = energy_of(fold(ended(run.records)))
        assert energy.final
        held["gross"] += holds(energy.gross_j, truth.gross_j)
        held["per token"] += holds(energy.j_per_token, truth.gross_j / len(truth.stamps_us))
        held["net"] += holds(energy.net_j, truth.net_j)
        held["decode"] += holds(energy.decode_j_per_token, truth.decode_j / (len(truth.stamps_us) - 1))
    assert all(count >= 0.95 * SEEDS for count in held.values()), held


@pytest.mark.parametrize("kind", SENSORS)
def test_no_energy_is_final_before_the_account_has_come_to_the_end_of_the_turn(kind: str) -> None:
    """The account runs behind: of a turn that is over it may have seen the greater part only."""
    session = fold(ended(recorded(kind).records))
    last = turn_result(session, 0, session.end_us).figures.energy
    assert last is not None
    finished = session.turns[0].finished
    assert finished is not None
    for late_us in range(0, 12 * S, S // 50):
        energy = turn_result(session, 0, finished.t_us + late_us).figures.energy
        assert energy is None or not energy.final or energy.gross_j.value == pytest.approx(last.gross_j.value, rel=1e-3)


@pytest.mark.parametrize("kind", SENSORS)
def test_a_session_read_back_has_the_figures_that_the_live_one_had_at_every_moment(kind: str) -> None:
    """Records come late and in portions while the session grows; a snapshot is taken once a second meanwhile."""
    chance = random.Random(7)  # noqa: S311 - the same every time
    live = Session()
    seen: list[tuple[int, object]] = []
    for now_us, portion in portions(ended(recorded(kind).records), chance):
        for each in portion:
            live.apply(each)
        seen.append((now_us, energy_at(live, now_us)))
    read = to_session(decode_file(b"".join(encode_file(to_file(live)))))
    assert at_end(read) == at_end(live)
    assert at_end(fold(ended(recorded(kind).records))) == at_end(live)
    for now_us, before in chance.sample(seen, 25):
        assert energy_at(read, now_us) == before
        assert energy_at(live, now_us) == before
    assert at_end(read) == at_end(live)


def energy_at(session: Session, t_us: int) -> object:
    now = snapshot(session, t_us)
    figures = None if now.turn is None else now.turn.figures
    history = energy_account(session, t_us).power_history(20, S)
    told = None if figures is None else (figures.energy, figures.energy_missing)
    return now.power, told, now.summary.energy, now.summary.energy_missing, history


def portions(records: Sequence[Record], chance: random.Random) -> Iterable[tuple[int, list[Record]]]:
    """What arrived in each second: a reading when it was taken, tokens up to a quarter of a second after."""
    late_us = [0 if not isinstance(each, Tokens | TurnFinished) else 250_000 for each in records]
    arrivals = [stamp_of(each) - START_US + late for each, late in zip(records, late_us, strict=True)]
    order = sorted(range(len(records)), key=lambda index: (arrivals[index], index))
    now_us, waiting = 0, [records[index] for index in order]
    at = [arrivals[index] for index in order]
    while waiting:
        now_us += round(chance.uniform(0.2, 1.5) * S)
        count = next((place for place, arrival in enumerate(at) if arrival > now_us), len(at))
        yield now_us, waiting[:count]
        waiting, at = waiting[count:], at[count:]


def test_a_turn_that_runs_knows_nothing_of_what_comes() -> None:
    run = recorded("fast point")
    whole = fold(ended(run.records))
    t_us = run.turns[0].submitted_us + 2 * S
    known = fold([each for each in run.records if stamp_of(each) - START_US <= t_us])
    assert energy_at(whole, t_us) == energy_at(known, t_us)
    power = snapshot(whole, t_us).power
    assert isinstance(power, PowerNow)
    assert power.age_us >= BEHIND_US


def test_the_sum_of_many_turns_is_the_same_whenever_it_was_begun() -> None:
    run = record(SENSORS["counter"], 3, (1.5,) * 12, pause_s=0.3)
    live, whole = Session(), fold(ended(run.records))
    for index, each in enumerate(ended(run.records)):
        live.apply(each)
        if index % 40 == 0:
            snapshot(live, live.end_us)
    summary = at_end(live).summary.energy
    assert summary is not None
    assert summary == at_end(whole).summary.energy
    assert summary.gross_j.value == pytest.approx(sum(energy_of(whole, n).gross_j.value for n in range(1, 13)))
    assert holds(summary.gross_j, sum(truth.gross_j for truth in run.turns))


def test_without_quiet_before_a_turn_there_is_no_net_and_a_reason() -> None:
    sensor = replace(SENSORS["counter"], quiet_s=3.0)
    energy = energy_of(fold(ended(record(sensor, 1, (4.0,), pause_s=1.0).records)))
    assert energy.net_j is None
    assert energy.idle_w is None
    assert "no idle baseline" in energy.missing["net_j"].reason
    assert "leave the device idle for 1" in energy.missing["net_j"].hint


def test_quiet_after_the_turn_gives_the_net_of_the_turn_before() -> None:
    sensor = replace(SENSORS["counter"], quiet_s=0.0)
    run = record(sensor, 1, (4.0,), pause_s=14.0)
    energy = energy_of(fold(ended(run.records)))
    assert holds(energy.net_j, run.turns[0].net_j)


def test_a_turn_begins_and_ends_the_quiet_and_a_dead_engine_leaves_none() -> None:
    died = [
        LOADED,
        *turn(1, at_us=2 * S, gaps_us=(S,)),
        *turn(2, at_us=5 * S, finished=False),
        event("engine_died", 8 * S),
        msgspec.structs.replace(
            turn_end(2, 8 * S + 5),
            stop_reason="engine_died",
        ),
    ]
    moments = ActivityLog(fold([STARTED, *died])).all()
    end_us = fold([STARTED, *died]).turns[0].last_us
    assert moments == [
        Moment(500_000, "idle"),
        Moment(2 * S, "busy"),
        Moment(end_us, "idle"),
        Moment(5 * S, "busy"),
    ]


def turn_end(number: int, at_us: int) -> TurnFinished:
    return TurnFinished(
        turn=number,
        t_us=START_US + at_us,
        stop_reason="max_tokens",
        prompt_tokens=60,
        cached_tokens=10,
        generated_tokens=5,
        context_used=65,
    )


def test_turns_that_follow_each_other_without_a_pause_are_not_quiet() -> None:
    first, second = turn(1, at_us=S), turn(2, at_us=10 * S)
    together = [
        *first[:-1],
        turn_end(1, 10 * S),
        *second,
    ]
    moments = ActivityLog(fold([STARTED, LOADED, *together])).all()
    assert [moment.what for moment in moments] == ["idle", "busy", "idle", "busy", "idle"]
    assert moments[2].t_us == moments[3].t_us == 10 * S


def test_a_machine_that_slept_in_a_turn_has_no_figure_for_it_alone() -> None:
    run = recorded("fast point")
    asleep_us = run.turns[1].submitted_us + S
    records = sorted([*run.records, Event(t_us=START_US + asleep_us, kind="suspended", text="")], key=stamp_of)
    session = fold(ended(records))
    figures = [turn_result(session, index, session.end_us).figures for index in range(len(session.turns))]
    assert [figure.energy is None for figure in figures] == [False, True, False]
    assert "slept" in figures[1].energy_missing
    assert holds(energy_of(session, 3).gross_j, run.turns[2].gross_j)


Change = Callable[[Sampled], Sampled]


def with_readings(run: RecordedTurns, change: Change) -> list[Record]:
    return ended([change(each) if isinstance(each, Sampled) else each for each in run.records])


def lost_between(begin_us: int, end_us: int) -> Change:
    def change(reading: Sampled) -> Sampled:
        if begin_us <= reading.t_us - START_US < end_us:
            return msgspec.structs.replace(reading, values=(None,), reasons=("no such device",))
        return reading

    return change


def test_a_sensor_lost_for_good_leaves_the_figure_absent_and_the_panes_say_so() -> None:
    run = recorded("fast point")
    begin_us = run.turns[1].submitted_us + S // 2
    session = fold(with_readings(run, lost_between(begin_us, 10**12)))
    assert holds(energy_of(session, 1).gross_j, run.turns[0].gross_j)
    figures = turn_result(session, 1, session.end_us).figures
    assert figures.energy is None
    assert figures.energy_missing.startswith("the sensor was lost after 0.5 s")
    power = snapshot(session, begin_us + 5 * S).power
    assert power == Unavailable("no such device", "see edgetop doctor for the sensor's state")
    assert "No such device" in panes(session, begin_us + 5 * S)
    total = at_end(session).summary.energy
    assert total is not None
    assert total.gross_j == energy_of(session, 1).gross_j


def test_a_sensor_that_was_away_for_a_while_leaves_a_figure_that_is_flagged() -> None:
    run = record(SENSORS["fast point"], 1, (14.0,))
    begin_us = run.turns[0].submitted_us + 5 * S
    session = fold(with_readings(run, lost_between(begin_us, begin_us + 5 * S // 2)))
    energy = energy_of(session)
    assert "bridged" in energy.flags
    assert energy.grade >= "C"
    assert holds(energy.gross_j, run.turns[0].gross_j)
    assert "readings were missing" in panes(session, session.end_us)


def test_a_figure_that_was_shown_while_the_sensor_was_away_is_mended_when_it_comes_back() -> None:
    # The pause is over before another baseline could make the account reckon the turn once more.
    run = record(SENSORS["fast point"], 1, (14.0,), pause_s=8.1)
    end_us = run.turns[0].stamps_us[-1]
    records = with_readings(run, lost_between(end_us - S, end_us + 8 * S))
    live = Session()
    for index, each in enumerate(records):
        live.apply(each)
        if index % 25 == 0:
            snapshot(live, live.end_us)
    assert at_end(live) == at_end(fold(records))


def test_a_counter_that_stands_still_in_a_turn_gives_no_figure() -> None:
    run = recorded("counter")
    begin_us = run.turns[1].submitted_us + S // 2
    frozen = [each for each in run.records if isinstance(each, Sampled) and each.t_us - START_US < begin_us][-1].values

    def change(reading: Sampled) -> Sampled:
        return reading if reading.t_us - START_US < begin_us else msgspec.structs.replace(reading, values=frozen)

    session = fold(with_readings(run, change))
    figures = turn_result(session, 1, session.end_us).figures
    assert figures.energy is None
    assert figures.energy_missing.startswith("the energy counter stands still")
    assert "The energy counter stands still" in panes(session, begin_us + 5 * S)


def test_a_session_that_was_cut_off_is_accounted_to_its_end() -> None:
    run = recorded("counter")
    cut_us = START_US + run.turns[2].stamps_us[-2]
    records = [each for each in run.records if stamp_of(each) <= cut_us]
    session = fold([*records, event("recovered", cut_us - START_US)])
    assert energy_of(session, 3).gross_j.value == pytest.approx(run.turns[2].gross_j, rel=0.1)


@pytest.mark.parametrize("chosen", ["power.board", "energy.board", "none", "power.other", None])
def test_the_headline_is_what_was_chosen_by_source_or_channel(chosen: str | None) -> None:
    run = recorded("counter")
    started = msgspec.structs.replace(STARTED, power=chosen)
    session = fold([started, *ended(run.records)[1:]])
    power = snapshot(session, 5 * S).power
    if chosen == "none":
        assert power == Unavailable("power was switched off with --power none")
        assert "--power none" in panes(session, 5 * S)
    elif chosen == "power.other":
        assert isinstance(power, Unavailable)
        assert power.hint == "choose one of: power.board"
    else:
        assert isinstance(power, PowerNow)
        assert power.channels == ("energy.board",)


def test_a_sensor_that_only_lacks_permission_is_the_reason_before_all_others() -> None:
    denied = Unavailable("energy_uj may not be read", "sudo chmod a+r energy_uj")
    session = fold([
        STARTED,
        SourceMissing(name="power.battery", missing=Unavailable("this machine has no battery")),
        SourceMissing(name="power.rapl", missing=denied),
        LOADED,
    ])  # fmt: skip
    assert snapshot(session, S).power == denied
    session.apply(SourceMissing(name="power.other", missing=Unavailable("gone")))
    assert snapshot(session, S).power == denied


def test_two_views_of_one_meter_that_disagree_flag_the_figure_of_their_turn() -> None:
    run = recorded("counter")
    info = SENSORS["counter"].source
    channels = (*info.channels, Channel(name="power.board", unit="W", digits=3, scope="board_input"))
    both = msgspec.structs.replace(
        info, channels=channels, properties={**info.properties, "window_s.power.board": 0.05}
    )

    def with_power(share: float) -> Session:
        before_j: float | None = None
        records: list[Record] = []
        for each in ended(run.records):
            if isinstance(each, SourceAdded):
                records.append(SourceAdded(source=both))
            elif isinstance(each, Sampled):
                (value,) = each.values
                assert value is not None
                power_w = 4.0 if before_j is None else (value - before_j) % 100.0 / 0.05 * share
                before_j = value
                records.append(msgspec.structs.replace(each, values=(value, power_w)))
            else:
                records.append(each)
        return fold(records)

    assert "disagreement" not in energy_of(with_power(1.0)).flags
    assert "disagreement" in energy_of(with_power(1.3)).flags


def test_a_source_that_was_found_again_with_other_properties_is_reckoned_anew() -> None:
    run = recorded("counter")
    info: SourceInfo = SENSORS["counter"].source
    better = msgspec.structs.replace(info, properties={**info.properties, "gain": 0.01})
    session = fold(ended(run.records))
    wide = energy_of(session).gross_j
    session.apply(SourceAdded(source=better))
    narrow = energy_of(session).gross_j
    assert narrow.value == wide.value
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_a_session_started_record_alone_has_a_reason_for_everything() -> None:
    session = fold([msgspec.structs.replace(STARTED, power=None)])
    assert isinstance(session.header, SessionStarted)
    now = snapshot(session, 0)
    assert isinstance(now.power, Unavailable)
    assert now.summary.energy is None


def paused_turn(*, is_read: bool) -> list[Record]:
    """12 s of quiet at 3 W, then a turn at 7 W that stands still from its 5th to its 25th second, at 3 W again."""
    source = SENSORS["gain and offset"].source
    begin_us, resumed_us, end_us = 12 * S, 37 * S, 45 * S
    stamps_us = [
        *range(begin_us + 400_000, 17 * S, S // 10),
        *range(resumed_us, end_us + 1, S // 10),
    ]
    paused = Event(t_us=START_US + resumed_us, kind="paused", text="", data={"paused_s": 20.0})
    chance = random.Random(7)  # noqa: S311
    records: list[tuple[int, Record]] = [(resumed_us, paused)]
    for t_us in range(0, 60 * S, S // 10):
        still = 17 * S <= t_us < resumed_us
        watts = 7.0 if begin_us <= t_us < end_us and not still else 3.0
        if is_read or not still:
            values = (watts + chance.gauss(0, 0.02),)
            records.append((t_us, Sampled(source=source.name, t_us=START_US + t_us, values=values)))
    gaps_us = [later - earlier for earlier, later in pairwise(stamps_us)]
    records += [(stamp_of(each) - START_US, each) for each in turn(gaps_us=gaps_us, at_us=begin_us)]
    head: list[Record] = [STARTED, SourceAdded(source=source), LOADED]
    return [*head, *(each for _t_us, each in sorted(records, key=lambda each: each[0]))]


@pytest.mark.parametrize("is_read", [True, False])
def test_what_a_model_that_stands_still_draws_is_not_its_turns(is_read: bool) -> None:
    session = fold(ended(paused_turn(is_read=is_read)))
    figures = turn_result(session, 0, session.end_us).figures
    energy = figures.energy
    assert energy is not None, figures.energy_missing
    turn_s = (session.turns[0].token_t_us[-1] - session.turns[0].started.t_us) / S - 20.0
    assert holds(energy.gross_j, 7.0 * turn_s)
    assert energy.gross_j.value == pytest.approx(7.0 * turn_s, rel=0.05)
    assert energy.net_j is not None
    assert energy.net_j.value == pytest.approx(4.0 * turn_s, rel=0.05)
    assert "paused" in energy.flags
    assert energy.grade != "A"
    again = fold([each for each in paused_turn(is_read=is_read) if not isinstance(each, Event)])
    told = turn_result(again, 0, again.end_us).figures.energy
    assert told is None or told.gross_j.value > 1.5 * energy.gross_j.value


WALL = SourceInfo(
    name="power.wall", driver="test", period_s=1.0,
    channels=(Channel(name="power.wall", unit="W", digits=3, scope="wall"),),
    properties={"total": True, "window_s": 1.0, "update_s": 1.0},
)  # fmt: skip
SERVER = SourceInfo(name="server.1", driver="test", period_s=1.0, channels=(Channel(name="server.1.tokens", unit="1"),))


@pytest.mark.parametrize("added", [(SERVER,), (WALL,), (SERVER, WALL)])
def test_a_new_source_does_not_let_all_readings_be_gone_through_again(
    added: Sequence[SourceInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = recorded("fast point").records
    session = fold(records[: len(records) // 2])
    before = energy_of(session)
    fed: list[str] = []
    read = ChannelEstimator.read

    def counted(estimator: ChannelEstimator, t_us: int, value: float | None) -> None:
        fed.append(estimator.meter.name)
        read(estimator, t_us, value)

    monkeypatch.setattr(ChannelEstimator, "read", counted)
    late = [SourceAdded(source=source) for source in added]
    for source in late:
        session.apply(source)
    assert energy_of(session) == before
    assert not fed
    rest: list[Record] = []
    for each in records[len(records) // 2 :]:
        rest.append(each)
        if WALL in added and isinstance(each, Sampled) and each.t_us % S < 20_000:
            rest.append(Sampled(source=WALL.name, t_us=each.t_us, values=(12.0,)))
    for each in ended(rest):
        session.apply(each)
        at_end(session)
    # The account is that far behind.
    behind = BEHIND_US * 50 // S
    assert len(fed) <= sum(isinstance(each, Sampled) for each in rest) + behind
    again = fold([*records[: len(records) // 2], *late, *ended(rest)])
    assert at_end(again).summary == at_end(session).summary
