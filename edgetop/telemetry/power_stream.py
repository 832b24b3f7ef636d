"""Sources from meter programs, streams and other hosts.

Each reading is stamped with when it was measured, on our clock, and beside it stands how far off that may be. The
machine is pinged for it, where it answers: `host_clock` says why lines alone do not tell.

One stream without a name, whose header names no host, is a meter of this machine. Any other is a host: by the name
given with it (`pi2=COMMAND`), else by the one in its header, else by its place among the streams.
"""

from __future__ import annotations

import math
import re
import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from statistics import median
from typing import Final

import msgspec

from edgetop.core.clock import US_PER_S, HostClock
from edgetop.core.energy.scopes import LOCAL
from edgetop.core.sources import CLOCK_PREFIX, Channel, SourceInfo, Unavailable
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_feed import TIMEOUT_S, Connection, Line, ProgramFeed, parse_command, parse_stream
from edgetop.telemetry.power_text import (
    HOST_NAME,
    Header,
    HostLine,
    MeterReading,
    Pong,
    describe,
    describe_host,
    parse_header,
    parse_host_line,
    parse_reading,
)
from edgetop.telemetry.source import Probe, Source, SourceLost, Stamped, UnavailableSource, Values

_EXEC_PERIOD_S = 1.0
_EXEC_CPU_SHARE = 0.05
"""Of a core, at most, for running a program that a person chose."""
_EXEC_SHARE = 1.5
"""A program is run no more often than it takes so many times as long: on a crowded machine it takes long itself."""

_RUNS_KEPT = 5
"""The pause follows the median of so many runs."""

_STREAM_PERIOD_S = (0.02, 0.5)
_ANSWER_BYTES = 65536

WallClock = Callable[[], float]
"""Unix time in seconds."""


class ExecSource:
    """A program that prints the header and one reading, and is run again for the next."""

    blocking = True

    def __init__(
        self, program: ProgramFeed, host: Host, *, timeout_s: float = TIMEOUT_S, wall_clock: WallClock = time.time
    ) -> None:
        """Take a first reading. Raises SourceLost when there is none."""
        self._program = program
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        self._clock = host.clock
        self._pauses_s: deque[float] = deque(maxlen=_RUNS_KEPT)
        lines = self._run()
        self._header = parse_header(lines[0])
        self._least_s = max(_EXEC_PERIOD_S, self._header.update_s)
        path, period_s = program.name, self.pause_s
        self.info = describe(self._header, name="power.exec", driver="exec", path=path, period_s=period_s)
        first = self._reading(lines)
        if isinstance(first, Unavailable):
            raise SourceLost(first)

    @property
    def pause_s(self) -> float:
        """How often it is run at present, by what its last runs took."""
        return max(self._least_s, median(self._pauses_s))

    def read(self) -> Values:
        """Run the program. Raises SourceLost when it fails, takes too long or says nothing."""
        return (self._reading(self._run()),)

    def close(self) -> None:
        """End the program if it runs."""
        self._program.close()

    def _reading(self, lines: list[str]) -> float | Unavailable:
        try:
            reading = parse_reading(lines[-1], self._header)
        except ValueError as error:
            return Unavailable(str(error))
        age_s = _age_s(reading, self._wall_clock())
        if age_s > stale_s(self._header):
            return Unavailable(f"the reading is {age_s:.0f} s old")
        return reading.value

    def _run(self) -> list[str]:
        deadline_s = time.monotonic() + self._timeout_s
        output = b""
        before_us, before_cpu_s = self._clock(), _children_cpu_s()
        try:
            self._program.start()
            while (chunk := self._program.receive(deadline_s - time.monotonic())) is not None:
                output += chunk
                if not chunk or len(output) > _ANSWER_BYTES:
                    said = "did not end within" if not chunk else "prints more than a reading in"
                    raise SourceLost(f"{self._program.name} {said} {self._timeout_s:g} s", "try the command in a shell")
            if self._program.wait(deadline_s - time.monotonic()) != 0:
                raise SourceLost(self._program.why_ended(), "try the command in a shell")
        finally:
            self._program.close()
        took_s, cpu_s = (self._clock() - before_us) / US_PER_S, _children_cpu_s() - before_cpu_s
        self._pauses_s.append(max(_EXEC_SHARE * took_s, cpu_s / _EXEC_CPU_SHARE))
        lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
        if not lines:
            raise SourceLost(f"{self._program.name} prints nothing", "try the command in a shell")
        return lines


def _children_cpu_s() -> float:
    """Processor time of all programs that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class StreamSource:
    """Readings that come by themselves, each with the time that it was measured at.

    That is what the line says, or else when it came. Readings closer together than the source is read are averaged;
    counters are not. Silence is silence: a reading is handed over once.
    """

    blocking = True

    def __init__(
        self, connection: Connection, host: Host, *, name: str = "power.stream", wall_clock: WallClock = time.time
    ) -> None:
        """Wait for a first reading, and before that for the header. Raises SourceLost when they do not come."""
        self._connection = connection
        self._clock = host.clock
        self._wall_clock = wall_clock
        self._header = connection.header if connection.is_open and connection.header else connection.open()
        self._restart()
        connection.gather(self._parse_until_reading)
        period_s = min(max(_STREAM_PERIOD_S[0], self._header.update_s / 2), _STREAM_PERIOD_S[1])
        self._period_us = round(period_s * US_PER_S)
        self._has_stamps = self._newest_us is not None
        driver = name.rpartition(".")[2]
        info = describe(self._header, name=name, driver=driver, path=connection.name, period_s=period_s, averaged=True)
        if self._has_stamps:
            clock = Channel(name=f"{CLOCK_PREFIX}{driver}", unit="s", digits=4, label="clock of the meter, ±")
            info = msgspec.structs.replace(info, channels=(*info.channels, clock))
        self.info = info
        self._latest: tuple[int, Values] | None = None

    def read(self) -> Values:
        """Watts or joules since the last call, or what came last. Raises SourceLost as `read_stamped` does."""
        stamped = self.read_stamped()
        if stamped:
            values = [each.values[0] for each in stamped]
            numbers = [value for value in values if not isinstance(value, Unavailable)]
            is_power = self._header.kind == "power"
            value = math.fsum(numbers) / len(numbers) if is_power and numbers else values[-1]
            self._latest = self._clock(), (value, *stamped[-1].values[1:])
        if self._latest is None:
            return (Unavailable("nothing has come since the last reading"),) * len(self.info.channels)
        return self._latest[1]

    def read_stamped(self) -> Sequence[Stamped]:
        """See StampedSource. Raises SourceLost when the stream ended or fell silent; it is then started again later."""
        connection = self._connection
        if connection.is_open:
            self._parse(connection.receive())
        else:
            connection.reopen()
            self._restart()
            connection.gather(self._parse_until_reading)
        rejected, connection.rejected = connection.rejected, ""
        stamped = self._hand_over()
        if stamped:
            return stamped
        if rejected:
            return [self._stamped(self._clock(), Unavailable(rejected))]
        silent_s = (self._clock() - self._came_us) / US_PER_S
        if silent_s > stale_s(self._header):
            connection.stop(Unavailable(f"{connection.name} has said nothing for {silent_s:.0f} s", "check the meter"))
        if not connection.is_open:
            raise SourceLost(connection.ended)
        return ()

    def close(self) -> None:
        """End the program or the connection."""
        self._connection.close()

    def _restart(self) -> None:
        """Forget all of a stream before it begins, anew or for the first time."""
        self._waiting: list[tuple[int, float]] = []
        """Readings that were not handed over yet, with their times."""
        self._handed_us = 0
        self._came_us = self._clock()
        self._newest_us: int | None = None
        """The latest time that a line stated, on the meter's clock."""
        self._disorder_us = 0
        """By how much a line was seen to come after a later one."""
        self._meter_clock: HostClock | None = None
        """The meter's clock, once it was seen not to show the time of this machine."""
        self._is_set_back = False
        """Whether the last line was far older than the one before: a second such line says that the clock was set."""

    def _parse_until_reading(self, lines: list[Line]) -> bool:
        """Whether there is a reading among them, with them taken."""
        self._parse(lines)
        return bool(self._waiting)

    def _parse(self, lines: list[Line]) -> None:
        unstamped: list[tuple[int, float]] = []
        for line in lines:
            try:
                reading = parse_reading(line.text, self._header)
                if reading.unix_s is None:
                    unstamped.append((line.t_us, reading.value))
                else:
                    self._waiting.append((self._local_us(round(reading.unix_s * US_PER_S), line.t_us), reading.value))
            except ValueError as error:
                self._connection.rejected = str(error)
                continue
            self._came_us = line.t_us
        self._waiting += spread(unstamped, round(self._header.update_s * US_PER_S), self._handed_us)

    def _local_us(self, stated_us: int, came_us: int) -> int:
        """When a reading was measured, on edgetop's clock. Raises ValueError when it is too old to be of use."""
        behind_us = 0 if self._newest_us is None else self._newest_us - stated_us
        if behind_us <= 0:
            self._newest_us = stated_us
        elif behind_us <= stale_s(self._header) * US_PER_S:
            self._disorder_us = max(self._disorder_us, behind_us)
        elif self._is_set_back:
            self._meter_clock, self._newest_us = HostClock(), stated_us
        self._is_set_back = behind_us > stale_s(self._header) * US_PER_S and self._newest_us != stated_us
        if self._is_set_back:
            raise ValueError(f"the reading is {behind_us / US_PER_S:.0f} s older than the one before")
        offset_us = self._clock() - round(self._wall_clock() * US_PER_S)
        if self._meter_clock is None and stated_us + offset_us > came_us + AHEAD_US:
            # It was not measured after it came: the meter's clock is ahead.
            self._meter_clock = HostClock()
        if self._meter_clock is not None:
            self._meter_clock.arrived(stated_us, came_us)
            return min(came_us, self._meter_clock.local_us(stated_us))
        late_s = (came_us - stated_us - offset_us) / US_PER_S
        if late_s > max(LATE_AT_MOST_S, stale_s(self._header)):
            raise ValueError(f"the reading is {late_s:.0f} s old")
        return min(came_us, stated_us + offset_us)

    def _hand_over(self) -> list[Stamped]:
        """What is known to be in order, averaged over the time between two calls."""
        self._waiting.sort()
        disorder_us = self._disorder_us if len(self._waiting) < WAITING_MOST else 0
        until_us = self._waiting[-1][0] - disorder_us if self._waiting else 0
        ready = [each for each in self._waiting if self._handed_us < each[0] <= until_us]
        self._waiting = [each for each in self._waiting if each[0] > until_us]
        stamped: list[Stamped] = []
        while ready:
            end_us = ready[0][0] + self._period_us
            together = [value for t_us, value in ready if t_us < end_us]
            self._handed_us = ready[len(together) - 1][0]
            mean = math.fsum(together) / len(together)
            stamped.append(self._stamped(self._handed_us, mean if self._header.kind == "power" else together[-1]))
            del ready[: len(together)]
        return stamped

    def _stamped(self, t_us: int, value: float | Unavailable) -> Stamped:
        if not self._has_stamps:
            return Stamped(t_us, (value,))
        error_s = STAMP_ERROR_S if self._meter_clock is None else self._meter_clock.half_width_s
        return Stamped(t_us, (value, value if isinstance(value, Unavailable) else error_s))


WAITING_MOST = 100_000
"""More readings than this are not kept waiting for such as come late."""

AHEAD_US = 50_000
"""A clock that agrees with this machine's may still seem ahead by so much."""

STAMP_ERROR_S = 0.01
"""How far clocks that are kept by the network differ (judgement; on one machine not at all)."""

LATE_AT_MOST_S = 30.0
"""A stamped reading that comes later than this is rejected: the meter's clock is more likely wrong."""


def spread(readings: Sequence[tuple[int, float]], update_us: int, after_us: int) -> list[tuple[int, float]]:
    """Readings without stamps, with the times at which they were measured.

    Of several that came together, all but the last one were measured before, one an update, and after `after_us`.
    """
    found: list[tuple[int, float]] = []
    for came_us, together in groupby(readings, key=lambda reading: reading[0]):
        values = [value for _, value in together]
        step_us = min(update_us, max(0, came_us - after_us) // len(values))
        found += [(came_us - step_us * (len(values) - 1 - i), value) for i, value in enumerate(values)]
        after_us = came_us
    return found


def _age_s(reading: MeterReading, now_unix_s: float) -> float:
    """Seconds since it was measured; one that claims to come from the future was measured when it was received."""
    return 0.0 if reading.unix_s is None else max(0.0, now_unix_s - reading.unix_s)


def stale_s(header: Header) -> float:
    """For how long a reading stands for what comes after it."""
    return max(5 * header.update_s, 2.0)


def exec_source(command: str, host: Host) -> ExecSource:
    """The meter that `command` is when run again and again.

    Raises ValueError when it is not a command, SourceLost when it gives no plausible reading.
    """
    return ExecSource(parse_command(command), host)


PERIOD_S: Final = (0.25, 0.5)
"""Readings are handed over this often at most and at least; they are stamped, so that nothing is lost by waiting."""

PING_S = 2.0
"""In between the clocks drift apart by a fifth of a millisecond at most."""

FIRST_PINGS = 5
"""So many follow each other at once: the quickest one counts."""

PINGS_KEPT = 8
"""An answer to an older one is not understood any more."""

PONG_S = 0.3
FIRST_PONG_S = 1.0
SILENT = "it has said nothing for {:.0f} s"


class HostSource:
    """The power of one host, whose readings come several at once. It is started again when it ends or falls silent."""

    blocking = True

    def __init__(self, connection: Connection, name: str, host: Host) -> None:
        """Wait for a first reading, and before that for the header. Raises SourceLost when they do not come."""
        self._connection = connection
        self._clock = host.clock
        self._header: Header = connection.header if connection.is_open and connection.header else connection.open()
        self._host_clock = HostClock()
        self._asked: dict[int, int] = {}
        """When each ping left that is not answered yet."""
        self._pings = 0
        self._ping_due_us = 0
        self._last_line_us = self._stamped_us = 0
        self._number: int | None = None
        self.info: SourceInfo = describe_host(
            self._header,
            host=name,
            path=connection.name,
            period_s=min(max(PERIOD_S[0], self._header.update_s), PERIOD_S[1]),
        )
        self._waiting = self._begin()
        """What came before it was first read."""

    def read(self) -> Values:
        """See Source: the latest reading."""
        stamped = self.read_stamped()
        return stamped[-1].values if stamped else (Unavailable("nothing has come since the last reading"),) * 2

    def read_stamped(self) -> Sequence[Stamped]:
        """See StampedSource. Raises SourceLost when the stream ended or fell silent."""
        connection = self._connection
        if not connection.is_open:
            connection.reopen()
            self._waiting = self._begin()
        lines = connection.receive()
        if connection.is_open and self._header.answers_pings and self._clock() >= self._ping_due_us:
            lines += self._ping(PONG_S)
        waiting, self._waiting = self._waiting, []
        stamped = [*waiting, *self._parsed(lines)]
        if stamped:
            return stamped
        silent_s = (self._clock() - self._last_line_us) / US_PER_S
        if connection.is_open and silent_s > stale_s(self._header):
            connection.stop(Unavailable(SILENT.format(silent_s)))
        if not connection.is_open:
            raise SourceLost(connection.ended)
        return ()

    def close(self) -> None:
        """End the program or the connection."""
        self._connection.close()

    def _begin(self) -> list[Stamped]:
        """From the header to the first reading; a stream that began anew may be that of a machine started anew."""
        self._host_clock = HostClock()
        self._asked.clear()
        self._number = None
        self._pings = 0
        self._last_line_us = self._clock()
        pinged = self._header.answers_pings
        lines = self._ping(FIRST_PONG_S) if pinged else []
        found = self._parsed(lines)

        def is_reading(lines: Sequence[Line]) -> bool:
            found.extend(self._parsed(lines))
            return bool(found)

        if not found:
            self._connection.gather(is_reading)
        if not found:
            raise SourceLost(self._connection.ended)
        return found

    def _ping(self, timeout_s: float) -> list[Line]:
        """Ask for the time there, and give what comes until the answer."""
        self._pings += 1
        number = self._pings
        now_us = self._clock()
        self._ping_due_us = now_us + (0 if number < FIRST_PINGS else round(PING_S * US_PER_S))
        self._asked[number] = now_us
        self._asked.pop(number - PINGS_KEPT, None)
        if not self._connection.send(f"ping {number}\n"):
            return []
        answer = f"pong {number} "
        return self._connection.gather(lambda lines: any(line.text.startswith(answer) for line in lines), timeout_s)

    def _parsed(self, lines: Sequence[Line]) -> list[Stamped]:
        """The readings among the lines; first all that say something of the clock."""
        parsed: list[tuple[HostLine, Line]] = []
        rejected = self._connection.rejected
        self._connection.rejected = ""
        for line in lines:
            self._last_line_us = line.t_us
            try:
                found = parse_host_line(line.text, self._header)
            except ValueError as error:
                rejected = str(error)
                continue
            if isinstance(found, Pong):
                asked_us = self._asked.pop(found.number, None)
                if asked_us is not None:
                    self._host_clock.answered(asked_us, round(found.told_s * US_PER_S), line.t_us)
                continue
            if found.number is not None and self._number is not None and found.number <= self._number:
                rejected = f"reading {found.number} came after reading {self._number}"
                continue
            self._number = found.number
            if found.sent_s is not None:
                self._host_clock.arrived(round(found.sent_s * US_PER_S), line.t_us)
            parsed.append((found, line))
        stamped = [each for found, line in parsed for each in self._stamped(found, line)]
        if rejected and not stamped:
            stamped = self._at(self._clock(), Unavailable(rejected))
        return stamped

    def _stamped(self, found: HostLine, line: Line) -> list[Stamped]:
        """One line's reading; none of a sign of life."""
        if found.sent_s is None:
            # Without its clock a reading is taken to be as old as a line can be.
            self._host_clock.arrived(line.t_us, line.t_us)
            measured_us = self._host_clock.local_us(line.t_us)
        else:
            measured_us = self._host_clock.local_us(round((found.sent_s - found.age_s) * US_PER_S))
        if found.missing:
            return self._at(measured_us, Unavailable(found.missing))
        if found.value is None:
            return []
        age_s = (line.t_us - measured_us) / US_PER_S
        if age_s > stale_s(self._header):
            return self._at(line.t_us, Unavailable(f"the reading was {age_s:.0f} s old when it came"))
        return self._at(measured_us, found.value)

    def _at(self, t_us: int, value: float | Unavailable) -> list[Stamped]:
        if t_us <= self._stamped_us:
            return []
        self._stamped_us = t_us
        half_width_s = value if isinstance(value, Unavailable) else self._host_clock.half_width_s
        return [Stamped(t_us, (value, half_width_s))]


HOST_TIMEOUT_S = 20.0
"""A login over a slow line, and Python on a small board, take their time."""

_NAMED = re.compile(rf"({HOST_NAME.pattern})=(.*\S.*)", re.ASCII | re.DOTALL)


def probe_of(streams: Sequence[str]) -> Probe:
    """A probe that starts all streams at once, since each may take seconds, and gives them in their order."""

    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        opened: list[Source | UnavailableSource | None] = [None] * len(streams)

        def open_one(place: int) -> None:
            opened[place] = _opened(streams[place], place + 1, len(streams), host)

        # Daemons, unlike those of a pool: the program ends while a meter keeps them waiting.
        threads = [threading.Thread(target=open_one, args=(place,), daemon=True) for place in range(len(streams))]
        for thread in threads:
            thread.start()
        taken: set[str] = set()
        for place, thread in enumerate(threads):
            thread.join()
            found = opened[place]
            if found is None:
                continue
            name = found.name if isinstance(found, UnavailableSource) else found.info.name
            if name in taken:
                if not isinstance(found, UnavailableSource):
                    found.close()
                found = UnavailableSource(
                    name=name,
                    missing=Unavailable("two streams have its name", "give names: --power-stream NAME=COMMAND"),
                )
            taken.add(name)
            yield found

    return probe


def _opened(text: str, place: int, count: int, host: Host) -> Source | UnavailableSource:
    named = _NAMED.fullmatch(text)
    name = named[1] if named is not None else ""
    is_host = bool(name) or count > 1
    if name == LOCAL:
        missing = Unavailable(f"{LOCAL!r} is this machine", "give the host another name")
        return UnavailableSource(name=f"power.host.host-{place}", missing=missing)
    try:
        feed = parse_stream(text if named is None else named[2])
        connection = Connection(feed, host.clock, timeout_s=HOST_TIMEOUT_S if is_host or _is_ssh(text) else TIMEOUT_S)
        header = connection.open()
        if is_host or header.host:
            return HostSource(connection, name or header.host or f"host-{place}", host)
        return StreamSource(connection, host)
    except (SourceLost, ValueError) as error:
        missing = error.missing if isinstance(error, SourceLost) else Unavailable(str(error))
        return UnavailableSource(
            name=f"power.host.{name or f'host-{place}'}" if is_host else "power.stream", missing=missing
        )


def _is_ssh(text: str) -> bool:
    return text.split(maxsplit=1)[0].rpartition("/")[2] == "ssh" if text.strip() else False
