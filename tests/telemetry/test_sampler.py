"""The sampler against sources that do everything that sensors do, without real time but where threads are meant."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetop.core.records import Event, Record, Sampled, SourceAdded, SourceMissing
from edgetop.core.sources import Unavailable, meter_of
from edgetop.telemetry.host import Host
from edgetop.telemetry.registry import Inventory, take_inventory
from edgetop.telemetry.sampler import RETRY_S, Sampler, ScheduledSource, boot_clock_us
from edgetop.telemetry.source import Probe, Source, SourceLost, UnavailableSource
from tests.support.eventually import eventually as eventually_true
from tests.support.fake_sources import FakeClock, FakeSource, power_source
from tests.support.recorded_sessions import STARTED, fold

S = 1_000_000
WAIT_S = 10.0
"""For threads, far beyond what they need."""


class Run:
    """A sampler whose waiting is the passing of time on a fake clock."""

    def __init__(self, *sources: FakeSource, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.cpu_us = 0
        self.sources = sources
        self.sampler = Sampler(
            Inventory(sources, ()), clock=self.clock, boot_clock=self.clock.boot, cpu_clock=lambda: self.cpu_us
        )
        self.sampler.drain()
        self.waits_s: list[float] = []

    def until(self, end_s: float, meanwhile: Callable[[], None] = lambda: None) -> list[Record]:
        """Sample until a moment; `meanwhile` happens in every wait."""

        def wait(seconds: float) -> bool:
            self.waits_s.append(seconds)
            due_us = self.clock.now_us + round(seconds * S)
            if due_us > end_s * S:
                return True
            self.clock.now_us = due_us
            meanwhile()
            return False

        for group in self.sampler.groups:
            self.sampler.sample(group, wait)
        return self.sampler.drain()


def events(records: Sequence[Record]) -> list[tuple[float, str]]:
    return [(record.t_us / S, record.kind) for record in records if isinstance(record, Event)]


def readings(records: Sequence[Record], source: str = "fake") -> list[Sampled]:
    return [record for record in records if isinstance(record, Sampled) and record.source == source]


def moments(records: Sequence[Record], source: str = "fake") -> list[float]:
    return [sampled.t_us / S for sampled in readings(records, source)]


def test_what_there_is_and_is_not_comes_first() -> None:
    source = FakeSource()
    absent = UnavailableSource(name="power", missing=Unavailable("no sensor", "buy one"))
    sampler = Sampler(Inventory((source,), (absent,)))
    expected = [SourceAdded(source=source.info), SourceMissing(name="power", missing=absent.missing)]
    assert sampler.drain() == expected
    assert sampler.drain() == []


def test_sources_are_read_at_multiples_of_their_periods_and_woken_for_together() -> None:
    run = Run(FakeSource("a", period_s=1.0), FakeSource("b", period_s=0.25), clock=FakeClock(100_300_000))
    records = run.until(102.1)
    assert moments(records, "a") == [100.3, 101.0, 102.0]
    assert moments(records, "b") == [100.3, 100.5, 100.75, 101.0, 101.25, 101.5, 101.75, 102.0]
    assert len(run.waits_s) == 8


def test_no_rate_is_reckoned_over_an_instant() -> None:
    run = Run(FakeSource(period_s=1.0), clock=FakeClock(999_999))
    assert moments(run.until(3.1)) == [0.999999, 2.0, 3.0]


def test_values_are_rounded_to_the_digits_of_their_channels() -> None:
    run = Run(FakeSource(read=lambda: (1.26, 99.0), channels=["x", "y"], digits=1))
    assert readings(run.until(0.1)) == [Sampled(source="fake", t_us=0, values=(1.3, 99.0))]


def test_a_missing_value_has_its_reason_and_the_others_have_none() -> None:
    run = Run(FakeSource(read=lambda: (1.0, Unavailable("asleep"), float("nan")), channels=["x", "y", "z"]))
    only = readings(run.until(0.1))[0]
    assert only.values == (1.0, None, None)
    assert only.reasons == ("", "asleep", "the sensor gave no number")


@pytest.mark.parametrize("takes_us", [47_200, 300_000, 1_900_000])
def test_no_value_is_dropped_for_being_slow_and_the_length_of_the_call_is_stated(takes_us: int) -> None:
    clock = FakeClock()

    def read() -> tuple[float]:
        clock.now_us += takes_us
        return (7.0,)

    source = power_source("power.slow", (7.0,), period_s=0.1)
    source.read = read  # type: ignore[method-assign]
    records = Run(source, clock=clock).until(90.0)
    slow = readings(records, "power.slow")
    assert len(slow) > 20
    assert all(sampled.values == (7.0,) for sampled in slow)
    assert slow[0].t_us == takes_us // 2
    (stated,) = [record.source for record in records if isinstance(record, SourceAdded)]
    meter = meter_of(stated, stated.channels[0])
    assert meter is not None
    assert meter.stamp_s == pytest.approx(takes_us / 2 / S)


def test_a_costly_source_is_read_so_seldom_that_it_takes_one_per_cent_of_a_core() -> None:
    source = FakeSource(period_s=0.1)
    run = Run(source)

    def read() -> tuple[float]:
        run.cpu_us += 5_000
        return (1.0,)

    source.read = read  # type: ignore[method-assign]
    records = run.until(60.0)
    gaps = [later - earlier for earlier, later in pairwise(moments(records))]
    assert all(gap == pytest.approx(0.5) for gap in gaps[3:])
    assert [record.source.period_s for record in records if isinstance(record, SourceAdded)] == [0.5]


def test_a_source_that_turns_out_slow_leaves_the_thread_that_it_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, takes_us = FakeClock(), [5_000, 1_200_000]

    def read() -> tuple[float]:
        clock.now_us += takes_us.pop(0)
        return (1.0,)

    run = Run(FakeSource("zone", read=read), FakeSource("quick"), clock=clock)
    moved: list[list[ScheduledSource]] = []
    monkeypatch.setattr(run.sampler, "_read_in_thread", moved.append)
    records = run.until(5.5)
    assert [scheduled.source.info.name for group in moved for scheduled in group] == ["zone"]
    assert len(moments(records, "zone")) == 2
    assert moments(records, "quick")[-3:] == [3.0, 4.0, 5.0]


def probe_that(*results: list[Source | UnavailableSource]) -> tuple[Probe, list[int]]:
    """A probe that finds something else each time, the last one from then on."""
    runs: list[int] = []

    def probe(_host: Host) -> Iterator[Source | UnavailableSource]:
        runs.append(len(runs))
        yield from results[min(len(runs), len(results)) - 1]

    return probe, runs


def drained(sampler: Sampler, source: str) -> list[Record]:
    """The records until one of a source is among them."""
    records: list[Record] = []

    def has_come() -> bool:
        records.extend(sampler.drain())
        return any(isinstance(record, Sampled) and record.source == source for record in records)

    eventually_true(has_come, f"a reading of {source}")
    return records


def test_a_sensor_that_cannot_be_read_at_first_is_probed_again_and_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.telemetry.sampler.PROBE_AGAIN_S", (0.01,))
    asleep = UnavailableSource(name="power.amdgpu", missing=Unavailable("asleep"), retry=True)
    card = power_source("power.amdgpu", (60.0,))
    probe, runs = probe_that([asleep], [asleep], [card])
    inventory = take_inventory(Host(), [("hwmon", probe)])
    assert [absent.name for absent in inventory.absent] == ["power.amdgpu"]
    sampler = Sampler(inventory)
    sampler.start()
    records = drained(sampler, "power.amdgpu")
    sampler.stop()
    assert SourceAdded(source=card.info) in records
    assert len(runs) == 3
    assert fold([STARTED, *records]).absent == {}


def test_a_probe_that_hangs_holds_up_nothing_and_joins_when_it_answers() -> None:
    answer = threading.Event()
    late = power_source("power.late", (5.0,))

    def hang(_host: Host) -> Iterator[Source | UnavailableSource]:
        eventually(answer)
        yield late

    prompt, _ = probe_that([FakeSource("prompt")])
    inventory = take_inventory(Host(), [("cpu", prompt), ("jetson_stats", hang)], wait_s=1.0)
    assert [source.info.name for source in inventory.sources] == ["prompt"]
    assert [(absent.name, absent.missing.reason[:16]) for absent in inventory.absent] == [
        ("jetson_stats", "no answer within")
    ]
    sampler = Sampler(inventory)
    sampler.start()
    answer.set()
    records = drained(sampler, "power.late")
    sampler.stop()
    assert SourceAdded(source=late.info) in records


def test_a_lost_source_is_told_once_and_tried_ever_more_seldom() -> None:
    run = Run(FakeSource(read=lambda: SourceLost("unplugged", "plug it in")))
    records = run.until(120.0)
    assert events(records) == [(0.0, "sensor_lost")]
    assert isinstance(records[0], Event)
    assert records[0].text == "fake does not answer: unplugged."
    assert records[0].data == {"source": "fake"}
    tried = moments(records)
    assert [later - earlier for earlier, later in pairwise(tried)] == [*RETRY_S, 30.0, 30.0]
    assert all(sampled.values == (None,) and sampled.reasons == ("unplugged",) for sampled in readings(records))


def test_a_slow_source_is_not_tried_more_often_than_it_is_read() -> None:
    run = Run(FakeSource(read=lambda: SourceLost("gone"), period_s=7.0))
    assert moments(run.until(25.0)) == [0.0, 7.0, 14.0, 21.0]


def test_a_source_that_comes_back_is_told_and_its_patience_is_new() -> None:
    answers: list[object] = [SourceLost("a"), SourceLost("a"), (5.0,), (6.0,), SourceLost("b"), (7.0,)]
    run = Run(FakeSource(read=lambda: answers.pop(0)))
    records = run.until(6.5)
    assert events(records) == [(0.0, "sensor_lost"), (3.0, "sensor_back"), (5.0, "sensor_lost"), (6.0, "sensor_back")]
    assert [(sampled.t_us / S, sampled.values[0]) for sampled in readings(records)] == [
        (0.0, None), (1.0, None), (3.0, 5.0), (4.0, 6.0), (5.0, None), (6.0, 7.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (OSError(5, "Input/output\nerror"), "OSError: [Errno 5] Input/output error"),
        (RecursionError("deep"), "RecursionError: deep"),
        (AssertionError(), "AssertionError:"),
        ((1.0, 2.0), "ValueError"),
        ((), "ValueError"),
        (None, "TypeError"),
        (("text",), "TypeError"),
    ],
)
def test_whatever_a_source_does_the_others_are_read_on(answer: object, says: str) -> None:
    run = Run(FakeSource("bad", read=lambda: answer), FakeSource("good"))
    records = run.until(2.5)
    assert moments(records, "good") == [0.0, 1.0, 2.0]
    assert events(records) == [(0.0, "sensor_lost")]
    assert all(sampled.reasons[0].startswith(f"reading failed: {says}") for sampled in readings(records, "bad"))


def test_a_suspend_is_told_once_before_the_readings_after_it() -> None:
    clock = FakeClock()
    run = Run(FakeSource("a"), FakeSource("b", blocking=True), clock=clock)

    def sleep_once() -> None:
        if clock.now_us == 2 * S and not clock.slept_us:
            clock.slept_us = 3600 * S

    records = run.until(4.5, sleep_once)
    assert events(records) == [(2.0, "suspended")]
    at = next(index for index, record in enumerate(records) if isinstance(record, Event))
    assert isinstance(records[at], Event)
    assert records[at].data == {"slept_s": 3600.0}  # type: ignore[union-attr]
    assert "3600 s" in records[at].text  # type: ignore[union-attr]
    before, after = records[at - 1], records[at + 1]
    assert isinstance(before, Sampled)
    assert isinstance(after, Sampled)
    assert before.t_us < 2 * S <= after.t_us


def test_clocks_that_drift_by_less_than_a_second_are_no_suspend_and_a_second_sleep_is_another() -> None:
    clock = FakeClock()
    sleeps_us = [900_000, 0, 5 * S, 0, 4 * S]

    def doze() -> None:
        clock.slept_us += sleeps_us.pop(0) if sleeps_us else 0

    assert events(Run(FakeSource(), clock=clock).until(8.0, doze)) == [(3.0, "suspended"), (5.0, "suspended")]


def test_at_the_end_what_was_not_read_lately_is_read_once_more() -> None:
    clock = FakeClock()

    def take_long() -> object:
        clock.now_us += 600_000
        return (1.0,)

    quick, lost = FakeSource("quick"), FakeSource("lost", read=lambda: SourceLost("gone"))
    slow, late = FakeSource("slow", read=take_long, period_s=2.0), FakeSource("late", period_s=0.1)
    run = Run(quick, lost, slow, late, clock=clock)
    run.sampler._stop.set()
    run.sampler._run(run.sampler.groups[0])
    records = run.sampler.drain()
    assert moments(records, "quick") == [0.0, 0.6]
    assert moments(records, "lost") == [0.0]
    assert moments(records, "slow") == [0.3]
    assert moments(records, "late") == [0.6]
    assert [source.closed for source in run.sources] == [1, 1, 1, 1]


def test_the_engines_memory_is_read_at_the_end_of_a_session_of_half_a_second() -> None:
    clock = FakeClock()
    engine, other = FakeSource("engine"), FakeSource("other")
    engine.reads_at_end = True  # type: ignore[attr-defined]
    run = Run(engine, other, clock=clock)
    run.until(0.1)
    clock.now_us = 400_000
    run.sampler._read_last(run.sampler.groups[0])
    records = run.sampler.drain()
    assert moments(records, "engine") == [0.4]
    assert moments(records, "other") == []


def test_the_boot_clock_is_not_behind_the_monotonic_one() -> None:
    assert boot_clock_us() <= boot_clock_us()


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3 * S), min_size=1, max_size=30),
    st.sampled_from([0.02, 0.5, 1.0, 2.0]),
    st.integers(0, 10 * S),
)
def test_however_long_readings_take_they_ascend_and_are_spaced(
    takes_us: list[int], period_s: float, now_us: int
) -> None:
    clock = FakeClock(now_us)
    left = list(takes_us)
    begun: list[int] = []

    def read() -> object:
        begun.append(clock.now_us)
        clock.now_us += left.pop() if left else 0
        return (1.0,)

    records = Run(FakeSource(read=read, period_s=period_s), clock=clock).until((now_us + sum(takes_us)) / S + 10)
    stamps = [sampled.t_us for sampled in readings(records)]
    assert stamps == sorted(set(stamps))
    for earlier, later, took in zip(begun, begun[1:], [*reversed(takes_us), *[0] * len(begun)], strict=False):
        assert later - (earlier + took) >= period_s * S / 2
        assert later % round(period_s * S) == 0


def eventually(happened: threading.Event) -> None:
    assert happened.wait(WAIT_S), "it did not happen"


def test_a_source_that_blocks_holds_up_no_other_one_and_is_closed_when_it_comes_back() -> None:
    blocked, release, quick_reads, closed = (threading.Event() for _ in range(4))
    names: dict[str, str] = {}
    count = [0]

    def block() -> object:
        names["slow"] = threading.current_thread().name + str(threading.get_ident())
        blocked.set()
        eventually(release)
        return (1.0,)

    def quick() -> object:
        names["quick"] = threading.current_thread().name + str(threading.get_ident())
        if blocked.is_set():
            count[0] += 1
        if count[0] >= 3:
            quick_reads.set()
        return (2.0,)

    slow_source = FakeSource("slow", read=block, blocking=True)
    slow_source.close = closed.set  # type: ignore[method-assign]
    quick_source = FakeSource("quick", read=quick, period_s=0.001)
    sampler = Sampler(Inventory((slow_source, quick_source), ()))
    sampler.start()
    eventually(blocked)
    eventually(quick_reads)
    assert names["slow"] != names["quick"]
    stopping = threading.Thread(target=sampler.stop)
    stopping.start()
    release.set()
    stopping.join(WAIT_S)
    eventually(closed)
    assert quick_source.closed == 1
    read = [record for record in sampler.drain() if isinstance(record, Sampled)]
    assert {sampled.source for sampled in read} == {"slow", "quick"}


def test_stopping_does_not_wait_for_ever_and_survives_a_source_that_cannot_be_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgetop.telemetry.sampler.STOP_S", 0.0)
    blocked, release = threading.Event(), threading.Event()

    def block() -> object:
        blocked.set()
        eventually(release)
        return (1.0,)

    def refuse() -> None:
        raise OSError("gone")

    stuck, quick, other = FakeSource("stuck", read=block, blocking=True), FakeSource("quick"), FakeSource("other")
    quick.close = refuse  # type: ignore[method-assign]
    sampler = Sampler(Inventory((stuck, quick, other), ()))
    sampler.start()
    eventually(blocked)
    sampler.stop()
    assert stuck.closed == 0
    release.set()
    for thread in sampler._threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert (stuck.closed, other.closed) == (1, 1)


def test_a_sampler_that_never_started_closes_its_sources_too() -> None:
    source = FakeSource()
    Sampler(Inventory((source,), ())).stop()
    assert source.closed == 1


def test_a_machine_without_sources_has_no_threads() -> None:
    sampler = Sampler(Inventory((), ()))
    sampler.start()
    assert sampler._threads == []
    sampler.stop()


@pytest.mark.parametrize(("late_s", "told"), [(20.0, True), (1.9, False)])
def test_whoever_is_read_far_too_late_was_stopped(late_s: float, told: bool) -> None:
    run = Run(FakeSource())
    jumps = iter([late_s])

    def meanwhile() -> None:
        if run.clock.now_us >= 5 * S:
            run.clock.now_us += round(next(jumps, 0.0) * S)

    found = [each for each in run.until(60.0, meanwhile) if isinstance(each, Event)]
    assert [(each.kind, each.data) for each in found] == ([("edgetop_paused", {"late_s": late_s})] if told else [])


def test_a_machine_that_slept_was_not_stopped() -> None:
    run = Run(FakeSource())

    def meanwhile() -> None:
        run.clock.slept_us = 30 * S if run.clock.now_us >= 5 * S else 0

    assert [kind for _t_us, kind in events(run.until(20.0, meanwhile))] == ["suspended"]
