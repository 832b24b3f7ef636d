"""Meters that the user brings along: a program run for every reading, or a stream of readings. See `power_text`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from edgetop.core.clock import US_PER_S
from edgetop.core.records import Missing
from edgetop.telemetry.power_feed import Feed, ProgramFeed, parse_command, parse_stream
from edgetop.telemetry.power_text import Header, Reading, describe, parse_header, parse_reading
from edgetop.telemetry.source import Host, SourceLost, Values

TIMEOUT_S = 5.0
"""A program must answer, and a stream begin, within this time."""
_EXEC_PERIOD_S = 1.0
_EXEC_SHARE = 3.0
"""A program is run no more often than it takes three times as long; the sampler drops what takes half a period."""
_STREAM_PERIOD_S = (0.02, 0.5)
_LINE_BYTES = 4096
_ANSWER_BYTES = 65536
_CHUNKS = 16
"""A stream that says more than this many chunks at once is heard out at the next reading."""
_RESTART_S = (1.0, 60.0)
"""A stream that ended is started again after the one, then after twice as long each time up to the other."""
_STEADY_S = 60.0
"""One that ran for so long may be started again at once."""

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
        before_us = host.clock()
        lines = self._run()
        took_s = (host.clock() - before_us) / US_PER_S
        self._header = parse_header(lines[0])
        period_s = max(_EXEC_PERIOD_S, self._header.update_s, _EXEC_SHARE * took_s)
        self.info = describe(self._header, name="power.exec", driver="exec", path=program.name, period_s=period_s)
        first = self._reading(lines)
        if isinstance(first, Missing):
            raise SourceLost(first.reason, first.mend)

    def read(self) -> Values:
        """Run the program. Raises SourceLost when it fails, takes too long or says nothing."""
        return (self._reading(self._run()),)

    def close(self) -> None:
        """End the program if it runs."""
        self._program.close()

    def _reading(self, lines: list[str]) -> float | Missing:
        try:
            reading = parse_reading(lines[-1], self._header)
        except ValueError as error:
            return Missing(str(error))
        age_s = _age_s(reading, self._wall_clock())
        if age_s > _stale_s(self._header):
            return Missing(f"the reading is {age_s:.0f} s old")
        return reading.value

    def _run(self) -> list[str]:
        deadline_s = time.monotonic() + self._timeout_s
        output = b""
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
        lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
        if not lines:
            raise SourceLost(f"{self._program.name} prints nothing", "try the command in a shell")
        return lines


class StreamSource:
    """Readings that come by themselves. Those that came since the last one asked for are averaged, counters are not."""

    blocking = True

    def __init__(
        self, feed: Feed, host: Host, *, timeout_s: float = TIMEOUT_S, wall_clock: WallClock = time.time
    ) -> None:
        """Start the stream and wait for its header and a first reading. Raises SourceLost when they do not come."""
        self._feed = feed
        self._clock = host.clock
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        self._unfinished = b""
        self._readings: list[Reading] = []
        self._rejected = ""
        self._last, self._last_us = 0.0, 0
        self._running = False
        self._ended = Missing("")
        self._started_us = self._restart_us = 0
        self._restart_s = _RESTART_S[0]
        self._header = self._start()
        self.info = describe(
            self._header,
            name="power.stream",
            driver="stream",
            path=feed.name,
            period_s=min(max(_STREAM_PERIOD_S[0], self._header.update_s / 2), _STREAM_PERIOD_S[1]),
        )

    def read(self) -> Values:
        """Watts or joules. Raises SourceLost when the stream ended or fell silent; it is then started again later."""
        if self._running:
            self._receive_all()
        else:
            self._restart()
        readings, rejected = self._readings, self._rejected
        self._readings, self._rejected = [], ""
        if readings:
            mean = math.fsum(reading.value for reading in readings) / len(readings)
            self._last = mean if self._header.kind == "power" else readings[-1].value
            self._last_us = self._clock() - round(_age_s(readings[-1], self._wall_clock()) * US_PER_S)
            return (self._last,)
        if rejected:
            return (Missing(rejected),)
        silent_s = (self._clock() - self._last_us) / US_PER_S
        if silent_s > _stale_s(self._header):
            self._stop(Missing(f"{self._feed.name} has said nothing for {silent_s:.0f} s", "check the meter"))
        if not self._running:
            raise SourceLost(self._ended.reason, self._ended.mend)
        return (self._last,)

    def close(self) -> None:
        """End the program or the connection."""
        self._running = False
        self._feed.close()

    def _start(self) -> Header:
        """Start the stream; afterwards there is a reading."""
        self._started_us = self._clock()
        self._unfinished = b""
        self._readings = []
        lines: list[str] = []
        deadline_s = time.monotonic() + self._timeout_s
        try:
            self._feed.start()
            while not lines:
                lines = self._lines(self._next_chunk(deadline_s))
            header = parse_header(lines[0])
            self._take(lines[1:], header)
            while not self._readings:
                self._take(self._lines(self._next_chunk(deadline_s)), header)
        except SourceLost as lost:
            self._stop(lost.missing)
            raise
        self._running = True
        return header

    def _restart(self) -> None:
        wait_us = self._restart_us - self._clock()
        if wait_us > 0:
            raise SourceLost(f"{self._ended.reason}; tried again in {wait_us / US_PER_S:.0f} s", self._ended.mend)
        if self._start() != self._header:
            self._stop(Missing(f"{self._feed.name} measures something else than before", "start edgetop again"))
            raise SourceLost(self._ended.reason, self._ended.mend)

    def _stop(self, why: Missing) -> None:
        self._running = False
        self._feed.close()
        self._ended = why
        now_us = self._clock()
        if now_us - self._started_us > _STEADY_S * US_PER_S:
            self._restart_s = _RESTART_S[0]
        self._restart_us = now_us + round(self._restart_s * US_PER_S)
        self._restart_s = min(2 * self._restart_s, _RESTART_S[1])

    def _receive_all(self) -> None:
        for _ in range(_CHUNKS):
            chunk = self._feed.receive(0.0)
            if chunk is None:
                self._stop(Missing(self._feed.why_ended()))
                return
            if not chunk:
                return
            self._take(self._lines(chunk), self._header)

    def _next_chunk(self, deadline_s: float) -> bytes:
        chunk = self._feed.receive(deadline_s - time.monotonic())
        if chunk is None:
            raise SourceLost(self._feed.why_ended(), "try it in a shell")
        if not chunk:
            missing = f", but {self._rejected}" if self._rejected else ""
            raise SourceLost(f"{self._feed.name} gives no reading within {self._timeout_s:g} s{missing}")
        return chunk

    def _lines(self, chunk: bytes) -> list[str]:
        """The lines that `chunk` completes, blank ones left out."""
        *complete, self._unfinished = (self._unfinished + chunk).split(b"\n")
        if len(self._unfinished) > _LINE_BYTES:
            self._unfinished = b""
            self._rejected = f"a line is longer than {_LINE_BYTES} bytes"
        return [line.decode("utf-8", "replace").rstrip() for line in complete if line.strip()]

    def _take(self, lines: list[str], header: Header) -> None:
        for line in lines:
            try:
                reading = parse_reading(line, header)
            except ValueError as error:
                self._rejected = str(error)
                continue
            age_s = _age_s(reading, self._wall_clock())
            if age_s > _stale_s(header):
                self._rejected = f"the reading is {age_s:.0f} s old"
            else:
                self._readings.append(reading)


def _age_s(reading: Reading, now_unix_s: float) -> float:
    """Seconds since it was measured; one that claims to come from the future was measured when it was received."""
    return 0.0 if reading.unix_s is None else max(0.0, now_unix_s - reading.unix_s)


def _stale_s(header: Header) -> float:
    """For how long a reading stands for what comes after it."""
    return max(5 * header.update_s, 2.0)


def exec_source(command: str, host: Host) -> ExecSource:
    """The meter that `command` is when run again and again.

    Raises ValueError when it is not a command, SourceLost when it gives no plausible reading.
    """
    return ExecSource(parse_command(command), host)


def stream_source(text: str, host: Host) -> StreamSource:
    """The meter that speaks at `tcp:HOST:PORT` or `unix:PATH`, or is a command that goes on printing.

    Raises ValueError when `text` is none of these, SourceLost when there comes no plausible reading.
    """
    return StreamSource(parse_stream(text), host)
