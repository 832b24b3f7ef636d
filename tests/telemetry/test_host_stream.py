"""A host's stream: its clock, its silence, its coming back, and what it must not be believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.records import Event, Record, Sampled
from edgetop.core.sources import Unavailable, meter_of
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_feed import Connection
from edgetop.telemetry.power_stream import HostSource
from edgetop.telemetry.power_text import Header, HostLine, Pong, parse_header, parse_host_line
from edgetop.telemetry.sampler import ScheduledSource
from edgetop.telemetry.source import SourceLost

HEADER = "# edgetop-power/1 kind=power unit=W scope=module update=0.1 gain=0.02 offset=0.1 lsb=0.01 host=pi2"
CLOCKED = f"{HEADER} source=power.jetson channels=power.VDD_IN clock=monotonic"
S = 1_000_000
OFFSET_S = 7200.0
"""The host's clock is behind ours by so much."""


class Line:
    """A host that answers pings 10 ms later, and says what a test lets it say."""

    name = "ssh pi2 edgetop power --stream"

    def __init__(self, header: str = CLOCKED) -> None:
        self.now_us = 10_000 * S
        self.header = header
        self.said: list[str | None] = []
        self.pings: list[str] = []
        self.starts = 0
        self.answers = True
        self.number = 0

    def clock(self) -> int:
        return self.now_us

    @property
    def there_s(self) -> float:
        """The host's clock."""
        return self.now_us / S - OFFSET_S

    def reading(self, watts: float, *, age_s: float = 0.0, number: int | None = None) -> str:
        self.number += 1
        shown = self.number if number is None else number
        return f'{{"n":{shown},"m":{self.there_s:.6f},"age":{age_s},"w":{watts}}}'

    def start(self) -> None:
        self.starts += 1
        self.said.insert(0, self.header)

    def receive(self, timeout_s: float) -> bytes | None:
        if self.said:
            line = self.said.pop(0)
            return None if line is None else f"{line}\n".encode()
        self.now_us += round(timeout_s * S)
        return b""

    def send(self, line: str) -> bool:
        self.pings.append(line)
        if self.answers:
            self.now_us += 10_000
            self.said.insert(0, f"pong {line.split()[1]} {self.there_s:.6f}")
            self.now_us += 10_000
        return self.answers

    def why_ended(self) -> str:
        return "ssh exited with status 255"

    def close(self) -> None:
        self.said.clear()


def source(line: Line, *, watts: float = 5.0) -> HostSource:
    line.said.append(line.reading(watts))
    return HostSource(Connection(line, line.clock), "pi2", Host(clock=line.clock))


def test_a_reading_is_stamped_with_when_it_was_measured_on_our_clock() -> None:
    line = Line()
    host = source(line)
    host.read_stamped()
    line.now_us += 3 * S
    measured_us = line.now_us - 400_000
    line.said.append(line.reading(6.5, age_s=0.4))
    (stamped,) = host.read_stamped()
    assert stamped.values[0] == 6.5
    half_width_s = stamped.values[1]
    assert isinstance(half_width_s, float)
    assert 0 < half_width_s < 0.011
    assert abs(stamped.t_us - measured_us) <= half_width_s * S + 1


def test_several_readings_come_at_once_and_a_sign_of_life_is_none() -> None:
    line = Line()
    host = source(line)
    host.read_stamped()
    for watts in (6.0, 7.0):
        line.now_us += 100_000
        line.said.append(line.reading(watts))
    line.now_us += 100_000
    line.said.append(f'{{"n":9,"m":{line.there_s:.6f}}}')
    assert [each.values[0] for each in host.read_stamped()] == [6.0, 7.0]
    assert host.read_stamped() == ()


def test_what_is_known_of_the_meter_comes_with_the_header() -> None:
    info = source(Line()).info
    meter = meter_of(info, info.channels[0])
    assert meter is not None
    assert (meter.host, meter.scope, meter.gain, meter.offset_w, meter.lsb) == ("pi2", "module", 0.02, 0.1, 0.01)
    assert (meter.poll_s, info.period_s) == (0.1, 0.25)
    assert [channel.name for channel in info.channels] == ["power.pi2", "clock.pi2"]
    assert meter_of(info, info.channels[1]) is None


def test_a_host_that_answers_no_pings_is_known_less_well() -> None:
    line = Line(HEADER)
    host = source(line)
    assert line.pings == []
    (stamped,) = host.read_stamped()
    assert stamped.values[1] == pytest.approx(0.125)


def test_the_reason_of_a_host_without_a_reading_now_is_passed_on() -> None:
    line = Line()
    host = source(line)
    host.read_stamped()
    line.now_us += S
    line.said.append(f'{{"n":2,"m":{line.there_s:.6f},"age":0.1,"missing":"curr1_input may not be read"}}')
    (stamped,) = host.read_stamped()
    assert stamped.values[0] == Unavailable("curr1_input may not be read")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('{"n":2,"m":1e300,"w":5}', "not a time of a clock"),
        ('{"n":2,"m":5,"age":-1,"w":5}', "an age that cannot be"),
        ('{"n":2,"m":5,"w":1e9}', "more than the 10000 W"),
        (f'{{"n":{"9" * 4000},"m":5,"w":5}}', "is not a reading"),
        ('{"n":-5,"m":5,"w":5}', "is not a reading"),
        ('{"n":2,"m":5,"age":1e308,"w":5}', "an age that cannot be"),
        ("pong 2", "answers no ping"),
        ("nan", "is not a reading"),
        ("Connection to pi2 closed.", "is not a reading"),
    ],
)
def test_a_line_that_cannot_be_is_missing_with_the_reason(said: str, reason: str) -> None:
    line = Line()
    host = source(line)
    host.read_stamped()
    line.now_us += S
    line.said.append(said)
    (stamped,) = host.read_stamped()
    assert isinstance(stamped.values[0], Unavailable)
    assert reason in stamped.values[0].reason


def test_a_reading_that_comes_twice_or_late_is_not_counted_again() -> None:
    line = Line()
    host = source(line)
    host.read_stamped()
    line.now_us += S
    line.said.append(line.reading(6.0, number=7))
    line.said.append(line.reading(60.0, number=7))
    line.said.append(line.reading(60.0, number=3))
    assert [each.values[0] for each in host.read_stamped()] == [6.0]
    line.now_us += S
    line.said.append(line.reading(60.0, age_s=600, number=8))
    (old,) = host.read_stamped()
    assert isinstance(old.values[0], Unavailable)
    assert "601 s old" in old.values[0].reason or "600 s old" in old.values[0].reason


def test_a_host_that_falls_silent_is_lost_and_comes_back_with_a_clock_of_its_own() -> None:
    line = Line()
    host = source(line)
    host.read_stamped()
    line.answers = False
    line.now_us += 3 * S
    with pytest.raises(SourceLost, match="it has said nothing for 3 s"):
        host.read_stamped()
    line.answers = True
    with pytest.raises(SourceLost, match="tried again in 1 s"):
        host.read_stamped()
    line.now_us += 2 * S
    line.number = 0
    line.said.append(line.reading(8.0))
    stamped = host.read_stamped()
    assert [each.values[0] for each in stamped] == [8.0]
    assert line.starts == 2


def test_the_end_of_the_line_is_told_after_its_last_words() -> None:
    line = Line()
    host = source(line)
    host.read_stamped()
    line.now_us += S
    line.said += [line.reading(6.0), None]
    assert [each.values[0] for each in host.read_stamped()] == [6.0]
    with pytest.raises(SourceLost, match="exited with status 255"):
        host.read_stamped()


def test_a_host_without_power_says_why() -> None:
    line = Line("# edgetop-power/1 host=pi2 absent=the counter may not be read -> sudo chmod a+r /sys/x")
    with pytest.raises(SourceLost) as lost:
        HostSource(Connection(line, line.clock), "pi2", Host(clock=line.clock))
    assert lost.value.missing == Unavailable(
        "that host has no power reading: the counter may not be read", "sudo chmod a+r /sys/x"
    )


def test_the_sampler_keeps_the_stamps_in_order_and_tells_of_the_loss_and_the_return() -> None:
    line = Line()
    followed = ScheduledSource(source(line), line.clock, cpu_clock=lambda: 0)
    records: list[Record] = [*followed.read()]
    for _ in range(8):
        line.now_us += 250_000
        line.said.append(line.reading(6.0, age_s=0.05))
        records += followed.read()
    line.answers = False
    line.now_us += 4 * S
    records += followed.read()
    line.answers = True
    line.now_us += 2 * S
    line.number = 0
    line.said.append(line.reading(8.0, age_s=3.0))  # measured before the loss was noticed
    records += followed.read()
    line.now_us += S
    line.said.append(line.reading(9.0))
    records += followed.read()
    stamps = [each.t_us for each in records if isinstance(each, Sampled)]
    assert stamps == sorted(set(stamps))
    assert [each.kind for each in records if isinstance(each, Event)] == ["sensor_lost", "sensor_back"]
    assert [each.values[0] for each in records if isinstance(each, Sampled)][-2:] == [None, 9.0]


def test_host_lines_are_read_as_they_are_written() -> None:
    header: Header = parse_header(CLOCKED)
    assert header.answers_pings
    assert parse_host_line("pong 12 5021.25", header) == Pong(12, 5021.25)
    assert parse_host_line('{"n": 2, "m": 50.5}', header) == HostLine(number=2, sent_s=50.5)
    assert parse_host_line("7.25", header) == HostLine(value=7.25)


@pytest.mark.parametrize("name", ["-oProxyCommand", "../x", "\x1b[2J", "a" * 64, "é"])
def test_a_host_cannot_have_any_name(name: str) -> None:
    with pytest.raises(SourceLost):
        parse_header(f"# edgetop-power/1 kind=power unit=W scope=wall host={name}")


NUMBERS = st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.none())


@given(
    st.one_of(
        st.text(),
        st.builds("pong {} {}".format, NUMBERS, NUMBERS),
        st.dictionaries(st.sampled_from(["n", "m", "age", "w", "j", "missing", "x"]), NUMBERS).map(json.dumps),
    )
)
def test_whatever_a_host_says_is_a_line_or_refused(said: str) -> None:
    header = parse_header(CLOCKED)
    try:
        found = parse_host_line(said, header)
    except ValueError:
        return
    assert isinstance(found, HostLine | Pong)


class EndlessLine(Line):
    """A host that always has something more to say, and never a reading."""

    def __init__(self, said: str, *, took_s: float) -> None:
        super().__init__()
        self.endless, self.took_us = said, round(took_s * S)

    def receive(self, timeout_s: float) -> bytes | None:
        self.now_us += self.took_us
        return (f"{self.said.pop(0)}\n" if self.said else self.endless).encode()


@pytest.mark.parametrize(
    ("said", "took_s", "reason"),
    [
        ("{}\n", 0.1, "gives no reading within 5 s"),
        ("pong 1 1\n" * 1000, 0.0001, "says more than 256 KiB a second"),
        ("pong 77 1\n", 0.0001, "gives no reading within 5 s"),
    ],
)
def test_a_host_that_only_shows_signs_of_life_is_not_waited_for_for_ever(said: str, took_s: float, reason: str) -> None:
    line = EndlessLine(said, took_s=took_s)
    with pytest.raises(SourceLost, match=reason):
        HostSource(Connection(line, line.clock), "pi2", Host(clock=line.clock))
    assert line.now_us < 10_010 * S
