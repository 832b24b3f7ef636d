"""The moments of a session are the same however it has grown; each turn is measured by the widest source that read."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.energy.scopes import CHOOSE, Headline
from edgetop.core.records import DeviceInfo, Event, Record, Sampled, SourceAdded, TurnFinished, TurnStarted
from edgetop.core.sources import CPU_QUOTA, Channel, SourceInfo, Unavailable
from edgetop.live.live_session import Recorder
from edgetop.session.energy import Checkpoints, PowerNow, SessionEnergy, by_host, energy_of
from edgetop.session.limits import limit_between
from edgetop.session.meters import ActivityLog, choices_of, headline_of, meters_of, runs_on
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from edgetop.session.summary import turn_result
from tests.support.recorded_sessions import LOADED, START_US, STARTED, S, fold, turn

EVENTS = ("suspended", "engine_died", "model_loading", "throttled")
_steps = st.lists(
    st.tuples(st.sampled_from(("turn", "end", "load", *EVENTS)), st.integers(-2, 3), st.booleans()), max_size=30
)


def records_of(steps: list[tuple[str, int, bool]]) -> list[tuple[Record, bool]]:
    """Records whose stamps mostly grow, and of each whether the moments are looked at after it."""
    t_us, turns = START_US, 0
    found: list[tuple[Record, bool]] = []
    for what, dt_us, looked in steps:
        t_us += dt_us
        record: Record
        match what:
            case "turn":
                turns += 1
                record = TurnStarted(turn=turns, t_us=t_us, prompt="Say.")
            case "end":
                if not turns:
                    continue
                record = TurnFinished(
                    turn=turns, t_us=t_us, stop_reason="max_tokens", prompt_tokens=1, cached_tokens=0,
                    generated_tokens=1, context_used=2,
                )  # fmt: skip
            case "load":
                record = msgspec.structs.replace(LOADED, t_us=t_us)
            case _:
                record = Event(t_us=t_us, kind=what, text="")
        found.append((record, looked))
    return found


@given(_steps)
def test_moments_that_are_kept_up_are_those_of_the_whole(steps: list[tuple[str, int, bool]]) -> None:
    session = Session()
    session.apply(STARTED)
    kept_up = ActivityLog(session)
    for record, looked in records_of(steps):
        session.apply(record)
        if looked:
            assert kept_up.all() == ActivityLog(session).all()
    assert kept_up.all() == ActivityLog(session).all()


@given(_steps)
def test_the_list_is_another_one_where_one_that_was_told_has_changed(steps: list[tuple[str, int, bool]]) -> None:
    session = Session()
    session.apply(STARTED)
    moments = ActivityLog(session)
    before = moments.all()
    told = list(before)
    for record, _ in records_of(steps):
        session.apply(record)
        now = moments.all()
        if now is before:
            assert now[: len(told)] == told
        before, told = now, list(now)


BATTERY = SourceInfo(
    name="power.battery",
    driver="power_supply",
    kind="power",
    period_s=0.5,
    channels=(Channel(name="power.battery", unit="W", digits=3, scope="battery"),),
    properties={"total": True, "gain": 0.07, "window_s": 0.5, "update_s": 0.5},
)
PACKAGE = SourceInfo(
    name="power.rapl",
    driver="powercap",
    kind="energy",
    period_s=0.05,
    channels=(Channel(name="energy.package-0", unit="J", digits=6, scope="cpu_package"),),
    properties={"total": True, "gain": 0.05, "update_s": 0.001, "adds_up_as": "cpu"},
)


def on_battery(discharging: Callable[[float], bool], *turns_at_s: int) -> Session:
    """12 W from the battery while it discharges, 6 W of the package, and turns of 5 s."""
    records: list[tuple[int, Record]] = []
    end_us = (turns_at_s[-1] + 12) * S
    for t_us in range(0, end_us, 500_000):
        given = discharging(t_us / S)
        reasons = () if given else ("on the charger",)
        values = (12.0 + 0.1 * (t_us // 500_000 % 3) if given else None,)
        records.append((t_us, Sampled(source=BATTERY.name, t_us=START_US + t_us, values=values, reasons=reasons)))
    records += [
        (t_us, Sampled(source=PACKAGE.name, t_us=START_US + t_us, values=(6.0 * t_us / S,)))
        for t_us in range(0, end_us, 50_000)
    ]
    for number, at_s in enumerate(turns_at_s, 1):
        for record in turn(number, at_us=at_s * S, gaps_us=(100_000,) * 50):
            stamp = record.t_us if isinstance(record.t_us, int) else record.t_us[0]  # type: ignore[union-attr]
            records.append((stamp - START_US, record))
    records.sort(key=lambda each: each[0])
    return fold([STARTED, SourceAdded(source=BATTERY), SourceAdded(source=PACKAGE), LOADED, *(r for _, r in records)])


def scope_of(session: Session, number: int) -> str:
    figures = turn_result(session, number - 1, session.end_us).figures
    return figures.energy_missing if figures.energy is None else figures.energy.scope


def test_on_its_charger_a_laptop_is_measured_by_the_package() -> None:
    session = on_battery(lambda _s: False, 3)
    assert scope_of(session, 1) == "cpu_package"
    power = energy_of(session, session.end_us).power_at(session.end_us)
    assert isinstance(power, PowerNow)
    assert (power.scope, round(power.power_w)) == ("cpu_package", 6)
    assert isinstance(headline := headline_of(session, meters_of(session)), Headline)
    assert headline.scope == "cpu_package"


def test_each_turn_is_measured_by_the_widest_source_that_covered_it_and_the_session_by_one() -> None:
    session = on_battery(lambda t_s: t_s < 20 or t_s > 46, 3, 17, 30, 50)
    assert [scope_of(session, number) for number in (1, 2, 3, 4)] == [
        "battery", "cpu_package", "cpu_package", "battery"
    ]  # fmt: skip
    total = snapshot(session, session.end_us).summary.energy
    assert total is not None
    assert total.scope == "cpu_package"
    assert total.mean_w.value == pytest.approx(6.0, rel=0.02)


def test_the_counter_of_a_card_is_checked_against_its_power_beside_a_package_too() -> None:
    card, power = (
        SourceInfo(
            name=f"{kind}.gpu.0",
            driver="nvml",
            kind="energy" if unit == "J" else "power",
            period_s=0.05,
            channels=(Channel(name=f"{kind}.gpu.0", unit=unit, digits=3, scope="gpu_board"),),
            properties={"total": True, "gain": 0.07, "device": "gpu.0", **adds_up},
        )
        for kind, unit, adds_up in (("energy", "J", {"adds_up_as": "gpu"}), ("power", "W", {}))
    )
    session = on_battery(lambda _s: False, 3)
    records: list[Record] = [SourceAdded(source=card), SourceAdded(source=power)]
    for t_us in range(0, session.end_us, 50_000):
        records.append(Sampled(source=card.name, t_us=START_US + t_us, values=(37.5 * t_us / S,)))
        records.append(Sampled(source=power.name, t_us=START_US + t_us, values=(47.4 + 0.1 * (t_us // 50_000 % 3),)))
    for record in records:
        session.apply(record)
    energy = turn_result(session, 0, session.end_us).figures.energy
    assert energy is not None
    assert energy.mean_w.value == pytest.approx(43.5, rel=0.02)
    assert {"partial", "disagreement"} <= set(energy.flags)
    assert energy.grade >= "C"


def test_a_short_gap_is_bridged_by_the_widest_source() -> None:
    assert scope_of(on_battery(lambda t_s: not 4 < t_s < 5, 3), 1) == "battery"


def test_figures_are_the_same_from_marks_and_from_a_file() -> None:
    session = on_battery(lambda t_s: t_s < 20 or t_s > 46, 3, 17, 30, 50)
    checkpoints = Checkpoints(session)
    while checkpoints.extend():
        pass
    for t_us in range(0, session.end_us, 7 * S):
        fresh = SessionEnergy(session)
        assert fresh.advance(t_us)
        count = (session.turn_at(t_us) or 0) + 1 if session.turn_at(t_us) is not None else 0
        assert checkpoints.at(t_us).turns_together(count) == fresh.turns_together(count)


def test_a_card_without_work_may_read_the_same_all_the_time() -> None:
    card = SourceInfo(
        name="power.amdgpu",
        driver="hwmon amdgpu",
        kind="power",
        period_s=0.05,
        channels=(Channel(name="power.amdgpu", unit="W", digits=3, scope="gpu_board"),),
        properties={"total": True, "gain": 0.1, "adds_up_as": "gpu", "update_s": 0.05, "window_s": 0.05},
    )
    session = on_battery(lambda _s: False, 3)
    on_processor = replace(LOADED, engine=replace(LOADED.engine, devices=("CPU",)))
    session.loads[:] = [replace(on_processor, t_us=session.loads[0].t_us)]
    session.apply(SourceAdded(source=card))
    for t_us in range(0, session.end_us, 50_000):
        # It flickers until the model works, and not any more then.
        flicker = t_us // 50_000 % 3 / 10 if t_us < 3 * S else 0.0
        session.apply(Sampled(source=card.name, t_us=START_US + t_us, values=(60.0 + flicker,)))
    energy = turn_result(session, 0, session.end_us).figures.energy
    assert energy is not None
    assert energy.mean_w.value == pytest.approx(66.0, rel=0.02)
    assert "graphics" not in " ".join(energy.flags)


def test_what_the_model_runs_on_is_read_from_its_load() -> None:
    def loaded(layers: int | None, *devices: str, server: str = "") -> frozenset[str]:
        engine = replace(LOADED.engine, devices=devices, server=server)
        settings = replace(LOADED.settings, n_gpu_layers=layers)
        model = replace(LOADED.model, n_layer=24)
        return runs_on(fold([STARTED, replace(LOADED, engine=engine, settings=settings, model=model)]))

    assert loaded(None, "CPU: N150") == {"cpu"}
    assert loaded(None, "CUDA0: RTX 4090", "CPU: Ryzen") == {"gpu"}
    assert loaded(12, "CUDA0: RTX 4090", "CPU: Ryzen") == {"cpu", "gpu"}
    assert loaded(0, "CUDA0: RTX 4090", "CPU: Ryzen") == {"cpu"}
    assert loaded(None, "Vulkan0: Radeon 780M", "CPU: Ryzen") == {"cpu"}
    assert loaded(None) == loaded(None, "CUDA0: RTX", server="http://pi:8080") == frozenset()


def test_a_quota_that_was_used_up_is_a_limit_of_its_own_and_more_threads_are_no_advice() -> None:
    cpu = SourceInfo(name="cpu", driver="procfs", period_s=1.0, channels=(Channel(name=CPU_QUOTA, unit="%", digits=1),))
    samples = [Sampled(source="cpu", t_us=START_US + t_s * S, values=(60.0,)) for t_s in range(1, 5)]
    limit = limit_between(fold([STARTED, SourceAdded(source=cpu), *samples]), 0, 5 * S)
    assert limit.name == "cpu-quota"
    assert "60 %" in limit.sentence
    assert "fewer threads" in limit.hint


def two_unknown() -> Session:
    """Two INA226 whose wiring only their builder knows."""
    records: list[Record] = [STARTED]
    for address in ("40", "41"):
        channel = Channel(name=f"power.ina226.{address}", unit="W", digits=3, scope="dc_in")
        info = SourceInfo(
            name=channel.name,
            driver="hwmon ina226",
            kind="power",
            period_s=0.5,
            channels=(channel,),
            properties={"total": True},
        )
        records.append(SourceAdded(source=info))
        records.append(Sampled(source=channel.name, t_us=START_US + S, values=(float(address) / 10,)))
    return fold(records)


def recorder_of(session: Session) -> Recorder:
    recorder = Recorder(device=DeviceInfo(hostname=""), store=None)
    recorder.session = session
    return recorder


def test_a_person_chooses_the_meter_while_the_session_runs() -> None:
    session = two_unknown()
    recorder = recorder_of(session)
    assert choices_of(session) == {"power.ina226.40": 4.0, "power.ina226.41": 4.1}
    account = SessionEnergy(session)
    assert isinstance(recorder.choose_power("power.ina226.42"), Unavailable)
    assert isinstance(account.headline, Unavailable)
    assert account.headline.hint.startswith(CHOOSE)
    found = recorder.choose_power("power.ina226.41")
    assert isinstance(found, Headline)
    assert not account.advance(session.end_us), "all turns are to be measured anew"
    chosen = SessionEnergy(session).headline
    assert isinstance(chosen, Headline)
    assert [meter.name for meter in chosen.meters] == ["power.ina226.41"]
    assert session.header is not None
    assert session.header.power == "power.ina226.41", "the session's file keeps it"
    assert isinstance(recorder.choose_power(None), Unavailable)
    assert session.header.power is None


def test_the_choice_of_a_meter_is_offered_also_where_another_one_lacks_permission() -> None:
    session = two_unknown()
    session.absent["power.rapl"] = Unavailable("energy_uj may not be read", "sudo chmod a+r energy_uj")
    shown = SessionEnergy(session).headline
    assert isinstance(shown, Unavailable)
    assert shown.hint.startswith(f"{CHOOSE}--power power.ina226.40")


def test_an_event_tells_that_another_source_measures_the_turn_that_begins() -> None:
    recorder = Recorder(device=DeviceInfo(hostname=""), store=None)
    begin_us = recorder.session.start_us

    def read(source: SourceInfo, at_s: float, value: float | None) -> None:
        recorder.record(Sampled(source=source.name, t_us=begin_us + round(at_s * S), values=(value,)))

    def begin_turn(number: int, at_s: int) -> None:
        for record in turn(number, at_us=0, gaps_us=(100_000,)):
            if isinstance(record, TurnStarted | TurnFinished):
                late_s = at_s + isinstance(record, TurnFinished)
                recorder.record(replace(record, t_us=begin_us + late_s * S))

    recorder.record(SourceAdded(source=BATTERY))
    recorder.record(SourceAdded(source=PACKAGE))
    for at_s in range(1, 10):
        read(PACKAGE, at_s, 6.0 * at_s)
        read(BATTERY, at_s + 0.1, 12.0 if at_s < 4 else None)
        if at_s in (3, 8, 9):
            begin_turn(at_s, at_s)
    changes = [event for event in recorder.session.events if event.kind == "power_source_changed"]
    assert [(event.text, event.data) for event in changes] == [
        ("Power comes from energy.package-0 instead of power.battery.", {"source": "energy.package-0"})
    ]


def test_of_several_sensors_the_one_that_was_lost_is_named() -> None:
    session = on_battery(lambda _s: True, 3)
    lost = by_host(
        [Unavailable("the sensor was lost", "see edgetop doctor"), Unavailable("the window is empty")],
        meters_of(session),
    )
    assert lost == Unavailable("power.battery: the sensor was lost", "see edgetop doctor")
